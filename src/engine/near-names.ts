/** Which of many names somebody may have meant. */

import { distance } from "fastest-levenshtein";

/** Characters of a name by which its nearness counts. */
const COMPARED = 64;

/** The names, those that are most like `asked` first. */
export function nearest(asked: string, names: readonly string[]): string[] {
  const plain = (name: string) => name.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().slice(0, COMPARED);
  const wanted = plain(asked);
  const far = (name: string) => {
    const other = plain(name);
    return other.includes(wanted) || wanted.includes(other) ? 0 : distance(wanted, other);
  };
  return names
    .map((name) => ({ name, far: far(name) }))
    .sort((a, b) => a.far - b.far)
    .map(({ name }) => name);
}
