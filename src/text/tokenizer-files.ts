// Reads a tokenizer folder of a diffusers model into plain data: either `vocab.json` and `merges.txt`, or one
// `tokenizer.json` that holds the same; then the special tokens from `tokenizer_config.json` and
// `special_tokens_map.json`. Everything is checked: a model folder is untrusted. `clip-tokenizer.ts` interprets the
// data.

import { foreignKind } from "../platform/file-kind.ts";
import { filesOf } from "../platform/folder-files.ts";
import { FileError, fileAt, type ModelFiles, readFile, textOf } from "../platform/model-files.ts";
import { quoted } from "../platform/quoted.ts";
import { TokenizerError } from "./tokenizer-error.ts";

/** A token that is looked for in the raw text before anything else is done to it. */
export interface SpecialToken {
  readonly content: string;
  readonly id: number;
  /** Swallows white space to its left or right. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** Counts only between spaces. */
  readonly singleWord: boolean;
}

/** The files of a tokenizer, read. */
export interface ClipTokenizerFiles {
  /** Piece to id; the last piece of a word ends in `</w>`. */
  readonly vocab: Readonly<Record<string, number>>;
  /** Pairs of pieces to join, most urgent first. */
  readonly merges: readonly (readonly [string, string])[];
  readonly specialTokens: readonly SpecialToken[];
  readonly bos: number;
  readonly eos: number;
  readonly pad: number;
  /** Content of the token that stands for pieces not in the vocabulary. */
  readonly unknown: string;
  /** Length of every encoded prompt, in tokens. */
  readonly modelMaxLength: number;
  /** Tokens that the files list and no prompt can have: without an id, or beyond the text encoder's table. */
  readonly unusable: readonly string[];
}

/** Facts of the text encoder that reads the tokens. */
export interface EncoderTable {
  /** Rows of its table of tokens. */
  readonly rows: number;
  /** The longest row of tokens that it reads. */
  readonly positions: number;
}

/** CLIP's own context length, for folders that name none. */
const CLIP_CONTEXT = 77;
/** Text encoders of this kind read 77 to 248 tokens. Each prompt becomes a row of this length. */
const LONGEST_CONTEXT = 65_536;
/** From here on `model_max_length` is the placeholder that the reference writes for "not set" (10³⁰). */
const UNSET_CONTEXT = 1_000_000;
/** As many tokens as an embedding table may have rows (`size.vocabulary` of the models). */
const LARGEST_ID = 4_000_000 - 1;
/** The largest vocabularies of any model are made of some 300,000. */
const MOST_FAST_MERGES = 1_000_000;
/** Prompts are searched for each of them. CLIP has two; textual inversion adds some at a time. */
const MOST_SPECIAL_TOKENS = 1000;
const LONGEST_SPECIAL_TOKEN = 200;
/** The reference reads no more merges than CLIP's vocabulary of 49,152 has room for: 256 bytes and 2 special tokens off. */
const MOST_MERGES = 49152 - 256 - 2;
/** More than any vocabulary file; nothing larger is read. */
const LARGEST_FILE = 64 * 1024 * 1024;

const DEFAULT_BOS = "<|startoftext|>";
const DEFAULT_EOS = "<|endoftext|>";

type Json = Readonly<Record<string, unknown>>;

/**
 * Reads the tokenizer in `folder`.
 * @throws TokenizerError naming the file that is missing or wrong.
 */
export async function readClipTokenizerFiles(
  folder: ModelFiles | string,
  encoder?: EncoderTable,
): Promise<ClipTokenizerFiles> {
  const files = filesOf(folder);
  const [vocabText, mergesText, fastText] = await Promise.all(
    ["vocab.json", "merges.txt", "tokenizer.json"].map((file) => readOptional(files, file)),
  );
  const optional = async (file: string) => {
    const text = await readOptional(files, file);
    return text === undefined ? {} : parseObject(file, text);
  };
  const [config, map, taught] = await Promise.all([
    optional("tokenizer_config.json"),
    optional("special_tokens_map.json"),
    optional("added_tokens.json"),
  ]);
  const named: NamedTokens = { config, map, taught, encoder };

  if (vocabText !== undefined && mergesText !== undefined) {
    const vocab = checkVocab("vocab.json", parseObject("vocab.json", vocabText));
    return { vocab, merges: parseMerges(mergesText), ...specials("vocab.json", vocab, [], named) };
  }
  if (fastText !== undefined) return fromTokenizerJson(parseObject("tokenizer.json", fastText), named);
  const missing = vocabText !== undefined ? "merges.txt" : "vocab.json";
  throw new TokenizerError(missing, "is missing, and there is no tokenizer.json in its place");
}

