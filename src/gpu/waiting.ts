/**
 * Waiting for the GPU without burning the CPU.
 *
 * dawn.node learns that work is done by polling: while any of its promises is outstanding it re-queues a `setImmediate`
 * for ever, so the JavaScript thread spins at 100% of a core, and on a software GPU that core is taken from the very
 * work that is waited for. `settle` makes each of those turns sleep: it queues an immediate of its own beside Dawn's and
 * blocks the thread there with `Atomics.wait`, for at most a millisecond a turn.
 *
 * The event loop keeps turning, so timers, sockets and workers are served. Two rules keep it responsive:
 * the sleep is an eighth of the time waited so far, so that short waits (a 0.1 ms read-back) are hardly longer (who has
 * slept before says so, and begins with longer ones); and
 * while turns are long because other work runs in them (a server answering requests), the sleeps are short until the
 * loop has been quiet for a moment. (No sleep at all would burn the core: on a crowded machine a turn is as often long
 * because the thread was not let run.)
 *
 * A turn costs 25 µs of CPU all the same. Who knows that work takes long asks for its promise only when it is nearly
 * due (`Gpu.idle`): until then nothing polls, and the thread sleeps as any server's does.
 */

/** The longest that one turn of the event loop is held up, in ms. */
const MAX_SLEEP_MS = 1;
/** A turn beyond its sleep that took this long did somebody else's work, in ms. A turn of Dawn's polling takes 0.01. */
const BUSY_TURN_MS = 0.15;
/** After a busy turn sleeps are short for this long, since work comes in bursts, in ms. */
const QUIET_AFTER_MS = 2;
const SHORT_SLEEP_MS = 0.1;
/** Of a sleep before, what counts as waited: about what is left of it, so that turns are as long as they would be at its end. */
const COUNTED_OF_SLEEP = 0.1;

const cell = new Int32Array(new SharedArrayBuffer(4));

let waiting = 0;
let turning = false;
let since = 0;
let turnEnd = 0;
let busyUntil = 0;

function turn(): void {
  if (waiting === 0) {
    turning = false;
    return;
  }
  const now = performance.now();
  if (now - turnEnd > BUSY_TURN_MS) busyUntil = now + QUIET_AFTER_MS;
  const sleep = Math.min(now < busyUntil ? SHORT_SLEEP_MS : MAX_SLEEP_MS, (now - since) / 8);
  // Nobody ever notifies: this is a sleep, in the one form that JavaScript has.
  if (sleep > 0) Atomics.wait(cell, 0, 0, sleep);
  turnEnd = performance.now();
  setImmediate(turn);
}

/**
 * Awaits a promise of Dawn's (`mapAsync`, `onSubmittedWorkDone`, `createComputePipelineAsync`, …) while letting the
 * thread sleep. Resolves or rejects as `promise` does. Any number may wait at once; they share one loop, which ends
 * with the last of them. `slept`: what was waited for has taken so long already, and will be done soon, in ms.
 */
export async function settle<T>(promise: Promise<T>, slept = 0): Promise<T> {
  const now = performance.now();
  waiting += 1;
  since = now - slept * COUNTED_OF_SLEEP;
  if (!turning) {
    turning = true;
    turnEnd = now;
    setImmediate(turn);
  }
  try {
    return await promise;
  } finally {
    waiting -= 1;
  }
}
