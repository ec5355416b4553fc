/** `daguerre/hosts`: places where a run computes: this thread, another, or a process. */

export { createHost, type HostOptions, here } from "./create-host.ts";
export type { Host, HostContext, HostKind, HostState, HostStats } from "./host.ts";
export { createPool, type Pool, type PoolMapOptions, type PoolOptions, type PoolStats } from "./pool.ts";
export type { ProcessOptions } from "./process-place.ts";
export { DistributedRunner, type DistributedRunnerOptions, type StreamOptions } from "./ranks/distributed-runner.ts";
export { type CallContext, DistributedWorker, type StreamingResultOptions } from "./ranks/distributed-worker.ts";
export { type SupervisedHost, type SupervisorOptions, supervise } from "./supervisor/supervise.ts";
export { type WorkerOptions, worker } from "./worker.ts";
