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
 * A turn costs 25 µs of CPU all the same. A caller that knows that work takes long asks for its promise only when it is
 * nearly due (`Gpu.idle`): until then nothing polls, and the thread sleeps as any server's does.
 */

/** The longest that one turn of the event loop is held up, in ms. */
const MAX_SLEEP_MS = 1;
/** A turn beyond its sleep that took this long did somebody else's work, in ms. A turn of Dawn's polling takes 0.01. */
const BUSY_TURN_MS = 0.15;
/** After a busy turn sleeps are short for this long, since work comes in bursts, in ms. */
const QUIET_AFTER_MS = 2;
const SHORT_SLEEP_MS = 0.1;
/** The part of an earlier sleep that counts as waited, so that turns are as long as they would be at its end. */
const COUNTED_OF_SLEEP = 0.1;

const cell = new Int32Array(new SharedArrayBuffer(4));

/** The turns of the event loop in which the thread sleeps, for as long as anybody waits. */
class SleepyTurns {
  #waiting = 0;
  #turning = false;
  /** When the newest wait began, by `performance.now()`; so are the next two. */
  #since = 0;
  #turnEnd = 0;
  #busyUntil = 0;

  begin(now: number, slept: number): void {
    this.#waiting += 1;
    this.#since = now - slept * COUNTED_OF_SLEEP;
    if (this.#turning) return;
    this.#turning = true;
    this.#turnEnd = now;
    setImmediate(this.#turn);
  }

  end(): void {
    this.#waiting -= 1;
  }

  readonly #turn = (): void => {
    if (this.#waiting === 0) {
      this.#turning = false;
      return;
    }
    const now = performance.now();
    if (now - this.#turnEnd > BUSY_TURN_MS) this.#busyUntil = now + QUIET_AFTER_MS;
    const sleep = Math.min(now < this.#busyUntil ? SHORT_SLEEP_MS : MAX_SLEEP_MS, (now - this.#since) / 8);
    // Nobody ever notifies: this is a sleep, the only one that JavaScript has.
    if (sleep > 0) Atomics.wait(cell, 0, 0, sleep);
    this.#turnEnd = performance.now();
    setImmediate(this.#turn);
  };
}

const turns = new SleepyTurns();

/**
 * Awaits a promise of Dawn's (`mapAsync`, `onSubmittedWorkDone`, `createComputePipelineAsync`, …) while letting the
 * thread sleep. Resolves or rejects as `promise` does. Any number may wait at once; they share one loop, which ends
 * with the last of them.
 * @param slept milliseconds that the work has taken already, if the caller has slept so long and it will be done soon.
 */
export async function settle<T>(promise: Promise<T>, slept = 0): Promise<T> {
  turns.begin(performance.now(), slept);
  try {
    return await promise;
  } finally {
    turns.end();
  }
}
