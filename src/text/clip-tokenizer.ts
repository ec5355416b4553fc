// CLIP's tokenizer: a prompt becomes the fixed-length row of ids its text encoder was trained on, BOS … EOS and padding.
// The text is cleaned up (`prompt-words.ts`) as the reference's `CLIPTokenizer` does it, which diffusers pipelines use,
// whichever kind of folder the tokenizer came in; the pieces of its words are `byte-pairs.ts`.
//
// Not here: weights, textual inversion, prompts longer than the context (`prompt-syntax.ts`, `embeddings.ts`, `chunks.ts`).

import type { ModelFiles } from "../platform/model-files.ts";
import { BytePairs } from "./byte-pairs.ts";
import { promptWords } from "./prompt-words.ts";
import type { PromptWord, Tokenizer } from "./tokenizer.ts";
import {
  type ClipTokenizerFiles,
  type EncoderTable,
  readClipTokenizerFiles,
  type SpecialToken,
} from "./tokenizer-files.ts";

/** CLIP's, whose rows are padded to a fixed length. */
export interface ClipTokenizer extends Tokenizer {
  readonly bos: number;
  readonly eos: number;
  readonly pad: number;
  /** Ids of a text, without begin, end and padding. */
  tokens(text: string): number[];
  /** One more than the largest id that a prompt can have. */
  readonly size: number;
  /** Tokens that its files list and no prompt can have: without an id, or beyond the text encoder's table. */
  readonly unusable: readonly string[];
}

/**
 * Loads the tokenizer in `folder`: `vocab.json` with `merges.txt`, or `tokenizer.json`; special tokens and length from
 * `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` where present.
 * @param encoder the text encoder that reads the tokens
 * @throws TokenizerError naming the file that is missing or wrong.
 */
export async function loadClipTokenizer(folder: ModelFiles | string, encoder?: EncoderTable): Promise<ClipTokenizer> {
  return createClipTokenizer(await readClipTokenizerFiles(folder, encoder));
}

/** The tokenizer of files already read. */
export function createClipTokenizer(files: ClipTokenizerFiles): ClipTokenizer {
  const { bos, eos, pad, modelMaxLength } = files;
  const bytePairs = new BytePairs(files);
  const split = specialTokenSplitter(files.specialTokens);
  const unknownId = (files.specialTokens.find(({ content }) => content === files.unknown) as SpecialToken).id;
  const idOf = (piece: string): number =>
    Object.hasOwn(files.vocab, piece) ? (files.vocab[piece] as number) : unknownId;
  /** Id and text of each piece; those outside the vocabulary are the unknown token. */
  const pieceIds = bytePairs.texts.map((text) => (Object.hasOwn(files.vocab, text) ? idOf(text) : idOf(files.unknown)));
  const pieceTexts = bytePairs.texts.map((text) =>
    Object.hasOwn(files.vocab, text) ? text.replace(/<\/w>$/, "") : files.unknown,
  );
  // Spelled in capitals a special token reaches the words; there it stays whole.
  const wholeWords = new Set(["<|startoftext|>", "<|endoftext|>"]);

  const words = (text: string): PromptWord[] =>
    split(text)
      .flatMap((part) => (typeof part === "string" ? promptWords(part) : []))
      .filter((word) => /^\p{L}+$/u.test(word))
      .map((word) => {
        const pieces: number[] = [];
        bytePairs.encode(word, pieces);
        return { word, pieces: pieces.map((piece) => pieceTexts[piece]!) };
      });
  const tokensOf = (text: string): number[] => {
    const tokens: number[] = [];
    for (const part of split(text)) {
      if (typeof part !== "string") {
        tokens.push(part.id);
        continue;
      }
      for (const word of promptWords(part)) {
        const first = tokens.length;
        if (wholeWords.has(word)) {
          tokens.push(idOf(word));
          continue;
        }
        bytePairs.encode(word, tokens);
        for (let i = first; i < tokens.length; i++) tokens[i] = pieceIds[tokens[i]!]!;
      }
    }
    return tokens;
  };

  const ids = [...Object.values(files.vocab), ...files.specialTokens.map(({ id }) => id)];
  return {
    modelMaxLength,
    bos,
    eos,
    pad,
    size: ids.reduce((most, id) => Math.max(most, id + 1), 0),
    unusable: files.unusable,
    words,
    tokens: tokensOf,
    encode(text) {
      const tokens = tokensOf(text);
      const kept = tokens.slice(0, modelMaxLength - 2);
      const ids = new Int32Array(modelMaxLength).fill(pad);
      ids.set([bos, ...kept, eos]);
      return { ids, tokenCount: tokens.length + 2, truncated: kept.length < tokens.length };
    },
  };
}

/** Cuts a text at its special tokens, the longest first where several begin at one place. */
function specialTokenSplitter(tokens: readonly SpecialToken[]): (text: string) => (string | SpecialToken)[] {
  const byContent = new Map(tokens.map((token) => [token.content, token]));
  const longestFirst = [...byContent.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(`(${longestFirst.map(escapeRegExp).join("|")})`);
  return (text) => {
    // Texts at even places, perhaps empty; the tokens between them at odd ones.
    const texts = text.split(pattern);
    const parts: (string | SpecialToken)[] = [...texts];
    for (let i = 1; i < texts.length; i += 2) {
      const token = byContent.get(texts[i] as string) as SpecialToken;
      const left = texts[i - 1] as string;
      const right = texts[i + 1] as string;
      parts[i] = token;
      if (token.rstrip) texts[i + 1] = right.trimStart();
      if (token.lstrip) texts[i - 1] = left.trimEnd();
      if (token.singleWord && left !== "" && !left.endsWith(" ")) {
        texts[i - 1] += token.content;
        parts[i] = "";
      } else if (token.singleWord && right !== "" && !right.startsWith(" ")) {
        texts[i + 1] = token.content + texts[i + 1];
        parts[i] = "";
      }
    }
    return parts.map((part, i) => (i % 2 === 0 ? (texts[i] as string) : part));
  };
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}
