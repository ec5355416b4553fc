/**
 * What a run says while it runs.
 *
 * A run is one async generator. It yields `queued` and `progress` events, a `preview` every few steps, and one `result`
 * last; it throws when it cannot go on. There is no `error` event here: an error is a thrown error until a transport
 * writes it down for somebody on the other side of a wire (`transports/wire.ts`). Pictures are raw pixels for the same
 * reason: whoever holds the event decides whether it becomes a JPEG, a file, or a texture.
 */

/** A picture in memory: row by row from the top left, four bytes a pixel, never changed once it has been yielded. */
export interface Picture {
  /** Pixels across. */
  readonly width: number;
  /** Pixels down. */
  readonly height: number;
  /** RGBA8, not premultiplied, `width * height * 4` bytes. */
  readonly rgba: Uint8Array;
}

/**
 * How latents became pixels: a 3-column matrix, the tiny autoencoder, or the model's own decoder.
 * The first is nearly free and blurry, the last is the truth.
 */
export type PreviewDecoder = "linear" | "tiny" | "full";

/** Waiting for its turn; `position` is how many runs are ahead (0: next). */
export interface QueuedEvent {
  readonly type: "queued";
  readonly position: number;
}

/** One denoising step is done. `step` counts from 1 to `steps`; `progress` is 0..1. */
export interface ProgressEvent {
  readonly type: "progress";
  readonly step: number;
  readonly steps: number;
  readonly progress: number;
  /** Milliseconds since the run was admitted. */
  readonly elapsed_ms: number;
}

/** The picture as it stands after `step`. */
export interface PreviewEvent {
  readonly type: "preview";
  readonly picture: Picture;
  readonly step: number;
  readonly steps: number;
  readonly progress: number;
  readonly decoder: PreviewDecoder;
}

/** The last event of a good run. */
export interface ResultEvent {
  readonly type: "result";
  readonly pictures: readonly Picture[];
  /** The seed that was used, chosen or given; a bigint only where it is too large for a number. */
  readonly seed: number | bigint;
  readonly prompt: string;
  /** Milliseconds, by phase. */
  readonly timings: Readonly<Record<string, number>>;
  /** What the caller should know, such as words that did not fit into the text encoder. */
  readonly warnings?: readonly string[];
}

export type RunEvent = QueuedEvent | ProgressEvent | PreviewEvent | ResultEvent;
