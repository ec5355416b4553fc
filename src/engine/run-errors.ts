/** Errors of a run as whoever asked for it is told of them. */

import { PipelineError } from "../diffusion/request.ts";
import { FaultError } from "../faults/fault.ts";
import { WeightsError } from "../weights/errors.ts";
import { RequestError } from "./errors.ts";

/**
 * Errors about the request name its field; all others pass through. Weights of the model that cannot be read again are the
 * server's fault.
 */
export function toRequestError(error: unknown): unknown {
  if (error instanceof PipelineError) return new RequestError(error.field, error.reason);
  if (error instanceof WeightsError) {
    return new FaultError({ code: error.code, status: 500, message: error.message }, { cause: error });
  }
  return error;
}
