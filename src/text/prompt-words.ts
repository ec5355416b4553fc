// From a prompt to the words that byte-pair encoding is done on, as the reference's `CLIPTokenizer` does it where the
// package ftfy is not installed (transformers, `BasicTokenizer` with accents and punctuation left alone): control
// characters dropped, Chinese characters set apart, NFC, white space folded, lower case; then words, single digits and
// runs of anything else.

import { normalised } from "./canonical-order.ts";

/** CJK ideographs, which are words of their own (the ranges of BERT's tokenizer; kana and hangul are not among them). */
const IDEOGRAPH =
  /[\u{4e00}-\u{9fff}\u{3400}-\u{4dbf}\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b820}-\u{2ceaf}\u{f900}-\u{faff}\u{2f800}-\u{2fa1f}]/gu;

/** Unicode's "other" characters but for the three that are white space, and the replacement character. */
const DROPPED = /(?![\t\n\r])[\p{C}\u{fffd}]/gu;

/**
 * CLIP's words, of lower-case text. The special tokens are among them because a prompt may spell them in capitals. The
 * long s is the one letter that the reference's case-blind match of the endings takes for another.
 */
const WORD = /<\|startoftext\|>|<\|endoftext\|>|'[s\u017f]|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu;

/** The words of `text`, in order, cleaned up and in lower case. */
export function promptWords(text: string): string[] {
  const cleaned = normalised(text.replace(DROPPED, "").replace(IDEOGRAPH, " $& "));
  const lowered = cleaned.split(/\s+/).map((part) => part.toLowerCase());
  return lowered.join(" ").match(WORD) ?? [];
}
