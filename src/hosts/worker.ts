/**
 * A run in a worker thread: `sse(worker(new URL("./render.js", import.meta.url)))`. For generators that compute without
 * pause: a synchronous one would keep this thread, and with it every other client, from its turn.
 *
 * The module's default export (or the one named) is the run; a generator, an async one, or anything iterable will do. One
 * thread serves one run at a time, and threads are kept for the next. The run is asked for its next event when the one
 * before has been taken, so a slow client slows the thread and nothing piles up. The run has the context that it would
 * have here: its signal, changes to its input, and whether previews are wanted (as it was when the event was asked for).
 *
 * Cancelling ends an iterator at its next event. A thread that comes to none within `graceMs` is terminated, or abandoned
 * if it has loaded native code such as a GPU's (`thread-place.ts` says why). So that threads that hang do not pile up, only
 * a few may be abandoned at once; beyond that, runs that find no idle thread are refused. A GPU whose work must be
 * stoppable belongs in a process of its own (`createHost`).
 *
 * An error that the run throws arrives as the same fault, so it is answered with the same status.
 */
import type { Run } from "../jobs/run.ts";
import { placeOptions } from "./create-host.ts";
import { hostFault } from "./errors.ts";
import { PlaceHost } from "./place-host.ts";

export interface WorkerOptions {
  /** The export that is the run. */
  readonly name?: string;
  /** Threads kept for later runs. */
  readonly idle?: number;
  /** Milliseconds that a cancelled run has to come to its next event. */
  readonly graceMs?: number;
  /** Threads with native code that may be overdue at once; then runs are refused with 503 until one comes back. */
  readonly maxAbandoned?: number;
}

const IDLE = 2;
const MAX_ABANDONED = 4;

/** @param module as `worker` of `createHost` */
export function worker<Input, Event>(module: string | URL, options: WorkerOptions = {}): Run<Input, Event> {
  const { name, idle: maxIdle = IDLE, graceMs, maxAbandoned = MAX_ABANDONED } = options;
  const idle: PlaceHost<Input, Event>[] = [];
  const hung = new Set<PlaceHost<Input, Event>>();

  function openHost(): PlaceHost<Input, Event> {
    if (hung.size >= maxAbandoned) {
      throw hostFault("host-hung", "Runs that were cancelled have not come to their end; try again later");
    }
    const onBack = () => {
      if (hung.delete(host)) giveBack(host);
    };
    const host: PlaceHost<Input, Event> = new PlaceHost({
      ...placeOptions({ worker: module, kind: "thread", name, graceMs }),
      onBack,
      onLost: () => {
        hung.delete(host);
        if (idle.includes(host)) idle.splice(idle.indexOf(host), 1);
      },
    });
    return host;
  }

  function giveBack(host: PlaceHost<Input, Event>): void {
    if (host.state === "hung") hung.add(host);
    else if (host.state === "ready" && idle.length < maxIdle) idle.push(host);
    else void host.close();
  }

  return async function* (input, context) {
    context.signal.throwIfAborted();
    const host = idle.pop() ?? openHost();
    try {
      yield* host.run(input, context);
    } finally {
      giveBack(host);
    }
  };
}
