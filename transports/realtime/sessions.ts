/** The realtime sessions of a server: with a connection, or without one and waiting for their client to come back. */
import { randomBytes } from "node:crypto";
import type { WebSocket } from "ws";
import type { Failure } from "../failure.ts";
import type { Session } from "./session.ts";

/** A session, whatever its requests and events are. */
type AnySession = Pick<Session<unknown, unknown>, keyof Session<unknown, unknown>>;

/** One session, with its connection or without. */
export interface OpenSession {
  readonly token: string;
  readonly session: AnySession;
  readonly owner: string | undefined;
  readonly client: string;
  /** Decides if its present connection may make a request now. */
  admit: () => Promise<Failure | undefined>;
  socket?: WebSocket;
  /** The credential of its connection has expired. */
  expired?: boolean;
  /** Ends it when its client does not come back. */
  deadline?: NodeJS.Timeout;
}

export interface SessionsOptions {
  /** Milliseconds that a client has to come back after its connection broke. */
  readonly graceMs: number;
  /** Sessions of one client, those included that wait for it to come back: the oldest of these makes room. */
  readonly maxSessions: number;
  /** Sessions that may wait for their client to come back; the oldest is given up for a new one. */
  readonly maxDetached: number;
}

/** Sessions of one owner that have expired and keep their connection. */
const MAX_EXPIRED = 8;
const TOKEN_BYTES = 24;
/** The close codes of a client that leaves on purpose: finished, page closed, none. */
const ON_PURPOSE = new Set([1000, 1001, 1005]);

export class Sessions {
  readonly #options: SessionsOptions;
  readonly #byToken = new Map<string, OpenSession>();
  /** Those without a connection, in the order in which they lost it. */
  readonly #detached = new Set<OpenSession>();

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  /** The session of this token, if it is this owner's. */
  resume(token: string, owner: string | undefined, admit: OpenSession["admit"]): OpenSession | undefined {
    const known = this.#byToken.get(token);
    if (known === undefined || known.owner !== owner) return undefined;
    known.admit = admit;
    known.expired = false;
    clearTimeout(known.deadline);
    this.#detached.delete(known);
    return known;
  }

  /** A new session; `make` is given what asks the session's present connection for admission. */
  open(
    whose: Pick<OpenSession, "owner" | "client" | "admit">,
    make: (admit: OpenSession["admit"]) => OpenSession["session"],
  ): OpenSession {
    const token = randomBytes(TOKEN_BYTES).toString("base64url");
    const session = make(() => open.admit());
    const open: OpenSession = { ...whose, token, session };
    this.#byToken.set(token, open);
    this.#keepWithin(open.client);
    return open;
  }

  /** True if the session still is this connection's. */
  isOf(open: OpenSession, socket: WebSocket): boolean {
    return this.#byToken.get(open.token) === open && open.socket === socket;
  }

  /** Its connection has closed with this code. */
  connectionClosed(open: OpenSession, code: number): void {
    open.socket = undefined;
    const { graceMs, maxDetached } = this.#options;
    if (ON_PURPOSE.has(code) || graceMs <= 0) {
      this.#giveUp(open);
      return;
    }
    open.session.detach();
    this.#detached.add(open);
    open.deadline = setTimeout(() => this.#giveUp(open), graceMs).unref();
    this.#keepWithin(open.client);
    const [oldest] = this.#detached;
    if (this.#detached.size > maxDetached) this.#giveUp(oldest!);
  }

  /**
   * True if a session that has expired, and has nothing more to say, keeps its connection: fal's client ends its newer
   * session when an older one is closed. So it stays as long as there is a newer one, unless there are many of its kind.
   */
  mayStay({ owner }: OpenSession): boolean {
    const others = [...this.#byToken.values()].filter((open) => open.owner === owner && open.socket !== undefined);
    const expired = others.filter((open) => open.expired).length;
    return others.length > expired && expired <= MAX_EXPIRED;
  }

  #giveUp(open: OpenSession): void {
    clearTimeout(open.deadline);
    this.#byToken.delete(open.token);
    this.#detached.delete(open);
    open.session.end();
  }

  /** Sessions without a connection make room for others of their client. */
  #keepWithin(client: string): void {
    let count = 0;
    for (const open of this.#byToken.values()) if (open.client === client) count++;
    for (const open of this.#detached) {
      if (count <= this.#options.maxSessions) return;
      if (open.client !== client) continue;
      this.#giveUp(open);
      count--;
    }
  }
}
