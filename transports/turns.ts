/**
 * Turns of the event loop for work that clients cause.
 *
 * Reading a body, decoding a picture's base64 and writing an answer are cut into slices of some 64 KiB, well under a
 * millisecond each. However many clients send at once, only so many slices are done in a turn; the others wait for the
 * next, so that everybody else's requests, pings and steps come between.
 */

/** Slices in a turn: some 4 ms of work. */
const SLICES = 16;

const waiting: (() => void)[] = [];
let used = 0;
let scheduled = false;

function nextTurn(): void {
  scheduled = false;
  used = 0;
  for (const resume of waiting.splice(0, SLICES)) {
    used++;
    resume();
  }
  if (used > 0) schedule();
}

function schedule(): void {
  if (scheduled) return;
  scheduled = true;
  setImmediate(nextTurn);
}

/** Settles when the next slice of work may be done: at once, or in one of the next turns. */
export function slice(): Promise<void> | undefined {
  schedule();
  if (used < SLICES && waiting.length === 0) {
    used++;
    return undefined;
  }
  return new Promise((resolve) => waiting.push(resolve));
}
