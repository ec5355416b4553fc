/** A store as a run, for a consumer that knows runs alone. */
import type { SubmitOptions } from "./job.ts";
import { JobError } from "./job-errors.ts";
import type { Jobs } from "./job-store.ts";
import type { Run } from "./run.ts";

/** Milliseconds; `setTimeout` takes no more. */
const FOREVER = 2 ** 31 - 1;

/**
 * Each call submits a job and gives its events, those of the wait in line included. Changes to a running job do not
 * pass through.
 */
export function throughJobs<Input, Event>(jobs: Jobs<Input, Event>, options: SubmitOptions = {}): Run<Input, Event> {
  return async function* (input, { signal, wants }) {
    const job = jobs.submit(input, { ...options, signal });
    const reader = job.watch({ wants: (slot) => slot !== "preview" || (wants?.(slot) ?? true) });
    try {
      for (;;) {
        const read = await reader.next(FOREVER);
        if (read === "quiet") continue;
        if (read === "ended") return;
        if (read === "lost") throw new JobError("log-gone", "Events of this job are no longer held");
        if ("error" in read) throw read.error;
        yield read.event;
      }
    } finally {
      reader.close();
    }
  };
}
