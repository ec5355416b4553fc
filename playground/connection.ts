/**
 * A way to the server, as the page needs it: send a request, hear its events, call it off.
 *
 * Requests have an order. The server may still be busy with one while the next is on its way, so each request has a
 * listener of its own, and `runs.ts` decides which events are still news.
 */
import type { GenerationInput } from "../src/engine/request.ts";
import type { WireEventOf, WireFault, WireRunEvent } from "../transports/wire/events.ts";

/** A request, as the page writes one. */
export type Input = GenerationInput & {
  /** A decimal string: seeds go beyond what a number holds. */
  seed?: string;
  /** An encoded picture, carried as the connection can. */
  image?: Uint8Array;
};

/** A picture that an `img` can show. */
export interface Shown {
  readonly url: string;
  readonly width: number;
  readonly height: number;
  readonly type: string;
}

/** An event of the server, of which the page uses some fields, with its picture made showable. */
type EventFields<Type extends WireRunEvent["type"], Used extends keyof WireEventOf<Type> = "type"> = Readonly<
  Pick<WireEventOf<Type>, Used | "type">
>;
/** The run waits for weights, kernels or their tuning; `done` of `total`, of which 0 is unknown. */
export interface PreparingEvent {
  readonly type: "preparing";
  readonly what: string;
  readonly done: number;
  readonly total: number;
}
export type RunEvent =
  | EventFields<"queued", "position" | "seconds">
  | PreparingEvent
  | EventFields<"progress", "step" | "steps" | "progress">
  | (EventFields<"preview", "step" | "steps"> & { readonly image: Shown })
  | (EventFields<"result"> & { readonly image: Shown; readonly seed: string; readonly warnings: readonly string[] });

/** The reason why a run came to nothing. `status` 0: there was no answer at all. */
export interface Failure {
  readonly status: number;
  readonly detail: string | readonly WireFault[];
  /** Seconds the server asks to wait. */
  readonly retryAfter?: number;
}

export interface RunListener {
  event(event: RunEvent): void;
  /** The run is over without a result. Not called for a run that was called off here. */
  failed(failure: Failure): void;
  /** The server dropped it for a newer request of this page. */
  superseded(): void;
}

export interface Connection {
  /** Starts a run and gives the way to call it off. */
  run(input: Input, listener: RunListener, options: RunOptions): () => void;
  /** Gives back what it holds open. */
  close(): void;
}

export interface RunOptions {
  /** A request that replaces what is running: at once (`interrupt`), when that is done (`wait`). */
  readonly replace: "interrupt" | "wait";
}

/** An id for a request. `crypto.randomUUID` is missing where the page was not loaded over TLS, such as in a house's network. */
export function freshId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
