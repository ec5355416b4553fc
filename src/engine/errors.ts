/**
 * Errors that may be shown to whoever asked.
 *
 * Anything thrown that is not one of these stays inside: a transport answers "internal error" and the log keeps the
 * rest, so that no path, shader label or stack reaches a client. An error is shown when it carries a `field` (the
 * request is wrong there) or a `status` (an HTTP status that says what to do), and only its `message` is shown.
 */

/** One thing wrong with a request: where, what, and which rule in pydantic's vocabulary (`missing`, `int_type`, …). */
export interface RequestIssue {
  /** Names and indices from the outside in: `["loras", 0, "scale"]`. Empty: the request as a whole. */
  readonly path: readonly (string | number)[];
  readonly message: string;
  readonly type: string;
}

/** The request cannot be run as it stands; trying again unchanged cannot help. */
export class RequestError extends Error {
  readonly code: string = "invalid-request";
  /** The first field at fault, dotted: `loras.0.scale`. */
  readonly field: string;
  readonly issues: readonly RequestIssue[];

  /**
   * @param field the field at fault, as the caller spells it
   * @param message one sentence that says what the field must be
   * @param issues every fault, when there are several; defaults to the one given
   */
  constructor(field: string, message: string, issues?: readonly RequestIssue[]) {
    super(field === "" ? message : `${field}: ${message}`);
    this.name = "RequestError";
    this.field = field;
    this.issues = issues ?? [{ path: field === "" ? [] : field.split("."), message, type: "value_error" }];
  }
}
