/** A fault of a picture that a client sent. Its message is safe to show: it never holds a path. */

import { FaultError } from "../faults/fault.ts";

/**
 * - `image-format`: not a JPEG, PNG or WebP
 * - `image-too-large`: more pixels than allowed
 * - `image-damaged`: the format is right, the content is not
 */
export type ImageErrorCode = "image-format" | "image-too-large" | "image-damaged";

export class ImageError extends FaultError {
  declare readonly code: ImageErrorCode;

  /** @param options.field of the request that the picture is in; left out: `image` */
  constructor(code: ImageErrorCode, message: string, options: ErrorOptions & { readonly field?: string } = {}) {
    const { field = "image", ...cause } = options;
    const issues = [{ path: [field], message, type: code }];
    super({ code, status: 422, message, field, issues }, cause);
    this.name = "ImageError";
  }
}
