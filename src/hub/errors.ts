/** Faults of downloading, as one type: a sentence for people that says what to do. */

/** Stable, one for each thing a caller might treat differently. */
export type HubErrorCode =
  /** A name, an address or a setting that is none. */
  | "usage"
  /** No such model, revision or file, or none that this token may see. */
  | "not-found"
  /** The model's authors ask for consent to their terms, or the token may not read it. */
  | "no-access"
  /** The hub asks to wait for longer than is waited. */
  | "rate-limit"
  /** The hub cannot be reached, or fails. */
  | "unreachable"
  /** `HF_HUB_OFFLINE` is set. */
  | "offline"
  /** An address that is not called: a private one, or plain http. */
  | "refused-address"
  /** An answer that is not as the hub's API is documented, or a file that is not what its checksum says. */
  | "bad-answer"
  /** More than one file could be meant. */
  | "choice"
  /** The disk has no room. */
  | "disk"
  /** Another process is at it. */
  | "busy";

export class HubError extends Error {
  override readonly name = "HubError";
  readonly code: HubErrorCode;

  constructor(code: HubErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}
