// The runs of the contract's tests. Each kind of host serves this same module.
import { setTimeout as sleep } from "node:timers/promises";

const error = (fields) => Object.assign(new Error(fields.message), fields);
const FAULTS = {
  request: () =>
    error({
      name: "RequestError",
      code: "invalid-request",
      status: 422,
      message: "steps: too many",
      field: "steps",
      issues: [{ path: ["steps"], message: "too many", type: "less_than" }],
    }),
  job: () => error({ name: "JobError", code: "queue-full", status: 503, message: "full", retryAfter: 7 }),
  own: () => error({ status: 409, message: "too bright" }),
  late: () => new DOMException("x", "TimeoutError"),
  secret: () => error({ message: "ENOENT: /home/me/secret", code: "ENOENT", path: "/home/me/secret" }),
  nothing: () => undefined,
};

/** Counts; `made` is how many it has made, which a reader compares with how many it has read. */
export async function* counts({ n, ms = 0, made }) {
  const counter = made && new Int32Array(made);
  for (let index = 0; index < n; index++) {
    if (counter) counter[0]++;
    yield { index };
    if (ms) await sleep(ms);
  }
}

/** Says how far it came once it has ended. */
let last = {};
export async function* remembers({ ms = 5, ask }, { signal }) {
  if (ask) {
    yield last;
    return;
  }
  last = { made: 0, ended: false, aborted: false };
  const own = last;
  try {
    for (;;) {
      if (signal.aborted) own.aborted = true;
      own.made++;
      yield own.made;
      await sleep(ms);
      signal.throwIfAborted();
    }
  } finally {
    own.ended = true;
  }
}

export async function* fails({ how, after = 0 }) {
  for (let index = 0; index < after; index++) yield index;
  throw FAULTS[how]();
}

export async function* reads(_, { updates }) {
  for await (const { prompt, last: isLast } of updates) {
    yield { prompt };
    if (isLast) break;
  }
  yield { type: "result" };
}

export async function* wants({ n }, context) {
  for (let index = 0; index < n; index++) {
    yield context.wants("preview");
    await sleep(1);
  }
}

export async function* echoes(input, { requestId, client, priority }) {
  yield { input, requestId, client, priority };
}

export function* blocks({ n = 1, ms = 0 }) {
  for (let index = 0; index < n; index++) {
    const end = performance.now() + ms;
    while (performance.now() < end);
    yield { index };
  }
}

/** Never comes to its next event. */
export async function* hangs() {
  yield 0;
  await new Promise(() => setInterval(() => {}, 1000));
}

export const lists = ({ n }) => Array.from({ length: n }, (_, index) => index);

export const streams = ({ n }) => ReadableStream.from(lists({ n }));

export async function* odd() {
  yield () => {};
}

export async function* ids() {
  yield process.pid;
}

/** The buffer is used again for each event, as a decoder does. */
export async function* pixels({ n, bytes }) {
  const buffer = new Uint8Array(bytes);
  for (let index = 0; index < n; index++) {
    buffer.fill(index);
    yield { rgba: buffer, floats: new Float32Array([index, Number.NaN, -0]) };
  }
}

export const exits = ({ code }) => process.exit(code);

export const words = "no function";
