/** A connection as a session sees it. */
export interface Line {
  /** Settles when the frame has left for the network; rejects when the line is broken. */
  send(frame: Uint8Array<ArrayBuffer>): Promise<void>;
  /** A control frame: JSON as text. */
  control(message: Readonly<Record<string, unknown>>): void;
  /** True if a droppable frame may be added to the ones already on their way. */
  readonly clear: boolean;
  /** A preview was sent: the line is clear again when the other side has taken it. */
  previewSent(): void;
  close(code: number, reason: string): void;
}
