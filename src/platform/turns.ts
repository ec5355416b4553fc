/**
 * Long computations in short pieces, so that the event loop serves others between them.
 *
 * There are two sorts. The bytes that clients send and read are worked on in *slices* of some 64 KiB, each well under a millisecond:
 * sixteen of them are done in a turn, whoever they are for, and the others wait for the next. So do requests that begin. The engine's
 * computations are longer:
 *
 * Such a computation is a generator: it yields where it may be interrupted, every millisecond or so, and returns its
 * result. A caller that needs that at once drains it (`atOnce`); a run of the engine has it done in turns (`inTurns`).
 * All that is done in turns shares them: a turn of the loop holds one piece, however many runs and encodings there are.
 */

/** Milliseconds by the clock. Long enough that waiting costs little, and five times as short as anybody should have to wait. */
const PIECE_MS = 8;

/** Those that wait, in order; each is resumed in a turn of its own. */
const waiting: (() => void)[] = [];

/** Resolves in a turn of the event loop in which nobody else was resumed. */
export function ownTurn(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    if (waiting.length === 1) setImmediate(resume);
  });
}

function resume(): void {
  const next = waiting.shift();
  if (waiting.length > 0) setImmediate(resume);
  next?.();
}

/** The result of `work`, whose pieces wait for turns of their own. Rejects with what it throws. */
export async function inTurns<T>(work: Generator<void, T, void>): Promise<T> {
  for (;;) {
    await ownTurn();
    const end = performance.now() + PIECE_MS;
    do {
      const { done, value } = work.next();
      if (done) return value;
    } while (performance.now() < end);
  }
}

/** The result of `work`, without waiting. */
export function atOnce<T>(work: Generator<void, T, void>): T {
  for (;;) {
    const { done, value } = work.next();
    if (done) return value;
  }
}

/** Slices in a turn, and milliseconds by the clock after which no more begin. */
const SLICES = 16;
const SLICES_MS = 4;

/** Settles when the next slice of work may be done: at once (then undefined), or in one of the next turns. */
export type Slicer = () => Promise<void> | undefined;

/** A line of its own for one sort of work. */
function slicer(): Slicer {
  const waiting: (() => void)[] = [];
  let used = 0;
  let began = 0;
  let scheduled = false;

  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    began = performance.now();
    setImmediate(nextTurn);
  }

  function nextTurn(): void {
    scheduled = false;
    const next = waiting.splice(0, SLICES);
    used = next.length;
    if (used > 0) schedule();
    for (const resume of next) resume();
  }

  return () => {
    schedule();
    if (used < SLICES && waiting.length === 0 && performance.now() - began < SLICES_MS) {
      used++;
      return undefined;
    }
    return new Promise((resolve) => waiting.push(resolve));
  };
}

/** For bytes that come and go. */
export const slice = slicer();
/** For requests that begin: they do not stand in line behind the bytes of others. */
export const beginning = slicer();
