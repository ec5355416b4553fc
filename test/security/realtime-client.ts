/** A WebSocket client that sends what it is told to, and tells in a word what came of it. */
import { once } from "node:events";
import type net from "node:net";
import { decode } from "@msgpack/msgpack";
import { WebSocket } from "ws";
import { ATTACKER } from "./raw-http.ts";

export interface RealtimeOptions {
  readonly from?: string;
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Frames larger than this are counted, not decoded. */
const DECODED_BYTES = 1024 * 1024;
const OPEN_MS = 20_000;

export class RealtimeClient {
  readonly socket: WebSocket;
  /** The messages that came, in a word each: `session`, `HTTP_422`, `result`, `closed 1008`. */
  readonly told: string[] = [];
  /** Control frames and events as they came, bytes of pictures included. */
  readonly messages: Record<string, unknown>[] = [];
  #news: (() => void)[] = [];

  private constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on("error", () => {});
    socket.on("unexpected-response", (_request, response) => {
      this.#tell(`refused ${response.statusCode}`);
      response.destroy();
      socket.terminate();
    });
    socket.on("message", (data: Buffer, binary) => this.#take(data, binary));
    socket.on("close", (code) => this.#tell(`closed ${code}`));
  }

  /** Opens a session, or is told why there is none; never throws. */
  static async open(port: number, { from = ATTACKER, query = "", headers }: RealtimeOptions = {}) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/realtime${query}`, {
      localAddress: from,
      headers,
      handshakeTimeout: OPEN_MS,
      perMessageDeflate: false,
      // A key of zeros, which ws leaves out: masking 28 MiB is the attacker's time.
      generateMask: () => {},
    });
    const client = new RealtimeClient(socket);
    await client.until((word) => word === "session" || word.startsWith("closed"), OPEN_MS);
    return client;
  }

  get open(): boolean {
    return this.socket.readyState === WebSocket.OPEN;
  }

  /** The TCP connection below, to write what is no frame. */
  get raw(): net.Socket {
    return (this.socket as unknown as { _socket: net.Socket })._socket;
  }

  send(frame: Uint8Array | string): void {
    if (this.open) this.socket.send(frame);
  }

  /**
   * Sends a frame, and waits for the first answer or the end.
   *
   * @returns the word for it; `open` where none came in time
   */
  async ask(frame: Uint8Array | string, timeoutMs: number = OPEN_MS): Promise<string> {
    const from = this.told.length;
    this.send(frame);
    const said = (word: string) => word !== "queued" && word !== "progress" && word !== "preview";
    return (await this.until(said, timeoutMs, from)) ?? "open";
  }

  /** The first word from the `from`th on that `wanted` wants; undefined where it does not come in time. */
  async until(wanted: (word: string) => boolean, timeoutMs: number, from: number = 0): Promise<string | undefined> {
    const by = performance.now() + timeoutMs;
    for (;;) {
      const found = this.told.slice(from).find(wanted);
      const left = by - performance.now();
      if (found !== undefined || left <= 0 || this.socket.readyState === WebSocket.CLOSED) return found;
      await new Promise<void>((resolve) => {
        const late = setTimeout(resolve, left);
        this.#news.push(() => {
          clearTimeout(late);
          resolve();
        });
      });
    }
  }

  async close(): Promise<void> {
    if (this.socket.readyState === WebSocket.CLOSED) return;
    const closed = once(this.socket, "close");
    this.socket.close(1000);
    const late = setTimeout(() => this.socket.terminate(), 2_000);
    await closed.catch(() => {});
    clearTimeout(late);
  }

  #take(data: Buffer, binary: boolean): void {
    if (data.byteLength > DECODED_BYTES) {
      this.#tell(`${data.byteLength} bytes`);
      return;
    }
    const message = (binary ? decode(data) : JSON.parse(data.toString())) as Record<string, unknown>;
    this.messages.push(message);
    const { type, action, error, status } = message;
    this.#tell(
      type === "x-fal-message"
        ? String(action)
        : type === "x-fal-error"
          ? String(error)
          : type === "error"
            ? `HTTP_${status}`
            : String(type ?? error ?? status),
    );
  }

  #tell(word: string): void {
    this.told.push(word);
    for (const resume of this.#news.splice(0)) resume();
  }
}

/**
 * The head of a client's frame with a masking key of zeros, so that its payload goes out as it is.
 *
 * @param length what it says of its payload, whatever follows
 */
export function frameHead(opcode: number, length: number, final: boolean = true): Buffer {
  const head = Buffer.alloc(14);
  head[0] = (final ? 0x80 : 0) | opcode;
  head[1] = 0xff;
  head.writeBigUInt64BE(BigInt(length), 2);
  return head;
}

/** The upgrade's answer, for what is not to be opened through `RealtimeClient`. */
export function upgradeHeaders(more: readonly string[] = []): string[] {
  return [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ...more,
  ];
}
