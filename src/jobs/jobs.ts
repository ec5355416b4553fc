/** Jobs, as the rest of the program sees them. */
export type { Job, JobChange, JobListener, JobState, SubmitOptions, WatchOptions } from "./job.ts";
export { createJobs, JOB_DEFAULTS, type Jobs, type JobsOptions, slotOf } from "./job-store.ts";
export { throughJobs } from "./through-jobs.ts";
export { type Viewer, visible } from "./visible.ts";
