// Prompts longer than a text encoder's row: tokens fill chunks, each encoded by itself between its own begin and end, as
// AUTOMATIC1111's web UI does it.

import type { ClipTokenizer } from "./clip-tokenizer.ts";
import { type AddedToken, splitAtAdded } from "./embeddings.ts";
import { BREAK, type PromptPart, type PromptSyntax, weightedParts } from "./prompt-syntax.ts";

/** One row of a text encoder. */
export interface Chunk {
  /** `[row]`, begin, end and padding included. */
  readonly ids: Int32Array;
  /** `[row]`; undefined if all are 1. */
  readonly weights?: Float32Array;
}

/** A prompt as a text encoder reads it. */
export interface ReadPrompt {
  readonly chunks: readonly Chunk[];
  /** Tokens of the whole prompt, begin and end of the first chunk included. */
  readonly tokenCount: number;
  /** True if its end was left out. */
  readonly truncated: boolean;
}

/** Chunks of a prompt, at most: as many tokens as anybody has written. Each makes attention to the text dearer. */
export const MOST_CHUNKS = 16;

/**
 * Tokens after the last comma, at most, that move to the next chunk if they do not all fit: the web UI's
 * `comma_padding_backtrack`.
 */
const BACKTRACK = 20;

export interface ReadingOptions {
  readonly syntax: PromptSyntax;
  /** Tokens that textual inversion has added. */
  readonly added?: readonly AddedToken[];
  /** Left out: the web UI's 20. */
  readonly backtrack?: number;
}

/** The rows of `prompt`. */
export function readPrompt(tokenizer: ClipTokenizer, prompt: string, options: ReadingOptions): ReadPrompt {
  const { syntax, added = [], backtrack = BACKTRACK } = options;
  if (syntax === "plain" && added.length === 0) {
    const { ids, tokenCount, truncated } = tokenizer.encode(prompt);
    return { chunks: [{ ids }], tokenCount, truncated };
  }
  const parts: readonly PromptPart[] = syntax === "plain" ? [{ text: prompt, weight: 1 }] : weightedParts(prompt);
  const filler = new Filler(tokenizer, syntax === "plain" ? 0 : backtrack);
  for (const part of parts) {
    if (part === BREAK) filler.close();
    else {
      for (const piece of splitAtAdded(part.text, added, syntax)) {
        if (typeof piece === "string") for (const id of tokenizer.tokens(piece)) filler.add([id], part.weight);
        else filler.add(piece.ids, part.weight);
      }
    }
  }
  return filler.finished(syntax === "plain" ? 1 : MOST_CHUNKS);
}

/** Fills chunks with tokens. */
class Filler {
  readonly #tokenizer: ClipTokenizer;
  readonly #backtrack: number;
  readonly #comma: number | undefined;
  readonly #room: number;
  readonly #full: Chunk[] = [];
  #ids: number[] = [];
  #weights: number[] = [];
  #lastComma = -1;
  #count = 0;

  constructor(tokenizer: ClipTokenizer, backtrack: number) {
    this.#tokenizer = tokenizer;
    this.#backtrack = backtrack;
    this.#comma = tokenizer.tokens(",")[0];
    this.#room = tokenizer.modelMaxLength - 2;
  }

  /** Adds tokens that stay together, if a chunk can hold them. */
  add(ids: readonly number[], weight: number): void {
    this.#count += ids.length;
    const isFull = this.#ids.length === this.#room;
    if (ids.length === 1 && ids[0] === this.#comma) this.#lastComma = this.#ids.length;
    else if (isFull && this.#lastComma >= 0 && this.#ids.length - this.#lastComma <= this.#backtrack) {
      const at = this.#lastComma + 1;
      const [moved, weights] = [this.#ids.splice(at), this.#weights.splice(at)];
      this.close();
      this.#ids = moved;
      this.#weights = weights;
    }
    if (this.#ids.length > 0 && this.#ids.length + ids.length > this.#room) this.close();
    for (const id of ids.slice(0, this.#room)) {
      this.#ids.push(id);
      this.#weights.push(weight);
    }
  }

  /** Ends the chunk, whatever is in it. */
  close(): void {
    const { bos } = this.#tokenizer;
    const row = this.#room + 2;
    const ids = new Int32Array(row).fill(this.#tokenizer.pad);
    ids.set([bos, ...this.#ids, this.#tokenizer.eos]);
    const weights = new Float32Array(row).fill(1);
    weights.set(this.#weights, 1);
    this.#full.push(this.#weights.every((weight) => weight === 1) ? { ids } : { ids, weights });
    this.#ids = [];
    this.#weights = [];
    this.#lastComma = -1;
  }

  finished(most: number): ReadPrompt {
    if (this.#ids.length > 0 || this.#full.length === 0) this.close();
    return {
      chunks: this.#full.slice(0, most),
      tokenCount: this.#count + 2,
      truncated: this.#full.length > most,
    };
  }
}
