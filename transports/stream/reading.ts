/** Readers of a job's log for the client of one request. */
import type { Context } from "hono";
import { JobError } from "../../src/jobs/job-errors.ts";
import type { JobLog, LogReader } from "../../src/jobs/job-log.ts";
import type { Job } from "../../src/jobs/jobs.ts";

/** Milliseconds; how long a silence lasts makes no difference here. */
const QUIET_MS = 60_000;

type WatchOptions = NonNullable<Parameters<Job<unknown, unknown>["watch"]>[0]>;

/** How a job is watched by a client that is shown no previews: they need not be made for it. */
export const NO_PREVIEWS: WatchOptions = { wants: (slot) => slot !== "preview" };

/** True if a request is answered without a body: a HEAD, which Hono gives to the handlers of GET. */
export function readsNothing(c: Context): boolean {
  return c.req.method === "HEAD";
}

/**
 * A reader that leaves when the client does. Close it when done. A request that reads nothing is no watcher of its job: its
 * reader gives nothing, and the job knows nothing of it.
 *
 * @throws JobError `log-gone`, `beyond-log`
 */
export function watchFor<Event>(c: Context, job: Job<unknown, Event>, options: WatchOptions = {}): LogReader<Event> {
  if (readsNothing(c)) {
    const fault = job.log.gone(options.after ?? 0);
    if (fault !== undefined) throw fault;
    return { position: options.after ?? 0, next: async () => "ended", wake() {}, close() {} };
  }
  const client = c.req.raw.signal;
  const reader = job.watch(options);
  const close = () => {
    client.removeEventListener("abort", close);
    reader.close();
  };
  if (client.aborted) reader.close();
  else client.addEventListener("abort", close, { once: true });
  return {
    get position() {
      return reader.position;
    },
    next: (withinMs) => reader.next(withinMs),
    wake: () => reader.wake(),
    close,
  };
}

/**
 * The result of a job: its `result` event, or its last one where it has none; undefined when there was none, or the reader
 * was closed before. Closes the reader.
 *
 * @throws what the run has thrown; JobError `log-gone`
 */
export async function resultOf<Event>(reader: LogReader<Event>): Promise<Event | undefined> {
  let result: Event | undefined;
  try {
    for (;;) {
      const read = await reader.next(QUIET_MS);
      if (read === "quiet") continue;
      if (read === "ended") return result;
      if (read === "lost") throw new JobError("log-gone", "Events of this job are no longer held");
      if ("error" in read) throw read.error;
      if (!isResult(result)) result = read.event;
    }
  } finally {
    reader.close();
  }
}

function isResult(event: unknown): boolean {
  return (event as { type?: unknown } | null | undefined)?.type === "result";
}

/**
 * The error of a job that fails before its first event, if it does so in time: its client is answered with a status.
 *
 * @param isWord whether an event is one; left out: every event is
 */
export async function earlyFailure<Event>(
  log: JobLog<Event>,
  withinMs: number,
  isWord: (event: Event) => boolean = () => true,
): Promise<{ readonly error: unknown } | undefined> {
  const until = performance.now() + withinMs;
  const ear = log.read();
  try {
    for (;;) {
      const read = await ear.next(Math.max(0, until - performance.now()));
      if (typeof read === "string") return undefined;
      if ("error" in read) return read;
      if (isWord(read.event)) return undefined;
    }
  } finally {
    ear.close();
  }
}
