// Combining marks in canonical order (Unicode 16, section 3.11), in time that grows with the text.
//
// `normalize` itself sorts the marks after a letter by insertion: ten thousand of them take a fifth of a second. Here
// long runs are sorted first, which changes nothing of what `normalize` gives, and leaves it nothing to sort.

/** More than any letter carries (the most in use is about ten). Shorter runs are left to `normalize`. */
const LONG_RUN = 32;

const LONG_RUNS = new RegExp(`\\p{M}{${LONG_RUN},}`, "gu");

/** `text.normalize("NFC")`. */
export function normalised(text: string): string {
  return text.replace(LONG_RUNS, ordered).normalize("NFC");
}

function ordered(run: string): string {
  // One mark may be several (U+0344), each with an order of its own.
  const marks = [...run].flatMap((mark) => [...mark.normalize("NFD")]);
  const distinct = [...new Set(marks)];
  const moving = distinct.filter(moves).sort((a, b) => (swaps(a, b) ? 1 : swaps(b, a) ? -1 : 0));
  const rank = new Map<string, number>();
  for (const [index, mark] of moving.entries()) {
    const previous = moving[index - 1];
    const same = previous !== undefined && !swaps(mark, previous) && !swaps(previous, mark);
    rank.set(mark, same ? rank.get(previous)! : index);
  }
  const out: string[] = [];
  let part: string[] = [];
  const flush = () => {
    out.push(...part.sort((a, b) => rank.get(a)! - rank.get(b)!));
    part = [];
  };
  for (const mark of marks) {
    if (rank.has(mark)) part.push(mark);
    else {
      // A mark that stays where it is: the others do not pass it.
      flush();
      out.push(mark);
    }
  }
  flush();
  return out.join("");
}

/** True if canonical order puts `b` before `a`. */
function swaps(a: string, b: string): boolean {
  return a !== b && (a + b).normalize("NFD") === b + a;
}

/** Marks of the lowest class (1) and of the highest (240): what moves at all passes one of them. */
const LOWEST = "\u0334";
const HIGHEST = "\u0345";

function moves(mark: string): boolean {
  return mark === LOWEST || mark === HIGHEST || swaps(HIGHEST, mark) || swaps(mark, LOWEST);
}
