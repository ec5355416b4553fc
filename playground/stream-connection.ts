/**
 * Runs over `POST /stream`: one request, answered with server-sent events.
 *
 * A connection that breaks in the middle is taken up again where it broke (`GET /stream/{job}` with the number of the
 * last event that was seen). For that the server keeps a run for a while after its reader has gone, so a run that is
 * called off is also cancelled by name.
 */
import { createParser } from "eventsource-parser";
import { type Connection, type Failure, freshId, type Input, type RunListener } from "./connection.ts";
import type { Key } from "./key.ts";
import { failureIn, runEvent } from "./wire-events.ts";

/** The failure of a stream that ended before its result. */
const BROKEN: Failure = { status: 0, detail: "broken" };
/** Milliseconds before each attempt to take a broken stream up again. */
const ATTEMPTS = [300, 1_000, 3_000];
/** Seconds that the server is asked to keep a run whose reader has gone. */
const GRACE_S = 10;

export interface Addresses {
  readonly stream: URL;
  /** The address of a job, for taking up its stream. */
  readonly resume: (job: string) => URL;
  readonly cancel: (job: string) => URL;
}

export function streamConnection(addresses: Addresses, key: Key): Connection {
  const running = new Set<AbortController>();
  /** A request that waits for the running one to end; a newer one takes its place. */
  let waiting: { start: () => void; drop: () => void } | undefined;

  return {
    run(input, listener, { replace }) {
      const abort = new AbortController();
      const start = () => {
        running.add(abort);
        void follow(addresses, key, input, listener, abort.signal).finally(() => {
          running.delete(abort);
          if (running.size > 0) return;
          const next = waiting;
          waiting = undefined;
          next?.start();
        });
      };
      waiting?.drop();
      waiting = undefined;
      if (replace === "interrupt") for (const other of running) other.abort();
      if (replace === "wait" && running.size > 0) waiting = { start, drop: () => listener.superseded() };
      else start();
      return () => {
        if (waiting?.start === start) waiting = undefined;
        abort.abort();
      };
    },
    close() {
      waiting = undefined;
      for (const abort of running) abort.abort();
    },
  };
}

async function follow(
  addresses: Addresses,
  key: Key,
  input: Input,
  listener: RunListener,
  signal: AbortSignal,
): Promise<void> {
  const job = freshId();
  const image = input.image && (await dataUri(input.image));
  const progress: Progress = { lastId: "", failure: undefined, finished: false };
  const stream = new URL(addresses.stream);
  stream.searchParams.set("resume_grace_s", String(GRACE_S));
  const post = () =>
    fetch(stream, {
      method: "POST",
      headers: { ...key.headers(), "content-type": "application/json" },
      body: JSON.stringify({ ...input, request_id: job, ...(image && { image }) }),
      signal,
    });
  const resume = () =>
    fetch(addresses.resume(job), { headers: { ...key.headers(), "last-event-id": progress.lastId }, signal });

  signal.addEventListener("abort", () => {
    if (progress.finished || progress.failure !== undefined) return;
    void fetch(addresses.cancel(job), { method: "DELETE", headers: key.headers(), keepalive: true }).catch(() => {});
  });

  await read(post, listener, progress, signal);
  for (const wait of ATTEMPTS) {
    if (progress.finished || signal.aborted || progress.failure !== BROKEN || progress.lastId === "") break;
    await new Promise((resolve) => setTimeout(resolve, wait));
    if (signal.aborted) break;
    progress.failure = undefined;
    await read(resume, listener, progress, signal);
  }
  if (!signal.aborted && !progress.finished) listener.failed(progress.failure ?? BROKEN);
}

/** The progress of a run, over all connections that it took. */
interface Progress {
  lastId: string;
  failure: Failure | undefined;
  finished: boolean;
}

/** Reads one answer to its end. Nothing is thrown: what went wrong is in `progress`. */
async function read(
  ask: () => Promise<Response>,
  listener: RunListener,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  try {
    const response = await ask();
    if (!response.ok || response.status === 204 || response.body === null) {
      // A job that the server does not know any more cannot be taken up; what happened is that the stream broke.
      progress.failure = progress.lastId === "" ? await refusal(response) : { ...BROKEN };
      return;
    }
    const parser = createParser({
      onEvent({ id, data }) {
        if (signal.aborted) return;
        if (id !== undefined) progress.lastId = id;
        const wire = JSON.parse(data) as Record<string, unknown>;
        if (wire.type === "error") progress.failure = failureIn(wire);
        const event = runEvent(wire);
        if (event === undefined) return;
        progress.finished ||= event.type === "result";
        listener.event(event);
      },
    });
    const decoder = new TextDecoder();
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parser.feed(decoder.decode(value, { stream: true }));
    }
    if (!progress.finished) progress.failure ??= BROKEN;
  } catch {
    // After an `error` event the server breaks the connection off on purpose; that event is what is told.
    if (!progress.finished) progress.failure ??= BROKEN;
  }
}

async function refusal(response: Response): Promise<Failure> {
  const wire = (await response.json().catch(() => ({}))) as Record<string, unknown> | null;
  const wait = Number(response.headers.get("retry-after"));
  return { ...failureIn(wire ?? {}, response.status), ...(wait > 0 && { retryAfter: wait }) };
}

function dataUri(png: Uint8Array): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(new Blob([png as Uint8Array<ArrayBuffer>], { type: "image/png" }));
  });
}
