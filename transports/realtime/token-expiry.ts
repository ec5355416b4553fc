/**
 * A session whose credential expires: its client is told, and has some seconds in which it takes the session up with a new
 * one. After that nothing new is begun over the connection, and it ends when all that was begun has been sent.
 */

export interface TokenExpiryOptions {
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  /** Milliseconds from then in which the session still takes requests. */
  readonly graceMs: number;
  /** The credential has expired. */
  readonly onExpired: () => void;
  /** True if all has been sent and the connection may be closed. */
  readonly mayClose: () => boolean;
  readonly close: () => void;
}

/** Milliseconds between two looks whether a session that has expired may be closed. */
const SWEEP_MS = 250;
/** `setTimeout` takes no more. */
const LONGEST_TIMER = 2 ** 31 - 1;

export class TokenExpiry {
  /** Nothing new may begin. */
  over = false;
  #timer: NodeJS.Timeout;

  constructor({ expiresAt, graceMs, onExpired, mayClose, close }: TokenExpiryOptions) {
    const wait = Math.min(Math.max(expiresAt - Date.now(), 0), LONGEST_TIMER);
    this.#timer = setTimeout(() => {
      onExpired();
      this.#timer = setTimeout(() => {
        this.over = true;
        this.#timer = setInterval(() => mayClose() && close(), SWEEP_MS);
      }, graceMs);
    }, wait);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
