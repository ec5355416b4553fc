/** Messages between a host and the place where its runs live; all of them are data that `structuredClone` takes. */

/** Which slots are wanted now; a slot that is not named is wanted. */
export type Wants = Readonly<Record<string, boolean>>;

/** To the run. One of `start`, `pull` and `stop` at a time: each is answered by one `RunReply`. */
export type RunMessage =
  /** Begins a run and asks for its first event. */
  | { readonly type: "start"; readonly input: unknown; readonly requestId: string; readonly wants: Wants }
  /** Asks for the next event. */
  | { readonly type: "pull"; readonly wants: Wants }
  /** Ends the run where it stands. */
  | { readonly type: "stop" }
  /** Aborts the run's signal. */
  | { readonly type: "abort" }
  /** The next change that the run asked for; without a change there are no more. */
  | { readonly type: "update"; readonly change?: unknown }
  /** No run will come any more. */
  | { readonly type: "leave" };

/** The fields by which `faultOf` recognises an error, and those of any other error for a log. */
export interface ErrorFields {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  readonly code?: unknown;
  readonly status?: unknown;
  readonly field?: unknown;
  readonly issues?: unknown;
  readonly retryAfter?: unknown;
}

export type RunReply =
  | { readonly type: "event"; readonly event: unknown }
  | { readonly type: "done" }
  | { readonly type: "error"; readonly error: ErrorFields };

/** Unasked: the run begins to read changes, asks for the next one, or reads no more. */
export type UpdatesRequest = { readonly type: "updates-begin" | "updates-next" | "updates-end" };
