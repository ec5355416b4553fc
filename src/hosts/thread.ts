/**
 * A run in a worker thread: `sse(worker(new URL("./render.js", import.meta.url)))`. For what computes without pause: a
 * synchronous generator that would keep this thread, and with it every other client, from its turn.
 *
 * The module's default export (or the one named) is the run; a generator, an async one, or anything iterable will do. One
 * thread serves one run at a time, and threads are kept for the next. The run is asked for its next event when the one
 * before has been taken, so a slow client slows the thread and nothing piles up. Cancelling ends an iterator at its next
 * event; one that gives none within `graceMs` is ended together with its thread.
 */
import { isAbsolute } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import type { Run } from "../jobs/run.ts";

export interface WorkerOptions {
  /** The export that is the run. */
  readonly name?: string;
  /** Threads kept for later runs. */
  readonly idle?: number;
  /** Milliseconds that a cancelled run has to come to its next event. */
  readonly graceMs?: number;
}

const IDLE = 2;
const GRACE_MS = 1_000;

type Reply =
  | { readonly event: unknown }
  | { readonly done: true }
  | { readonly error: { name: string; message: string; fields: Record<string, unknown> } };

/**
 * What a thread does: imports the module once, then one iterator after another, one event for each request. The text is
 * given to the thread as it stands, so that it needs no file of its own in a bundle.
 */
const THREAD = `
const { parentPort, workerData } = require("node:worker_threads");
const loaded = import(workerData.module);
let iterator, cancel;
parentPort.on("message", async (asked) => {
  if (asked.abort) {
    cancel.abort(new DOMException("Cancelled", "AbortError"));
    return;
  }
  try {
    if ("input" in asked) {
      const run = (await loaded)[workerData.name];
      if (typeof run !== "function") throw new TypeError(workerData.name + " is not a function of the module");
      cancel = new AbortController();
      const given = await run(asked.input, { signal: cancel.signal, requestId: asked.requestId });
      iterator = (given[Symbol.asyncIterator] ?? given[Symbol.iterator]).call(given);
    }
    if (asked.stop) {
      await iterator?.return?.();
      parentPort.postMessage({ done: true });
      return;
    }
    const next = await iterator.next();
    parentPort.postMessage(next.done ? { done: true } : { event: next.value });
  } catch (error) {
    const { name = "Error", message = String(error), stack, ...fields } = error instanceof Error ? { ...error, name: error.name, message: error.message } : {};
    parentPort.postMessage({ error: { name, message, fields: JSON.parse(JSON.stringify(fields)) } });
  }
});
`;

interface Thread {
  /** @throws what the run throws, or an error when the thread ends */
  ask(message: unknown): Promise<Reply>;
  /** Aborts the run's signal; a run that computes without pause does not see it. */
  abort(): void;
  end(): void;
}

function startThread(module: string, name: string): Thread {
  const thread = new Worker(THREAD, { eval: true, workerData: { module, name } });
  thread.unref();
  let answer: ((reply: Reply) => void) | undefined;
  let fail: ((error: Error) => void) | undefined;
  let dead: Error | undefined;
  thread.on("message", (reply: Reply) => answer?.(reply));
  const died = (error: Error) => {
    dead ??= error;
    fail?.(dead);
  };
  thread.on("error", died);
  thread.on("exit", (code) => died(new Error(`the worker thread ended with code ${code}`)));
  return {
    ask: (message) =>
      new Promise((resolve, reject) => {
        if (dead !== undefined) return reject(dead);
        answer = resolve;
        fail = reject;
        thread.postMessage(message);
      }),
    abort: () => thread.postMessage({ abort: true }),
    end: () => void thread.terminate(),
  };
}

/**
 * @param module a URL (`new URL("./render.js", import.meta.url)` lies beside the caller), a package's name, or a path; a
 * relative one (`./render.js`) is relative to the working folder
 */
export function worker<Input, Event>(module: string | URL, options: WorkerOptions = {}): Run<Input, Event> {
  const { name = "default", idle = IDLE, graceMs = GRACE_MS } = options;
  const specifier = isPath(module) ? pathToFileURL(module).href : String(module);
  const kept: Thread[] = [];

  return async function* (input, { signal, requestId }) {
    signal.throwIfAborted();
    const thread = kept.pop() ?? startThread(specifier, name);
    let over = false;
    let hung: NodeJS.Timeout | undefined;
    const stop = () => {
      thread.abort();
      hung = setTimeout(() => thread.end(), graceMs);
    };
    signal.addEventListener("abort", stop, { once: true });
    try {
      let asked: object = { input, requestId };
      for (;;) {
        const reply = await thread.ask(asked);
        if ("error" in reply || "done" in reply) over = true;
        signal.throwIfAborted();
        if ("error" in reply) throw asError(reply.error);
        if ("done" in reply) return;
        yield reply.event as Event;
        asked = {};
      }
    } catch (error) {
      // A thread that was ended because it hung says so; what matters is why.
      throw signal.aborted ? signal.reason : error;
    } finally {
      signal.removeEventListener("abort", stop);
      hung ??= setTimeout(() => thread.end(), graceMs);
      const ended =
        over ||
        (await thread.ask({ stop: true }).then(
          () => true,
          () => false,
        ));
      clearTimeout(hung);
      if (ended && kept.length < idle && !signal.aborted) kept.push(thread);
      else thread.end();
    }
  };
}

function isPath(module: string | URL): module is string {
  return typeof module === "string" && (isAbsolute(module) || /^\.\.?[/\\]/.test(module));
}

/** The error of another thread, with the fields that decide what a client may see (`field`, `status`). */
function asError({ name, message, fields }: { name: string; message: string; fields: Record<string, unknown> }): Error {
  return Object.assign(new Error(message), { name, ...fields });
}
