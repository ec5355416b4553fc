/**
 * Runs over one WebSocket that stays open, in msgpack: the server answers the newest request and drops what it had
 * waiting for this page. Pictures come and go as bytes.
 */
import { decode, encode } from "@msgpack/msgpack";
import { type Connection, type Failure, freshId, type Input, type RunListener, type RunOptions } from "./connection.ts";
import type { Key } from "./key.ts";
import { failureIn, runEvent } from "./wire-events.ts";

type Fields = Readonly<Record<string, unknown>>;

/** A request that has not ended, and the number of its last event that was seen. */
interface Open {
  readonly listener: RunListener;
  lastNumber: number;
}

/** Milliseconds before each attempt to take up a session whose connection broke. */
const ATTEMPTS = [200, 1_000, 3_000];

export class RealtimeConnection implements Connection {
  private readonly requests = new Map<string, Open>();
  /** Settles with an open socket; a new one is opened if the last has closed. */
  private socket: Promise<WebSocket> | undefined;
  /** The session's name, for taking it up again. */
  private session: string | undefined;
  private closed = false;

  constructor(
    private readonly address: URL,
    private readonly key: Key,
  ) {
    // The first request should not have to wait for the connection; a failure is reported when a request needs it.
    this.open().catch(() => {});
  }

  run(input: Input, listener: RunListener, { replace }: RunOptions): () => void {
    const request_id = freshId();
    this.requests.set(request_id, { listener, lastNumber: 0 });
    this.send({ ...input, request_id, interrupt: replace === "interrupt" });
    return () => {
      if (this.drop(request_id) !== undefined) this.send({ type: "cancel", request_id });
    };
  }

  close(): void {
    this.closed = true;
    void this.socket?.then(
      (ready) => ready.close(1000),
      () => {},
    );
  }

  private open(): Promise<WebSocket> {
    this.socket ??= this.connect().catch((failure) => {
      this.socket = undefined;
      throw failure;
    });
    return this.socket;
  }

  /** @throws Failure if no connection can be made */
  private async connect(): Promise<WebSocket> {
    const url = new URL(this.address);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    if (this.session !== undefined) {
      url.searchParams.set("session", this.session);
      url.searchParams.set("after", [...this.requests].map(([id, { lastNumber: seen }]) => `${id}:${seen}`).join(","));
    }
    const token = await this.key.token().catch(() => undefined);
    if (token !== undefined) url.searchParams.set("fal_jwt_token", token);
    const attempt = new WebSocket(url);
    attempt.binaryType = "arraybuffer";
    attempt.addEventListener("message", ({ data }) => {
      if (data instanceof ArrayBuffer) this.hear(decode(data) as Fields);
      else this.control(JSON.parse(String(data)) as Fields);
    });
    const opened = await new Promise<boolean>((resolve) => {
      attempt.addEventListener("open", () => resolve(true), { once: true });
      attempt.addEventListener("close", () => resolve(false), { once: true });
    });
    if (!opened) throw await this.whyNot();
    attempt.addEventListener("close", ({ code, reason }) => {
      this.socket = undefined;
      const failure = closing(code, reason);
      if (failure.status === 0 && this.requests.size > 0 && !this.closed) void this.takeUp(failure);
      else this.fail(failure);
    });
    if (this.closed) attempt.close(1000);
    return attempt;
  }

  private async takeUp(failure: Failure): Promise<void> {
    for (const wait of ATTEMPTS) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (this.closed || (await this.open().catch(() => undefined)) !== undefined) return;
    }
    this.fail(failure);
  }

  /** A browser does not say why an upgrade was refused; the same address asked for without one does. */
  private async whyNot(): Promise<Failure> {
    try {
      const response = await fetch(this.address, { headers: this.key.headers() });
      if (response.status === 404) return { status: 404, detail: "there is no realtime connection here" };
      if (response.status === 401 || response.status === 403 || response.status === 429) {
        return failureIn((await response.json()) as Record<string, unknown>, response.status);
      }
    } catch {
      // Then the server cannot be reached at all.
    }
    return { status: 0, detail: "" };
  }

  private fail(failure: Failure): void {
    const broken = [...this.requests.values()];
    this.requests.clear();
    if (!this.closed) for (const { listener } of broken) listener.failed(failure);
  }

  /** Frames about the connection and the session: JSON, as text. */
  private control({ action, session, resumed, request_id }: Fields): void {
    if (action === "session") {
      this.session = String(session);
      // The server has forgotten the session, and with it the requests under way.
      if (resumed === false) {
        for (const [id, { lastNumber: seen }] of this.requests) if (seen > 0) this.drop(id)?.failed(closing(1006, ""));
      }
    }
    if (action === "superseded") this.drop(String(request_id))?.superseded();
  }

  private drop(id: string): RunListener | undefined {
    const listener = this.requests.get(id)?.listener;
    this.requests.delete(id);
    return listener;
  }

  private hear(wire: Fields): void {
    const id = String(wire.request_id);
    const request = this.requests.get(id);
    if (request === undefined) return;
    request.lastNumber = Math.max(request.lastNumber, Number(wire.event_id) || 0);
    if (wire.type === "error") {
      this.drop(id);
      request.listener.failed(failureIn(wire));
      return;
    }
    const event = runEvent(wire);
    if (event === undefined) return;
    if (event.type === "result") this.drop(id);
    request.listener.event(event);
  }

  private send(message: Fields): void {
    this.open().then(
      (ready) => {
        if (ready.readyState === WebSocket.OPEN) ready.send(encode(message, { ignoreUndefined: true }));
      },
      (failure) => this.fail(failure),
    );
  }
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
