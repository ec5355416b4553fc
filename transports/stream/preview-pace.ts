/** Not more previews a second than a client has asked for. Between two, the newest takes the place of the others. */

export interface PreviewPace {
  /** Milliseconds until an event of this slot may be sent; see `ReaderOptions.holdMs`. */
  readonly holdMs: (slot: string) => number;
  /** An event of this slot was sent. */
  sent(slot: string): void;
}

/** @param maxFps previews a second; undefined: as many as there are */
export function previewPace(maxFps: number | undefined): PreviewPace {
  let next = 0;
  return {
    holdMs: (slot) => (maxFps === undefined || slot !== "preview" ? 0 : Math.max(next - performance.now(), 0)),
    sent(slot) {
      if (maxFps !== undefined && slot === "preview") next = performance.now() + 1000 / maxFps;
    },
  };
}
