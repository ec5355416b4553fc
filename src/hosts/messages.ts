/**
 * Messages between a host and the place where its runs live. All are data that `structuredClone` takes: a thread posts
 * them as they are, a process as frames (`frames.ts`). `job` numbers the runs of a place.
 */
import type { RunContext } from "../jobs/run.ts";

/** Which slots are wanted now; a slot that is not named is wanted. */
export type Wants = Readonly<Record<string, boolean>>;

/**
 * How a run's export is called, and which of its values go out.
 * - `events`: with its input; all that it yields.
 * - `value`: with its input; what it returns, or the last value that it yields.
 * - `spread`: with the items of its input as arguments; otherwise as `value`.
 */
export type Calling = "events" | "value" | "spread";

/** Facts of a run's context that are data. */
export type Caller = Pick<RunContext, "requestId" | "client" | "priority">;

/** Parts of a run that may take very different times, each with a deadline of its own; a run that waits for others has none. */
export type Phase = "load" | "compile" | "wait" | "first-step" | "step" | "encode";

/** How a rank takes part in a group. */
export interface RankFacts {
  readonly rank: number;
  readonly worldSize: number;
  readonly device: unknown;
}

/** The module that a place serves; the first message to it. */
export interface Opening {
  /** A module's URL, or a package's name. */
  readonly module: string;
  /** The export that is the run, or the rank's class. */
  readonly name: string;
  /** The export is called with it once, and gives the run. */
  readonly setup?: unknown;
  /** The export is a `DistributedWorker`, which is set up with these fields. */
  readonly group?: RankFacts & { readonly setup: unknown };
}

/** A collective operation of a rank. */
export interface Collective {
  readonly job: number;
  /** Which one of its call, from 0. */
  readonly step: number;
  readonly operation: string;
  readonly root?: number;
  /** The line that asks for it. */
  readonly where: string;
  readonly value?: unknown;
}

/** The beginning of a run. */
export interface RunStart {
  readonly input: unknown;
  readonly caller: Caller;
  readonly calling: Calling;
  readonly wants: Wants;
  readonly credit: number;
  /** The checkpoint that it goes on from. */
  readonly from?: unknown;
}

/** To the place. */
export type PlaceMessage =
  | ({ readonly type: "open" } & Opening)
  /** Begins a run, and asks for so many events. */
  | ({ readonly type: "run"; readonly job: number } & RunStart)
  /** Asks for so many more events. */
  | { readonly type: "pull"; readonly job: number; readonly credit: number; readonly wants: Wants }
  /** Ends the run where it stands. */
  | { readonly type: "stop"; readonly job: number }
  /** Aborts the run's signal. */
  | { readonly type: "abort"; readonly job: number }
  /** The next change that the run asked for; without a change there are no more. */
  | { readonly type: "update"; readonly job: number; readonly change?: unknown }
  /** A collective is complete. */
  | { readonly type: "collected"; readonly job: number; readonly step: number; readonly value?: unknown }
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

/** Answers of a run. Each event uses up one credit; `done` and `error` are the last word of a run. */
export type RunReply =
  | { readonly type: "event"; readonly job: number; readonly event: unknown }
  | { readonly type: "done"; readonly job: number }
  | { readonly type: "error"; readonly job: number; readonly error: ErrorFields };

/**
 * Unasked: the run begins to read changes, asks for the next one, or reads no more; says which phase begins, or hands over a
 * checkpoint; or a rank takes part in a collective.
 */
export type RunRequest =
  | { readonly type: "updates-begin" | "updates-next" | "updates-end"; readonly job: number }
  | { readonly type: "phase"; readonly job: number; readonly phase: Phase }
  | { readonly type: "checkpoint"; readonly job: number; readonly checkpoint: unknown }
  | ({ readonly type: "collect" } & Collective);

/** From the place. */
export type PlaceReply =
  | RunReply
  | RunRequest
  /** The module is loaded, and a rank is set up. */
  | { readonly type: "ready" }
  /** News of the place itself, whatever runs. */
  | { readonly type: "report"; readonly report: unknown }
  /** It cannot be; each run will fail with this. */
  | { readonly type: "unready"; readonly error: ErrorFields };
