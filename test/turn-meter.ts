/**
 * The longest turn of the event loop, in CPU time of the JavaScript thread: for how long nobody else could be served,
 * whatever else this machine was doing. In a test:
 *
 *     const meter = startTurnMeter();
 *     await work();
 *     expect(meter.stop().longestMs).toBeLessThan(50);
 *
 * In a server process, as a preload: `TURN_METER_FILE=/tmp/turns.json node --import tsx --import ./test/turn-meter.ts …`.
 * It writes a `TurnReport` as JSON to that file at each SIGUSR2 and at exit; `reports` tells a new one from an old one.
 *
 * A timer of a millisecond takes the time, so that the loop does not spin: turns of less than that are measured as one.
 * Elsewhere than on Linux it is the time of the clock, which also counts what other processes took.
 */
import { openSync, readSync, renameSync, writeFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";

export interface TurnMeter {
  /** The longest turn since the start or the last `take`, and begins anew. Counts the turn that is under way too. */
  take(): { readonly longestMs: number };
  /** The same, and ends the meter. */
  stop(): { readonly longestMs: number };
}

/** The file that a preload writes. */
export interface TurnReport {
  /** Counts from 1. */
  readonly reports: number;
  /** The longest turn since the process began. */
  readonly longestMs: number;
  /** The longest turn since the last report. */
  readonly latestMs: number;
}

/** Starts measuring. It keeps no process alive. */
export function startTurnMeter(): TurnMeter {
  let begun = cpuMs();
  let longest = 0;
  const measure = () => {
    const now = cpuMs();
    longest = Math.max(longest, now - begun);
    begun = now;
  };
  const timer = setInterval(measure, 1).unref();
  const take = () => {
    measure();
    const longestMs = longest;
    longest = 0;
    return { longestMs };
  };
  return {
    take,
    stop() {
      clearInterval(timer);
      return take();
    },
  };
}

/** CPU time that the main thread has had, in ms. Elsewhere than on Linux: the time of the clock. */
export const cpuMs = process.platform === "linux" ? schedulerClock() : () => performance.now();

function schedulerClock(): () => number {
  const file = openSync(`/proc/self/task/${process.pid}/schedstat`, "r");
  const text = Buffer.alloc(80);
  return () => {
    // Asking for the process's time makes the kernel count what the running thread has had since its last tick (4 ms).
    process.cpuUsage();
    const length = readSync(file, text, 0, text.length, 0);
    return Number.parseInt(text.toString("latin1", 0, length), 10) / 1e6;
  };
}

const reportFile = process.env.TURN_METER_FILE;
if (reportFile && isMainThread) {
  // A process that this one starts would write over its report.
  delete process.env.TURN_METER_FILE;
  const meter = startTurnMeter();
  let reports = 0;
  let longestMs = 0;
  const report = () => {
    const { longestMs: latestMs } = meter.take();
    longestMs = Math.max(longestMs, latestMs);
    const written: TurnReport = { reports: ++reports, longestMs, latestMs };
    // Renamed, so that a reader never sees half of it.
    writeFileSync(`${reportFile}.new`, JSON.stringify(written));
    renameSync(`${reportFile}.new`, reportFile);
  };
  process.on("SIGUSR2", report);
  process.on("exit", report);
}
