/** What can be wrong with a picture that somebody sent. Its message is safe to show: it never holds a path. */

/**
 * - `image-format`: not a JPEG, PNG or WebP
 * - `image-too-large`: more pixels than allowed
 * - `image-damaged`: the format is right, the content is not
 */
export type ImageErrorCode = "image-format" | "image-too-large" | "image-damaged";

export class ImageError extends Error {
  readonly code: ImageErrorCode;

  constructor(code: ImageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ImageError";
    this.code = code;
  }
}
