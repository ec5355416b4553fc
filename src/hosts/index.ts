/** `daguerre/hosts`: places where a run computes, other than this thread. */

export { type WorkerOptions, worker } from "./thread.ts";
