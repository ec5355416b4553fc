/**
 * Runs over `POST /stream`: one request, answered with server-sent events. Calling a run off breaks the connection,
 * which is how the server learns of it.
 */
import { createParser } from "eventsource-parser";
import type { Connection, Failure, Input, RunListener } from "./connection.ts";
import { failureIn, runEvent } from "./wire-events.ts";

/** What is said of a stream that ended before its result. */
const BROKEN: Failure = { status: 0, detail: "broken" };

export function streamConnection(url: URL): Connection {
  const running = new Set<AbortController>();
  /** A request that waits for the running one to end; a newer one takes its place. */
  let waiting: (() => void) | undefined;
  let dropWaiting: (() => void) | undefined;

  return {
    run(input, listener, { replace }) {
      const abort = new AbortController();
      const start = () => {
        running.add(abort);
        void follow(url, input, listener, abort.signal).finally(() => {
          running.delete(abort);
          if (running.size > 0) return;
          const next = waiting;
          waiting = dropWaiting = undefined;
          next?.();
        });
      };
      dropWaiting?.();
      waiting = dropWaiting = undefined;
      if (replace === "interrupt") for (const other of running) other.abort();
      if (replace === "wait" && running.size > 0) {
        waiting = start;
        dropWaiting = () => listener.superseded();
      } else start();
      return () => {
        if (waiting === start) waiting = dropWaiting = undefined;
        abort.abort();
      };
    },
    close() {
      waiting = dropWaiting = undefined;
      for (const abort of running) abort.abort();
    },
  };
}

async function follow(url: URL, input: Input, listener: RunListener, signal: AbortSignal): Promise<void> {
  let failure: Failure | undefined;
  let finished = false;
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...input, ...(input.image && { image: await dataUri(input.image) }) }),
      signal,
    });
    if (!response.ok || response.body === null) {
      listener.failed(await refusal(response));
      return;
    }
    const parser = createParser({
      onEvent({ data }) {
        if (signal.aborted) return;
        const wire = JSON.parse(data) as Record<string, unknown>;
        if (wire.type === "error") failure = failureIn(wire);
        const event = runEvent(wire);
        if (event === undefined) return;
        finished ||= event.type === "result";
        listener.event(event);
      },
    });
    const decoder = new TextDecoder();
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parser.feed(decoder.decode(value, { stream: true }));
    }
  } catch (error) {
    if (signal.aborted) return;
    // After an `error` event the server breaks the connection off on purpose.
    failure ??= error instanceof SyntaxError ? { status: 500, detail: "unreadable" } : BROKEN;
  }
  if (signal.aborted || finished) return;
  listener.failed(failure ?? BROKEN);
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
