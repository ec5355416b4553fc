/**
 * Runs over one WebSocket that stays open, in msgpack: the server answers the newest request and drops what it had
 * waiting for this page. Pictures come and go as bytes.
 */
import { decode, encode } from "@msgpack/msgpack";
import { type Connection, type Failure, freshId, type RunListener } from "./connection.ts";
import type { Key } from "./key.ts";
import { failureIn, runEvent } from "./wire-events.ts";

type Fields = Readonly<Record<string, unknown>>;

/** A request that has not ended, and the number of its last event that was seen. */
interface Open {
  readonly listener: RunListener;
  seen: number;
}

/** Milliseconds before each attempt to take up a session whose connection broke. */
const ATTEMPTS = [200, 1_000, 3_000];

export function realtimeConnection(address: URL, key: Key): Connection {
  const requests = new Map<string, Open>();
  /** Settles with an open socket; a new one is opened when the last has closed. */
  let socket: Promise<WebSocket> | undefined;
  /** The session's name, for taking it up again. */
  let session: string | undefined;
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
    if (session !== undefined) {
      url.searchParams.set("session", session);
      url.searchParams.set("after", [...requests].map(([id, { seen }]) => `${id}:${seen}`).join(","));
    }
    const token = await key.token().catch(() => undefined);
    if (token !== undefined) url.searchParams.set("fal_jwt_token", token);
    const attempt = new WebSocket(url);
    attempt.binaryType = "arraybuffer";
    attempt.addEventListener("message", ({ data }) => {
      if (data instanceof ArrayBuffer) hear(decode(data) as Fields);
      else control(JSON.parse(String(data)) as Fields);
    });
    const opened = await new Promise<boolean>((resolve) => {
      attempt.addEventListener("open", () => resolve(true), { once: true });
      attempt.addEventListener("close", () => resolve(false), { once: true });
    });
    if (!opened) throw await whyNot();
    attempt.addEventListener("close", ({ code, reason }) => {
      socket = undefined;
      const failure = closing(code, reason);
      if (failure.status === 0 && requests.size > 0 && !closed) void takeUp(failure);
      else fail(failure);
    });
    if (closed) attempt.close(1000);
    return attempt;
  }

  async function takeUp(failure: Failure): Promise<void> {
    for (const wait of ATTEMPTS) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (closed || (await open().catch(() => undefined)) !== undefined) return;
    }
    fail(failure);
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
    const broken = [...requests.values()];
    requests.clear();
    if (!closed) for (const { listener } of broken) listener.failed(failure);
  }

  /** Frames about the connection and the session: JSON, as text. */
  function control({ action, session: name, resumed, request_id }: Fields): void {
    if (action === "session") {
      session = String(name);
      // The server has forgotten the session, and with it what was under way.
      if (resumed === false) for (const [id, { seen }] of requests) if (seen > 0) drop(id)?.failed(closing(1006, ""));
    }
    if (action === "superseded") drop(String(request_id))?.superseded();
  }

  function drop(id: string): RunListener | undefined {
    const listener = requests.get(id)?.listener;
    requests.delete(id);
    return listener;
  }

  function hear(wire: Fields): void {
    const id = String(wire.request_id);
    const request = requests.get(id);
    if (request === undefined) return;
    request.seen = Math.max(request.seen, Number(wire.event_id) || 0);
    if (wire.type === "error") {
      drop(id);
      request.listener.failed(failureIn(wire));
      return;
    }
    const event = runEvent(wire);
    if (event === undefined) return;
    if (event.type === "result") drop(id);
    request.listener.event(event);
  }

  function send(message: Fields): void {
    open().then((ready) => {
      if (ready.readyState === WebSocket.OPEN) ready.send(encode(message, { ignoreUndefined: true }));
    }, fail);
  }

  // The first request should not have to wait for the connection; whether there is one is told when it is needed.
  open().catch(() => {});
  return {
    run(input, listener, { replace }) {
      const request_id = freshId();
      requests.set(request_id, { listener, seen: 0 });
      send({ ...input, request_id, interrupt: replace === "interrupt" });
      return () => {
        if (drop(request_id) !== undefined) send({ type: "cancel", request_id });
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