/** The files that name special tokens; empty for those that are missing. */
interface NamedTokens {
  readonly config: Json;
  readonly map: Json;
  /** `added_tokens.json`, in which older transformers keep the tokens that a model was taught: content to id. */
  readonly taught: Json;
  readonly encoder: EncoderTable | undefined;
}

async function readOptional(files: ModelFiles, file: string): Promise<string | undefined> {
  let content: Uint8Array;
  try {
    content = await readFile(fileAt(files, file), LARGEST_FILE);
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    if (error.code === "absent") return undefined;
    throw new TokenizerError(file, error.message, { cause: error });
  }
  const foreign = foreignKind(content);
  if (foreign !== undefined && foreign.kind !== "text") throw new TokenizerError(file, foreign.reason);
  return textOf(content);
}

function parseObject(file: string, text: string): Json {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new TokenizerError(file, "is not valid JSON", { cause: error });
  }
  return asObject(parsed) ?? fail(file, "must hold a JSON object");
}

function asObject(value: unknown): Json | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

function fail(file: string, reason: string): never {
  throw new TokenizerError(file, reason);
}

function isId(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= LARGEST_ID;
}

function checkVocab(file: string, vocab: Json): Record<string, number> {
  const seen = new Set<number>();
  for (const [piece, id] of Object.entries(vocab)) {
    if (!isId(id)) fail(file, `the id of ${quoted(piece)} must be an integer from 0 to ${LARGEST_ID}`);
    if (seen.has(id)) fail(file, `the id ${id} is given to two pieces`);
    seen.add(id);
  }
  if (seen.size === 0) fail(file, "holds no pieces");
  return vocab as Record<string, number>;
}

/** `merges.txt`: a version line, which is skipped whatever it says, then a pair a line. */
function parseMerges(text: string): [string, string][] {
  const lines = text
    .trim()
    .split(/\r?\n/)
    .slice(1, MOST_MERGES + 1);
  return lines
    .map((line, index) => ({ pair: line.trim().split(/\s+/), number: index + 2 }))
    .filter(({ pair }) => pair[0] !== "")
    .map(({ pair, number }) =>
      pair.length === 2 ? (pair as [string, string]) : fail("merges.txt", `line ${number} must hold two pieces`),
    );
}

/**
 * `tokenizer.json` of the Rust tokenizers library. Its byte-pair model and added tokens are used; its text clean-up is
 * not, so that a prompt gives the same ids from either kind of folder.
 */
function fromTokenizerJson(json: Json, named: NamedTokens): ClipTokenizerFiles {
  const file = "tokenizer.json";
  const model = asObject(json.model) ?? fail(file, "model is missing");
  if (model.type !== "BPE") fail(file, `model.type ${quoted(String(model.type))} is not supported; BPE is`);
  if (model.end_of_word_suffix !== "</w>") fail(file, "model.end_of_word_suffix must be </w>, as CLIP's is");
  const vocab = checkVocab(file, asObject(model.vocab) ?? fail(file, "model.vocab is missing"));
  if (!Array.isArray(model.merges)) fail(file, "model.merges is missing");
  if (model.merges.length > MOST_FAST_MERGES) fail(file, `model.merges has more than ${MOST_FAST_MERGES} entries`);
  const merges = (model.merges as unknown[]).map((entry, index): [string, string] => {
    const pair = typeof entry === "string" ? entry.split(" ") : entry;
    const valid = Array.isArray(pair) && pair.length === 2 && pair.every((piece) => typeof piece === "string");
    return valid ? (pair as [string, string]) : fail(file, `model.merges[${index}] must hold two pieces`);
  });
  const added = Array.isArray(json.added_tokens) ? json.added_tokens : [];
  return { vocab, merges, ...specials(file, vocab, added, named) };
}

type Specials = Omit<ClipTokenizerFiles, "vocab" | "merges">;

