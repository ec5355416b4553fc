/**
 * CLIP's own tokenizer, as the files of a folder: that of every published Stable Diffusion, for checkpoints that bring none.
 *
 * The package has the merges (`models/clip`); the vocabulary follows from them: the letters of bytes, the same at the end of
 * a word, what each merge makes, and two special tokens (openai/CLIP, `simple_tokenizer.py`).
 */

import { memoryFiles } from "../platform/memory-files.ts";
import type { ModelFiles } from "../platform/model-files.ts";
import { packedText } from "../platform/packed-text.ts";
import { BYTE_LETTERS } from "./byte-pairs.ts";

const SPECIAL = ["<|startoftext|>", "<|endoftext|>"];

let known: Promise<{ readonly vocab: string; readonly merges: string }> | undefined;

/**
 * The files of the tokenizer.
 * @param padding the token that fills a row: `<|endoftext|>` for CLIP ViT-L, `!` for OpenCLIP
 */
export async function clipVocabulary(padding: "<|endoftext|>" | "!"): Promise<ModelFiles> {
  known ??= read();
  const { vocab, merges } = await known;
  const config = JSON.stringify({ pad_token: padding, model_max_length: 77 });
  return memoryFiles({ "vocab.json": vocab, "merges.txt": merges, "tokenizer_config.json": config }, "tokenizer");
}

async function read(): Promise<{ readonly vocab: string; readonly merges: string }> {
  const merges = await packedText("models", "clip", "merges.txt.gz");
  const letters = [...BYTE_LETTERS].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!);
  const joined = merges
    .trimEnd()
    .split("\n")
    .slice(1)
    .map((pair) => pair.replace(" ", ""));
  const pieces = [...letters, ...letters.map((letter) => `${letter}</w>`), ...joined, ...SPECIAL];
  return { vocab: JSON.stringify(Object.fromEntries(pieces.map((piece, id) => [piece, id]))), merges };
}
