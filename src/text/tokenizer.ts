/** A tokenizer of any kind, as a text encoder and its callers see it. */

/** One prompt, encoded. */
export interface EncodedPrompt {
  /**
   * The row of ids that the text encoder reads, special tokens included, at most `modelMaxLength`. CLIP pads it to that
   * length: `[modelMaxLength]`.
   */
  readonly ids: Int32Array;
  /** Tokens of the whole prompt, special tokens included, before it was cut. */
  readonly tokenCount: number;
  /** True if the prompt did not fit and lost its end. */
  readonly truncated: boolean;
}

/** A word of a prompt with its pieces in the vocabulary. */
export interface PromptWord {
  readonly word: string;
  /** Vocabulary pieces, without the marks of a word's begin or end. */
  readonly pieces: readonly string[];
}

export interface Tokenizer {
  /** The longest row, in tokens. */
  readonly modelMaxLength: number;
  encode(text: string): EncodedPrompt;
  /** The words of a prompt (letters only; no digits, punctuation or special tokens) with their pieces, in order. */
  words(text: string): PromptWord[];
}
