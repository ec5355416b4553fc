/**
 * The one contract of places where runs live. A host's `run` *is* a `Run`, so every transport and `createJobs` serve it
 * without knowing where it computes. All kinds keep the same promises (`host.contract.test.ts` holds them to it):
 *
 * - Events come in their order. The run makes one only if it was asked for, and is ahead of its reader by at most `window`.
 * - If the reader leaves, or the signal aborts, the run ends before its next event.
 * - An error is the same fault here as there. Changes and `wants` reach the run.
 * - If the place ends, its runs fail with `host-lost` or `host-hung`; the next run opens another place.
 */
import type { Run, RunContext } from "../jobs/run.ts";
import type { Phase } from "./messages.ts";

/**
 * - `here`: this thread.
 * - `thread`: a worker thread. For generators that compute without pause.
 * - `process`: a child process. For native code, which may crash, hang, or not be interrupted.
 */
export type HostKind = "here" | "thread" | "process";

/**
 * - `idle`: nothing is open; the next run opens it.
 * - `ready`: open.
 * - `hung`: it was given up in native code, and refuses runs until it comes back.
 * - `closed`: for good.
 */
export type HostState = "idle" | "ready" | "hung" | "closed";

export interface HostStats {
  /** Runs under way. */
  readonly active: number;
  /** Runs that are over, whatever their end. */
  readonly ended: number;
  /** Those of them that threw, cancelled ones left aside. */
  readonly failed: number;
  /** Places opened so far. */
  readonly opened: number;
  /** Places that ended without being asked to. */
  readonly lost: number;
}

export interface Host<Input, Event> {
  readonly kind: HostKind;
  readonly state: HostState;
  readonly stats: HostStats;
  /** The process's id, if it is one and open. */
  readonly pid?: number;
  readonly run: Run<Input, Event>;
  /**
   * Opens it, so that the first run need not wait.
   * @throws the error of its module
   */
  start(): Promise<void>;
  /**
   * Refuses new runs with `host-closed`, cancels those under way, and ends the place.
   * @param graceMs milliseconds that runs have to come to their ends; a place that takes longer is killed or abandoned
   */
  close(graceMs?: number): Promise<void>;
}

/** A thread or a process, as a module that is set up in it sees it. */
export interface PlaceLink {
  /** Tells the host something about the place, outside any run: `onReport` hears it, in order with the events of runs. */
  readonly report: (report: unknown) => void;
}

/** A run in a thread or a process has more to say to its supervisor, and may have more to go on from. */
export interface HostContext extends RunContext {
  /** Says which phase begins, so that each can have its own deadline. */
  readonly announce?: (phase: Phase) => void;
  /**
   * Hands over a state that the same run can go on from, after the events that it has yielded so far. Binary data in it must
   * not change until it resolves.
   */
  readonly checkpoint?: (state: unknown) => void | Promise<void>;
  /** The last such state of the run that this one continues; undefined: it begins at its beginning. */
  readonly from?: unknown;
}