function specials(
  vocabFile: string,
  vocab: Readonly<Record<string, number>>,
  addedTokens: readonly unknown[],
  { config, map, taught, encoder }: NamedTokens,
): Specials {
  const tokens = new SpecialTokens(vocabFile, vocab);
  for (const entry of addedTokens) {
    const token = asObject(entry) ?? fail("tokenizer.json", "added_tokens must hold objects");
    tokens.add("tokenizer.json", token.content, token.id, token);
  }
  for (const [id, entry] of Object.entries(asObject(config.added_tokens_decoder) ?? {})) {
    const file = "tokenizer_config.json";
    const token = asObject(entry) ?? fail(file, `added_tokens_decoder.${quoted(id)} must be an object`);
    tokens.add(file, token.content, Number(id), token);
  }
  for (const [content, id] of Object.entries(taught)) {
    if (!tokens.has(content)) tokens.add("added_tokens.json", content, id ?? Number.NaN, {});
  }

  /** A role's token: from the configuration, the map, or CLIP's default; either a string or an object with flags. */
  const role = (name: string, fallback: string): string => {
    const [file, source] =
      (config[name] ?? undefined) !== undefined ? ["tokenizer_config.json", config] : ["special_tokens_map.json", map];
    const value = source[name] ?? fallback;
    const object = asObject(value);
    const content = object ? object.content : value;
    if (typeof content !== "string") fail(file as string, `${name} must be a string or hold content`);
    if (!tokens.has(content)) tokens.add(file as string, content, undefined, object ?? {});
    return content;
  };
  const bos = role("bos_token", DEFAULT_BOS);
  const eos = role("eos_token", DEFAULT_EOS);
  const pad = role("pad_token", DEFAULT_EOS);
  const unknown = role("unk_token", DEFAULT_EOS);
  const roles = [bos, eos, pad, unknown];
  const unusable: string[] = [];
  for (const entry of [config, map].flatMap((file) => file.additional_special_tokens ?? [])) {
    const content = asObject(entry)?.content ?? entry;
    if (typeof content !== "string" || content === "" || tokens.has(content)) continue;
    if (Object.hasOwn(vocab, content)) tokens.add(vocabFile, content, undefined, asObject(entry) ?? {});
    else unusable.push(content);
  }
  const isBeyond = ({ content, id }: SpecialToken) => id >= (encoder?.rows ?? Infinity) && !roles.includes(content);
  return {
    specialTokens: tokens.all.filter((token) => !isBeyond(token)),
    bos: tokens.idOf(bos),
    eos: tokens.idOf(eos),
    pad: tokens.idOf(pad),
    unknown,
    modelMaxLength: modelMaxLength(config, encoder),
    unusable: [...new Set([...unusable, ...tokens.all.filter(isBeyond).map(({ content }) => content)])],
  };
}

/** The special tokens of a folder's files, by content. */
class SpecialTokens {
  readonly #vocabFile: string;
  readonly #vocab: Readonly<Record<string, number>>;
  readonly #tokens = new Map<string, SpecialToken>();

  constructor(vocabFile: string, vocab: Readonly<Record<string, number>>) {
    this.#vocabFile = vocabFile;
    this.#vocab = vocab;
  }

  get all(): readonly SpecialToken[] {
    return [...this.#tokens.values()];
  }

  has(content: string): boolean {
    return this.#tokens.has(content);
  }

  idOf(content: string): number {
    return (this.#tokens.get(content) as SpecialToken).id;
  }

  /** @throws TokenizerError naming `file` */
  add(file: string, content: unknown, id: unknown, flags: Json): void {
    if (typeof content !== "string" || content === "") fail(file, "an added token has no content");
    const known = Object.hasOwn(this.#vocab, content) ? this.#vocab[content] : undefined;
    const chosen = id ?? known;
    if (!isId(chosen)) {
      const reason =
        chosen === undefined ? `has no id and is not in ${this.#vocabFile}` : `must have an id up to ${LARGEST_ID}`;
      fail(file, `the special token ${quoted(content)} ${reason}`);
    }
    if (content.length > LONGEST_SPECIAL_TOKEN) {
      fail(file, `the special token ${quoted(content)} is longer than ${LONGEST_SPECIAL_TOKEN} characters`);
    }
    const flag = (name: string): boolean => flags[name] === true;
    if (this.#tokens.size >= MOST_SPECIAL_TOKENS) {
      fail(file, `there are more than ${MOST_SPECIAL_TOKENS} special tokens`);
    }
    this.#tokens.set(content, {
      content,
      id: chosen,
      lstrip: flag("lstrip"),
      rstrip: flag("rstrip"),
      singleWord: flag("single_word"),
    });
  }
}

/** Where no length is named it is CLIP's own, or the text encoder's if that is shorter. */
function modelMaxLength(config: Json, encoder: EncoderTable | undefined): number {
  const length = config.model_max_length;
  if (length === undefined || length === null || (typeof length === "number" && length >= UNSET_CONTEXT)) {
    return Math.min(CLIP_CONTEXT, encoder?.positions ?? CLIP_CONTEXT);
  }
  return typeof length === "number" && Number.isInteger(length) && length >= 2 && length <= LONGEST_CONTEXT
    ? length
    : fail("tokenizer_config.json", `model_max_length must be an integer from 2 to ${LONGEST_CONTEXT}`);
}
