/**
 * The words on the plate while a picture cannot develop yet: the server gets ready for a run, or still starts. A screen
 * reader hears them too, but not each number.
 */
import type { PreparingEvent } from "./connection.ts";

/** Milliseconds between two announcements of one wait. */
const ANNOUNCED_MS = 4_000;
/** More units than this are bytes or the like, which are better read as a percentage. */
const COUNTED = 1_000;

const WORDS: Readonly<Record<string, string>> = {
  weights: "Loading weights",
  kernels: "Preparing kernels",
  tuning: "Choosing the fastest kernels",
};

/** `Preparing kernels, 12 of 60`. */
export function preparingWords({ what, done, total }: PreparingEvent): string {
  const words = WORDS[what] ?? "Preparing";
  if (total <= 0) return words;
  return total > COUNTED ? `${words}, ${Math.round((100 * done) / total)} %` : `${words}, ${done} of ${total}`;
}

export class Waiting {
  private run = "";
  private server = "";
  private announced = "";
  private announcedAt = 0;

  /** @param announce says something to a screen reader */
  constructor(
    private readonly place: HTMLElement,
    private readonly announce: (text: string) => void,
  ) {}

  /** A run waits for this. */
  forRun(text: string): void {
    this.run = text;
    this.show();
  }

  /** The server as a whole is not ready; empty: it is. */
  forServer(text: string): void {
    this.server = text;
    this.show();
  }

  /** Nothing waits: a picture develops, or nobody wants one any more. */
  over(): void {
    this.run = "";
    this.show();
  }

  private show(): void {
    const text = this.run || this.server;
    this.place.textContent = text;
    const words = text.split(",")[0] ?? "";
    const now = performance.now();
    if (words !== "" && (words !== this.announced || now - this.announcedAt > ANNOUNCED_MS)) {
      this.announce(text);
      this.announcedAt = now;
    }
    this.announced = words;
  }
}
