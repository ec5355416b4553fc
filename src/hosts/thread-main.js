/**
 * A thread of `worker()`: it imports the module once, and then serves one run after the other, one event for
 * each request. `messages.ts` has the types of what is said. Plain JavaScript, because Node starts a thread with a file as
 * it stands.
 */
import { parentPort, workerData } from "node:worker_threads";

/** 1 once this thread has loaded native code, which may leave promises behind that no other thread may cut off. */
const isNative = new Int32Array(workerData.isNative);
const { dlopen } = process;
process.dlopen = (...library) => {
  Atomics.store(isNative, 0, 1);
  return dlopen.apply(process, library);
};

const moduleImport = import(workerData.module);
// A module that cannot be loaded is an error of each run.
moduleImport.catch(() => {});

/** The run under way: `{ iterator, stop, wants, readers }`; `readers` are waiting for a change. */
let run;

const say = (reply) => parentPort.postMessage(reply);

async function start({ input, requestId, wants }) {
  endUpdates();
  run = { iterator: undefined, stop: new AbortController(), wants, readers: [] };
  const own = run;
  const context = {
    requestId,
    signal: own.stop.signal,
    updates: { [Symbol.asyncIterator]: () => readUpdates(own) },
    wants: (slot) => own.wants[slot] ?? true,
  };
  const exported = (await moduleImport)[workerData.name];
  if (typeof exported !== "function") throw new TypeError(`${workerData.name} is not a function of the module`);
  const events = await exported(input, context);
  own.iterator = (events[Symbol.asyncIterator] ?? events[Symbol.iterator]).call(events);
}

async function sayNext() {
  const next = await run.iterator.next();
  say(next.done ? { type: "done" } : { type: "event", event: next.value });
}

function readUpdates(own) {
  say({ type: "updates-begin" });
  return {
    next() {
      if (own !== run) return Promise.resolve({ done: true, value: undefined });
      say({ type: "updates-next" });
      return new Promise((resolve) => own.readers.push(resolve));
    },
    async return() {
      if (own === run) say({ type: "updates-end" });
      for (const reader of own.readers.splice(0)) reader({ done: true, value: undefined });
      return { done: true, value: undefined };
    },
  };
}

/** Whoever still waits for a change of the run before learns that there is none. */
function endUpdates() {
  for (const reader of run?.readers.splice(0) ?? []) reader({ done: true, value: undefined });
}

async function answer(message) {
  switch (message.type) {
    case "start":
      await start(message);
      return sayNext();
    case "pull":
      run.wants = message.wants;
      return sayNext();
    case "stop":
      await run?.iterator?.return?.();
      return say({ type: "done" });
    case "abort":
      return run?.stop.abort(new DOMException("Cancelled", "AbortError"));
    case "update":
      return run?.readers.shift()?.({ done: !("change" in message), value: message.change });
    case "leave":
      return parentPort.close();
  }
}

function sayError(error) {
  const { name = "Error", message = String(error), stack, ...fields } = fieldsOf(error);
  say({ type: "error", error: { ...fields, name: String(name), message: String(message), stack: String(stack) } });
}

/** The fields that may make an error a fault, those of them that can be copied. */
function fieldsOf(error) {
  const { name, message, stack, code, status, field, issues, retryAfter } = error ?? {};
  const fields = { name, message, stack, code, status, field, issues, retryAfter };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && isCopyable(value)));
}

function isCopyable(value) {
  try {
    structuredClone(value);
    return true;
  } catch {
    return false;
  }
}

parentPort.on("message", (message) => {
  answer(message).catch(sayError);
});
