/** The faults of places, and errors that come from them. */
import { type Fault, FaultError, faultOf, INTERNAL } from "../faults/fault.ts";
import type { ErrorFields } from "./messages.ts";

/** Seconds after which a place has often been replaced, or has come back. */
const RETRY_SECONDS = 5;

export type HostFaultCode = "host-lost" | "host-hung" | "host-closed";

/** The place of a run is gone or does not answer. Another may do: status 503. */
export function hostFault(code: HostFaultCode, message: string): FaultError {
  const fault: Fault = { code, status: 503, message };
  return new FaultError(code === "host-closed" ? fault : { ...fault, retryAfter: RETRY_SECONDS });
}

/** The fault of another place; or an error that only logs show, which says what it was there. */
export function errorOf(fields: ErrorFields): Error {
  const fault = faultOf(fields);
  const { name, message, stack } = fields;
  if (fault.code === INTERNAL) return Object.assign(new Error(message), { name, stack });
  return new FaultError(fault, { cause: stack });
}
