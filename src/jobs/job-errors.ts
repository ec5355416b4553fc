/** Why a job was not taken, is not there, or cannot be changed: faults with the HTTP status of each. */
import { FaultError } from "../faults/fault.ts";

export type JobErrorCode =
  /** The line is full: 503, with `retryAfter`. */
  | "queue-full"
  /** The server takes no more jobs because it is stopping: 503, with `retryAfter`. */
  | "draining"
  /** A job of this id is running: 409. */
  | "id-in-use"
  /** The idempotency key was used with another input: 422. */
  | "key-reused"
  /** No job has this id: 404. */
  | "not-found"
  /** The job's log, or the part of it that was asked for, is gone: 410. */
  | "log-gone"
  /** The place to resume from lies beyond the job's last event: 400. */
  | "beyond-log"
  /** The job runs, and its run takes no changes: 409. */
  | "not-updatable";

const STATUS: Readonly<Record<JobErrorCode, number>> = {
  "queue-full": 503,
  draining: 503,
  "id-in-use": 409,
  "key-reused": 422,
  "not-found": 404,
  "log-gone": 410,
  "beyond-log": 400,
  "not-updatable": 409,
};

export class JobError extends FaultError {
  declare readonly code: JobErrorCode;

  /** @param retryAfter seconds after which the same request may succeed */
  constructor(code: JobErrorCode, message: string, retryAfter?: number) {
    super({ code, status: STATUS[code], message, retryAfter });
    this.name = "JobError";
  }
}
