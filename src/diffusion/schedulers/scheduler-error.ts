// The one error a scheduler raises: a class we do not have, a configuration field we cannot honour, or a request (steps,
// strength, …) that has no schedule. Its message is fit for a client: it names class and field, never a path.

/** Thrown by `createSchedule` and `img2imgStart`. `field` is the name in `scheduler_config.json`, or the option's name. */
export class SchedulerError extends Error {
  override readonly name = "SchedulerError";
  readonly className: string;
  readonly field: string;
  /** The message after class and field. */
  readonly reason: string;

  constructor(className: string, field: string, reason: string) {
    super(`${className}: ${field} ${reason}`);
    this.className = className;
    this.field = field;
    this.reason = reason;
  }
}
