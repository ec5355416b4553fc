/**
 * `daguerre/jobs`: runs of any kind as jobs that wait for their turn, are followed by many, resumed and cancelled. It knows
 * nothing of pictures or of HTTP.
 */

export { type Account, createAccount, type MemoryBounds } from "./account.ts";
export { JobError } from "./job-errors.ts";
export { createJobs, type Job, type Jobs, type JobsOptions, throughJobs } from "./jobs.ts";
export { type MapOptions, map } from "./map.ts";
export type { AnyRun, Run, RunContext } from "./run.ts";
