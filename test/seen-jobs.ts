/** The jobs that a server begins, seen from inside: its metrics are told of every one. */
import type { RunEvent } from "../src/engine/events.ts";
import type { GenerationRequest } from "../src/engine/request.ts";
import type { Job, Jobs } from "../src/jobs/jobs.ts";
import { createMetrics, type Metrics } from "../transports/observe/metrics.ts";

export type ImageJob = Job<GenerationRequest, RunEvent>;

/** Metrics for `createApp`, and the jobs of its store in the order in which they were submitted. */
export function seenJobs(): { readonly metrics: Metrics; readonly jobs: readonly ImageJob[] } {
  const jobs: ImageJob[] = [];
  const real = createMetrics();
  const metrics: Metrics = {
    observe: real.observe,
    requests: real.requests,
    watch: real.watch,
    route: real.route,
    account: (...about) => real.account(...about),
    jobs(store) {
      real.jobs(store);
      (store as unknown as Jobs<GenerationRequest, RunEvent>).observe((job, change) => {
        if (change === "submitted") jobs.push(job);
      });
    },
  };
  return { metrics, jobs };
}
