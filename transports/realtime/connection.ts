/**
 * One WebSocket as a session's line: what it holds is counted, what it may hold is bounded, and it is read only as fast as
 * its answers are taken.
 */
import type { Socket } from "node:net";
import type { WebSocket } from "ws";
import type { Account, Hold } from "../../src/jobs/account.ts";
import { slice } from "../../src/platform/turns.ts";
import { UNCOUNTED_BODY_BYTES } from "../http/input.ts";
import { UNCOUNTED_ANSWER_BYTES } from "../stream/outflow.ts";
import type { Line } from "./line.ts";

export interface ConnectionOptions {
  readonly account: Account;
  /** Whom it counts against. */
  readonly client: string;
  /** The connection below it, as far as it is at hand. */
  readonly raw: Socket | undefined;
  /** Bytes that may be buffered when a droppable frame is added. */
  readonly bufferedBytes: number;
  /** Milliseconds between pings; a client that has not answered one by the next is gone. */
  readonly pingMs: number;
  /** Takes a frame. The next one waits until this has settled. */
  readonly receive: (frame: Buffer, binary: boolean) => Promise<void>;
  /** More may be sent than before. */
  readonly onRoom: () => void;
}

/** Bytes of answers under way to a client above which it is not read from. */
const UNREAD_BYTES = 2 ** 20;
/** Messages that wait for the one before them until the connection is no longer read from. */
const MESSAGES_AHEAD = 8;
/** Bytes of a frame after which the rest of it is read in turns with others'. */
const PACED_BYTES = 2 * 2 ** 20;
/** Bytes that a chunk of a frame takes besides its own. */
const CHUNK_BYTES = 256;
/** Bytes of a control frame besides its payload: two of header, four of mask. */
const CONTROL_BYTES = 6;
/** Previews on their way to a client that has not taken them. */
const MAX_PREVIEWS_UNDER_WAY = 2;
/** The payload of a ping that follows a preview. */
const AFTER_PREVIEW = "preview";
/** WebSocket close code: no room at the moment. */
const TRY_LATER = 1013;

export class Connection implements Line {
  readonly #socket: WebSocket;
  readonly #options: ConnectionOptions;
  /** The account of bytes on their way out, and of frames that have come in. */
  readonly #outgoing: Hold;
  readonly #incoming: Hold;
  readonly #ping: NodeJS.Timeout;
  /** Bytes that have come of a frame that is not complete. */
  #partialBytes = 0;
  /** Frames that wait for the one before them, and their bytes. */
  #waitingFrames = 0;
  #waitingBytes = 0;
  /** Settles when the frames that have come are taken. */
  #tail = Promise.resolve();
  /** Within a large frame: the rest of it is read in turns with what others send. */
  #waitsForTurn = false;
  /** The last ping was answered. */
  #alive = true;
  /** Previews that the client has not said to have taken. */
  #previewsUnderWay = 0;

  constructor(socket: WebSocket, options: ConnectionOptions) {
    const { account, client, raw, pingMs } = options;
    this.#socket = socket;
    this.#options = options;
    const end = () => {
      socket.close(TRY_LATER, "the connection is too slow for what it takes");
      socket.terminate();
    };
    this.#outgoing = account.open("answers", client, end);
    this.#incoming = account.open("bodies", client, end);
    raw?.prependListener("data", this.#onBytes);
    socket.on("pong", (data) => this.#onPong(data));
    socket.on("ping", (data) => this.#forget(data));
    socket.on("message", (data: Buffer, binary: boolean) => this.#onMessage(data, binary));
    this.#ping = setInterval(() => {
      if (this.#alive) socket.ping();
      else socket.terminate();
      this.#alive = false;
    }, pingMs);
  }

  get clear(): boolean {
    return this.#previewsUnderWay < MAX_PREVIEWS_UNDER_WAY && this.#socket.bufferedAmount < this.#options.bufferedBytes;
  }

  /** @param part of a message in several frames; left out: the frame is a binary message */
  send(
    frame: Uint8Array<ArrayBuffer>,
    part: { readonly binary: boolean; readonly fin: boolean } = { binary: true, fin: true },
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.send(frame, part, (error) => {
        this.#countOut();
        this.#options.onRoom();
        this.#readOn();
        if (error) reject(error);
        else resolve();
      });
      this.#countOut();
    });
  }

  control(message: Readonly<Record<string, unknown>>): void {
    this.#socket.send(JSON.stringify(message), () => this.#readOn());
    if (this.#socket.bufferedAmount > UNREAD_BYTES) this.#socket.pause();
  }

  previewSent(): void {
    const socket = this.#socket;
    this.#previewsUnderWay++;
    // After the preview itself, which is sent in this turn.
    setImmediate(() => socket.readyState === socket.OPEN && socket.ping(AFTER_PREVIEW, undefined, () => {}));
  }

  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
  }

  /** The socket has closed. */
  release(): void {
    clearInterval(this.#ping);
    this.#options.raw?.off("data", this.#onBytes);
    this.#outgoing.release();
    this.#incoming.release();
  }

  #countOut(): void {
    this.#outgoing.resize(Math.max(0, this.#socket.bufferedAmount - UNCOUNTED_ANSWER_BYTES));
  }

  #countIn(): void {
    this.#incoming.resize(Math.max(0, this.#partialBytes + this.#waitingBytes - UNCOUNTED_BODY_BYTES));
  }

  #mayRead(): boolean {
    return this.#socket.bufferedAmount < UNREAD_BYTES && this.#waitingFrames < MESSAGES_AHEAD && !this.#waitsForTurn;
  }

  #readOn(): void {
    if (this.#socket.isPaused && this.#mayRead()) this.#socket.resume();
  }

  readonly #onBytes = (bytes: Buffer): void => {
    // A large frame in many chunks takes more than its bytes.
    this.#partialBytes += bytes.length + (this.#partialBytes > UNCOUNTED_BODY_BYTES ? CHUNK_BYTES : 0);
    this.#countIn();
    if (this.#partialBytes <= PACED_BYTES || this.#waitsForTurn) return;
    const turn = slice();
    if (turn === undefined) return;
    this.#waitsForTurn = true;
    this.#socket.pause();
    void turn.then(() => {
      this.#waitsForTurn = false;
      this.#readOn();
    });
  };

  /** Bytes of a control frame are no part of the frame that it may have come within. */
  #forget(data: Buffer): void {
    this.#partialBytes = Math.max(0, this.#partialBytes - data.length - CONTROL_BYTES);
  }

  #onPong(data: Buffer): void {
    this.#forget(data);
    this.#alive = true;
    if (data.toString() !== AFTER_PREVIEW) return;
    this.#previewsUnderWay = Math.max(0, this.#previewsUnderWay - 1);
    this.#options.onRoom();
  }

  #onMessage(data: Buffer, binary: boolean): void {
    this.#partialBytes = 0;
    this.#waitingBytes += data.length;
    this.#waitingFrames++;
    this.#countIn();
    if (!this.#mayRead()) this.#socket.pause();
    this.#tail = this.#tail
      .then(() => slice())
      .then(() => this.#options.receive(data, binary))
      .finally(() => {
        this.#waitingFrames--;
        this.#waitingBytes -= data.length;
        this.#countIn();
        this.#readOn();
      });
  }
}
