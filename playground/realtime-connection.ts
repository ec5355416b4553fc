/**
 * Runs over one WebSocket that stays open, in msgpack: the server answers the newest request and drops what it had
 * waiting for this page. Pictures come and go as bytes.
 */
import { decode, encode } from "@msgpack/msgpack";
import { type Connection, type Failure, freshId, type RunListener } from "./connection.ts";
import type { Key } from "./key.ts";
import { failureIn, runEvent } from "./wire-events.ts";

export function realtimeConnection(address: URL, key: Key): Connection {
  const listeners = new Map<string, RunListener>();
  /** Settles with an open socket; a new one is opened when the last has closed. */
  let socket: Promise<WebSocket> | undefined;
  let closed = false;

  function open(): Promise<WebSocket> {
    socket ??= connect().catch((failure) => {
      socket = undefined;
      throw failure;
    });
    return socket;
  }

  /** @throws Failure where there is no connection to be had */
  async function connect(): Promise<WebSocket> {
    const url = new URL(address);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const token = await key.token().catch(() => undefined);
    if (token !== undefined) url.searchParams.set("fal_jwt_token", token);
    const attempt = new WebSocket(url);
    attempt.binaryType = "arraybuffer";
    attempt.addEventListener("message", ({ data }) => {
      if (data instanceof ArrayBuffer) hear(decode(data) as Record<string, unknown>);
    });
    const opened = await new Promise<boolean>((resolve) => {
      attempt.addEventListener("open", () => resolve(true), { once: true });
      attempt.addEventListener("close", () => resolve(false), { once: true });
    });
    if (!opened) throw await whyNot();
    attempt.addEventListener("close", ({ code, reason }) => {
      socket = undefined;
      fail(closing(code, reason));
    });
    if (closed) attempt.close(1000);
    return attempt;
  }

  /** A browser does not say why an upgrade was refused; the same address asked for without one does. */
  async function whyNot(): Promise<Failure> {
    try {
      const response = await fetch(address, { headers: key.headers() });
      if (response.status === 404) return { status: 404, detail: "there is no realtime connection here" };
      if (response.status === 401 || response.status === 403 || response.status === 429) {
        return failureIn((await response.json()) as Record<string, unknown>, response.status);
      }
    } catch {
      // Then it cannot be reached at all.
    }
    return { status: 0, detail: "" };
  }

  function fail(failure: Failure): void {
    const broken = [...listeners.values()];
    listeners.clear();
    if (!closed) for (const listener of broken) listener.failed(failure);
  }

  function hear(wire: Record<string, unknown>): void {
    const id = String(wire.request_id);
    const listener = listeners.get(id);
    if (listener === undefined) return;
    if (wire.type === "error") {
      listeners.delete(id);
      const failure = failureIn(wire);
      // 499 without our having called it off: a newer request took its place.
      if (failure.status === 499) listener.superseded();
      else listener.failed(failure);
      return;
    }
    const event = runEvent(wire);
    if (event === undefined) return;
    if (event.type === "result") listeners.delete(id);
    listener.event(event);
  }

  function send(message: Record<string, unknown>): void {
    open().then((ready) => {
      if (ready.readyState === WebSocket.OPEN) ready.send(encode(message, { ignoreUndefined: true }));
    }, fail);
  }

  // The first request should not have to wait for the connection; whether there is one is told when it is needed.
  open().catch(() => {});
  return {
    run(input, listener, { replace }) {
      const request_id = freshId();
      listeners.set(request_id, listener);
      send({ ...input, request_id, interrupt: replace === "interrupt" });
      return () => {
        if (listeners.delete(request_id)) send({ type: "cancel", request_id });
      };
    },
    close() {
      closed = true;
      void socket?.then(
        (ready) => ready.close(1000),
        () => {},
      );
    },
  };
}

/** Why the server closed (RFC 6455, section 7.4.1, as this server uses them). */
function closing(code: number, reason: string): Failure {
  switch (code) {
    case 1008:
      return { status: 403, detail: reason };
    case 1009:
      return { status: 413, detail: reason };
    case 1012:
    case 1013:
      return { status: 503, detail: reason };
    default:
      return { status: 0, detail: "broken" };
  }
}
