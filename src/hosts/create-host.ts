/** `createHost`: one place where runs live, of any kind. */
import { isAbsolute } from "node:path";
import { pathToFileURL } from "node:url";
import type { AnyRun } from "../jobs/run.ts";
import { HereHost } from "./here.ts";
import type { Host, HostKind } from "./host.ts";
import type { Opening } from "./messages.ts";
import { openModule } from "./open-module.ts";
import type { Place, PlaceOptions } from "./place.ts";
import { PlaceHost, type PlaceHostOptions } from "./place-host.ts";
import { type ProcessOptions, ProcessPlace } from "./process-place.ts";
import { ThreadPlace } from "./thread-place.ts";

export interface HostOptions extends ProcessOptions {
  /**
   * The module of the run: a URL (`new URL("./render.js", import.meta.url)` lies beside the caller), a package's name, or a
   * path; a relative one (`./render.js`) is relative to the working folder.
   */
  readonly worker: string | URL;
  /** The export that is the run. */
  readonly name?: string;
  /**
   * Data that the export is called with once in each place: `open(setup, link)`, which gives the run, or promises it. Left
   * out: the export is the run.
   */
  readonly setup?: unknown;
  readonly kind?: HostKind;
  /** Hears what a place says of itself (`link.report`). */
  readonly onReport?: (report: unknown) => void;
  /** Milliseconds that a cancelled run has to come to its next event. */
  readonly graceMs?: number;
  /** Events that may be made before they are asked for, and one; above 1 a run computes while its event travels. */
  readonly window?: number;
}

/** A thread has nothing but its own run to lose; a process may hold others, and a step of a slow GPU. */
const GRACE_MS = { thread: 1_000, process: 5_000 };
/** A thread's run is asked for each event when the one before has been taken; a pipe is hidden behind one more. */
const WINDOW = { thread: 1, process: 2 };

/**
 * A host. Several runs may be under way in it; a run that computes without pause makes the others wait, so use a pool for
 * those.
 */
export function createHost<Input, Event>(options: HostOptions): Host<Input, Event> {
  const { kind = "process" } = options;
  if (kind !== "here") return new PlaceHost(placeOptions({ ...options, kind }));
  const link = { report: (report: unknown) => options.onReport?.(report) };
  return new HereHost<Input, Event>(async () => (await openModule(openingOf(options), link)) as AnyRun<Input, Event>);
}

/** A host around a run of this thread. */
export function here<Input, Event>(run: AnyRun<Input, Event>): Host<Input, Event> {
  return new HereHost(async () => run);
}

export function placeOptions(
  options: HostOptions & { readonly kind: "thread" | "process" },
  group?: Opening["group"],
): PlaceHostOptions {
  const { kind, window = WINDOW[kind], graceMs = GRACE_MS[kind], onReport } = options;
  const open = (place: PlaceOptions): Place =>
    kind === "thread" ? new ThreadPlace(place) : new ProcessPlace(place, options);
  return { kind, window, graceMs, open, onReport, opening: { ...openingOf(options), group } };
}

function openingOf({ worker, name = "default", setup }: HostOptions): Opening {
  return { module: isPath(worker) ? pathToFileURL(worker).href : String(worker), name, setup };
}

function isPath(module: string | URL): module is string {
  return typeof module === "string" && (isAbsolute(module) || /^\.\.?[/\\]/.test(module));
}
