/** The fault of a request, as an error to throw. `faults/fault.ts` says which errors a client sees. */
import { FaultError, type RequestIssue } from "../faults/fault.ts";

export type { RequestIssue };

/** The request cannot be run as it stands; trying again unchanged cannot help. */
export class RequestError extends FaultError {
  /** The first field at fault, dotted: `loras.0.scale`. */
  declare readonly field: string;
  declare readonly issues: readonly RequestIssue[];

  /**
   * @param field the field at fault, as the caller spells it
   * @param message one sentence that says what the field must be
   * @param issues every fault, when there are several; defaults to the one given
   */
  constructor(field: string, message: string, issues?: readonly RequestIssue[]) {
    super({
      code: "invalid-request",
      status: 422,
      message: field === "" ? message : `${field}: ${message}`,
      field,
      issues: issues ?? [{ path: field === "" ? [] : field.split("."), message, type: "value_error" }],
    });
    this.name = "RequestError";
  }
}

/** @throws RequestError for the first of `issues`, naming all of them */
export function refuseIssues(issues: readonly RequestIssue[]): void {
  const first = issues[0];
  if (first !== undefined) throw new RequestError(first.path.join("."), first.message, issues);
}
