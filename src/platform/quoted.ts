/** Pieces of untrusted files in messages. */

/** Longest piece of a file's own text in a message. Real tensor names stay under 120 characters. */
const LONGEST_QUOTE = 160;

/** Text out of an untrusted file, fit for a message: quoted, without characters that act on a terminal, cut short. */
export function quoted(text: string): string {
  const cut = text.length > LONGEST_QUOTE ? `${text.slice(0, LONGEST_QUOTE)}…` : text;
  // JSON escapes the first 32 control characters; the others, and marks that turn the direction of text, follow.
  return JSON.stringify(cut).replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (char) => `\\u{${char.codePointAt(0)!.toString(16)}}`,
  );
}

/** `a, b, c and 4 more`: at most `limit` of them. */
export function listed(items: readonly string[], limit = 10): string {
  const list = items.slice(0, limit).join(", ");
  return items.length > limit ? `${list} and ${items.length - limit} more` : list;
}
