/** Why a job was not taken, or is not there: errors that carry the HTTP status by which a transport tells them. */

export type JobErrorCode =
  /** As many jobs wait as may: 503, with `retryAfter`. */
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
  /** The job has ended and cannot be cancelled or changed any more: 400. */
  | "already-completed";

const STATUS: Readonly<Record<JobErrorCode, number>> = {
  "queue-full": 503,
  draining: 503,
  "id-in-use": 409,
  "key-reused": 422,
  "not-found": 404,
  "log-gone": 410,
  "beyond-log": 400,
  "already-completed": 400,
};

/** Its message may be shown to a client. */
export class JobError extends Error {
  override readonly name = "JobError";
  readonly code: JobErrorCode;
  /** HTTP status. */
  readonly status: number;
  /** Seconds after which the same request may succeed. */
  readonly retryAfter: number | undefined;

  constructor(code: JobErrorCode, message: string, retryAfter?: number) {
    super(message);
    this.code = code;
    this.status = STATUS[code];
    this.retryAfter = retryAfter;
  }
}
