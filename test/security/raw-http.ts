/** HTTP as bytes on a socket: requests that no client library would send, and connections held as no client would. */
import net from "node:net";

/** Attackers come from here, so that limits by address tell them from the honest client. */
export const ATTACKER = "127.0.0.2";
export const HONEST = "127.0.0.1";

/** A part of a request: bytes, or a pause of so many milliseconds. */
export type Part = string | Uint8Array | number;

export interface ExchangeOptions {
  readonly from?: string;
  /** Milliseconds until it is given up. */
  readonly timeoutMs?: number;
  /** True if the head of an answer is all that is waited for; the connection is cut then. */
  readonly headOnly?: boolean;
}

/** The answers over one connection. */
export interface Answer {
  /** The first answer's status; `closed` without one, `open` when nothing had come by the time it was given up. */
  readonly status: number | "closed" | "open";
  /** Its status line and headers. */
  readonly head: string;
  /** The first 256 KiB after the head; of a chunked answer, what is in its chunks. */
  readonly body: string;
  /** All bytes that came. */
  readonly bytes: number;
}

const KEPT_BYTES = 256 * 1024;
const TIMEOUT_MS = 20_000;

/** Sends `parts` over a connection of its own and takes what comes until it is closed. Never throws. */
export function exchange(port: number, parts: Iterable<Part>, options: ExchangeOptions = {}): Promise<Answer> {
  const { from = ATTACKER, timeoutMs = TIMEOUT_MS, headOnly = false } = options;
  return new Promise((resolve) => {
    let text = "";
    let bytes = 0;
    const socket = net.connect({ host: "127.0.0.1", port, localAddress: from, noDelay: true });
    const end = (otherwise: "closed" | "open") => {
      clearTimeout(timer);
      socket.destroy();
      const [head = "", ...rest] = text.split("\r\n\r\n");
      const status = /^HTTP\/1\.[01] (\d{3})/.exec(head)?.[1];
      const raw = rest.join("\r\n\r\n");
      const body = /^transfer-encoding: *chunked/im.test(head) ? unchunked(raw) : raw;
      resolve({ status: status === undefined ? otherwise : Number(status), head, body, bytes });
    };
    const timer = setTimeout(() => end("open"), timeoutMs);
    socket.on("data", (data) => {
      bytes += data.byteLength;
      if (text.length < KEPT_BYTES) text += data.toString("latin1");
      if (headOnly && text.includes("\r\n\r\n")) end("closed");
    });
    socket.on("error", () => {});
    socket.on("close", () => end("closed"));
    socket.once("connect", () => void send(socket, parts));
  });
}

function unchunked(text: string): string {
  let whole = "";
  for (let rest = text; ; ) {
    const end = rest.indexOf("\r\n");
    const size = end < 0 ? Number.NaN : Number.parseInt(rest.slice(0, end), 16);
    if (!(size > 0)) return whole;
    whole += rest.slice(end + 2, end + 2 + size);
    rest = rest.slice(end + 4 + size);
  }
}

/** Writes `parts` no faster than they are taken. Ends early where the other side does. */
export async function send(socket: net.Socket, parts: Iterable<Part>): Promise<void> {
  for (const part of parts) {
    if (socket.destroyed || !socket.writable) return;
    if (typeof part === "number") await new Promise((resolve) => setTimeout(resolve, part));
    else if (!socket.write(part)) await drained(socket);
  }
}

function drained(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      socket.off("drain", done).off("close", done);
      resolve();
    };
    socket.on("drain", done).on("close", done);
  });
}

export interface RequestParts {
  readonly method?: string;
  /** As it stands in the request line. */
  readonly target: string;
  /** Lines, `Name: value`. `Host` is added where it is not among them, `Connection: close` too. */
  readonly headers?: readonly string[];
  readonly body?: string | Uint8Array;
}

/** The bytes of a request that is well formed around what it is given. */
export function request(port: number, { method, target, headers = [], body }: RequestParts): Part[] {
  const named = (name: string) => headers.some((line) => line.toLowerCase().startsWith(`${name}:`));
  const lines = [
    `${method ?? (body === undefined ? "GET" : "POST")} ${target} HTTP/1.1`,
    ...(named("host") ? [] : [`Host: 127.0.0.1:${port}`]),
    ...(named("connection") ? [] : ["Connection: close"]),
    ...headers,
    ...(body === undefined || named("content-length") ? [] : [`Content-Length: ${Buffer.byteLength(body)}`]),
  ];
  return [`${lines.join("\r\n")}\r\n\r\n`, ...(body === undefined ? [] : [body])];
}

/** A connection that is held; what comes over it is not read. */
export function deafSocket(port: number, from: string = ATTACKER): net.Socket {
  const socket = net.connect({ host: "127.0.0.1", port, localAddress: from });
  socket.on("error", () => {});
  socket.pause();
  return socket;
}

/** True if anybody listens there: a process that has ended does not, some moments before its parent is told. */
export function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: "127.0.0.1", port });
    const end = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", () => end(true)).once("error", () => end(false));
  });
}
