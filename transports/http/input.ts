/**
 * From an HTTP request to a run's input: a JSON body, a form, or the query of a GET.
 *
 * A body is taken apart as it comes, in slices (`src/platform/turns.ts`), and what it holds is bounded before it is decoded
 * (`message.ts`). Beyond its first 64 KiB it is on its client's account (`account.ts`): where bodies take more memory
 * together than they may, the slowest is ended with 408.
 */
import type { IncomingMessage } from "node:http";
import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import { type Account, PROCESS_ACCOUNT } from "../../src/jobs/account.ts";
import { slice } from "../../src/platform/turns.ts";
import type { InputSource } from "../failure.ts";
import { ByteCollector } from "./byte-collector.ts";
import { clientOf } from "./client.ts";
import { JsonReader } from "./json-reader.ts";
import type { MessageBounds } from "./message.ts";

export interface BodyOptions {
  /** Bytes of a body, at most; more is 413. */
  maxBodyBytes?: number;
  /** Items, names and levels of a JSON body, at most; left out: `MESSAGE_BOUNDS`. */
  bounds?: Partial<MessageBounds>;
  /** The account of bodies that arrive. */
  account?: Account;
  /** The client of the account. Default: the credential's, or the address of the connection. */
  clientOf?: (c: Context) => string;
}

export interface InputOptions<Input> extends BodyOptions {
  /**
   * Checks what the client sent and gives the run's input; throws a `RequestError` or a `ZodError` for 422.
   * Left out, the run gets the JSON value (or the query as an object of strings) as it came.
   * @param c the request, which says whose it is and what its path names
   */
  parse?: (raw: unknown, source: InputSource, c: Context) => Input;
  /** `parse` takes base64 of 64 KiB and more as `Base64Text`: a picture is then in memory once, and as bytes. */
  keepBase64?: boolean;
}

/** Room for a starting picture of the size that `LIMITS.imageBytes` allows, in base64, and the words around it. */
export const DEFAULT_MAX_BODY_BYTES = 28 * 1024 * 1024;
/** Bytes of a body that are on nobody's account. */
export const UNCOUNTED_BODY_BYTES = 64 * 1024;
/** Bytes that are looked through in one slice. */
const SLICE_BYTES = 64 * 1024;

export function inputSource(c: Context): InputSource {
  return c.req.method === "GET" || c.req.method === "HEAD" ? "query" : "body";
}

/**
 * Reads and checks the input.
 *
 * @throws MessageError 400 for a body that is not JSON, 413 for one that holds too much
 * @throws what `readBody` and `parse` throw
 */
export async function readInput<Input>(c: Context, options: InputOptions<Input>): Promise<Input> {
  const source = inputSource(c);
  const raw = source === "query" ? c.req.query() : await readJson(c, options, options.keepBase64);
  return options.parse === undefined ? (raw as Input) : options.parse(raw, source, c);
}

/**
 * A body that is JSON. The Content-Type is not looked at: `curl -d` says it is a form, and what is not JSON does not parse.
 *
 * @throws MessageError; what `readBody` throws
 */
export async function readJson(c: Context, options: BodyOptions, keepBase64: boolean = false): Promise<unknown> {
  const reader = new JsonReader(declaredBytes(c), { keepBase64, bounds: options.bounds });
  await readBody(c, options, (part) => reader.write(part));
  return reader.end();
}

/** @throws MessageError */
export function parseJson(bytes: Uint8Array): unknown {
  const reader = new JsonReader(bytes.length);
  reader.write(bytes);
  return reader.end();
}

/** @throws what `readBody` throws */
export async function readBytes(c: Context, options: BodyOptions): Promise<Uint8Array> {
  const collector = new ByteCollector(declaredBytes(c));
  await readBody(c, options, (part) => collector.add(part));
  return collector.bytes();
}

/**
 * Gives `take` the bytes of a body, part by part, and waits for it.
 *
 * @throws HTTPException 415, 413, 408; AbortError when the client has gone
 */
export async function readBody(
  c: Context,
  { maxBodyBytes = DEFAULT_MAX_BODY_BYTES, account = PROCESS_ACCOUNT, clientOf: whose = clientOf }: BodyOptions,
  take: (part: Uint8Array) => void | Promise<void>,
): Promise<void> {
  refuseCoded(c);
  const tooLong = () => new HTTPException(413, { message: `The body is longer than ${maxBodyBytes} bytes` });
  if (declaredBytes(c) > maxBodyBytes) throw tooLong();
  let end = (): void => {};
  const ended = new Promise<"ended">((resolve) => {
    end = () => resolve("ended");
  });
  const hold = account.open("bodies", whose(c), end);
  const incoming = unread(c);
  const parts = incoming === undefined ? webParts(c, ended) : nodeParts(incoming, ended);
  let size = 0;
  try {
    for await (const part of parts) {
      size += part.byteLength;
      if (size > maxBodyBytes) throw tooLong();
      if (size > UNCOUNTED_BODY_BYTES && !hold.resize(size - UNCOUNTED_BODY_BYTES)) throw tooSlow();
      for (let at = 0; at < part.byteLength; at += SLICE_BYTES) {
        await slice();
        await take(part.subarray(at, at + SLICE_BYTES));
      }
    }
    if (hold.ended) throw tooSlow();
  } finally {
    hold.release();
  }
}

/** Node's request, with what a parser of bodies before us may have left on it. */
interface Incoming extends IncomingMessage {
  rawBody?: unknown;
}

/** Node's own request, where nobody has begun to read it: it gives what has come in one piece, however it came. */
function unread(c: Context): Incoming | undefined {
  const { incoming } = (c.env ?? {}) as { incoming?: Incoming };
  if (typeof incoming?.read !== "function" || incoming.httpVersionMajor !== 1) return undefined;
  const taken =
    incoming.readableDidRead ||
    incoming.rawBody !== undefined ||
    incoming.listenerCount("data") + incoming.listenerCount("readable") > 0 ||
    c.req.raw.bodyUsed;
  return taken ? undefined : incoming;
}

/** Bytes of sizes of chunks that may come before they are compared with those of the body. */
const CHUNKS_OVERHEAD = 4 * 1024;

/**
 * A body in chunks of a few bytes takes a thousand times as long as others; its connection is closed.
 *
 * @throws AbortError when the connection is gone: a body cannot be read on then, whatever the reason that is given for it
 */
async function* nodeParts(incoming: Incoming, ended: Promise<"ended">): AsyncGenerator<Uint8Array, void, undefined> {
  const { socket } = incoming;
  const before = socket.bytesRead;
  let size = 0;
  let over = false;
  let wake = (): void => {};
  const woken = () => wake();
  void ended.then(() => {
    over = true;
    wake();
  });
  incoming.on("readable", woken).on("end", woken).on("close", woken).on("error", woken);
  try {
    while (!over) {
      const part: Buffer | null = incoming.read();
      if (part !== null) {
        size += part.byteLength;
        // Behind the end of a body come other requests.
        if (!incoming.complete && socket.bytesRead - before > 2 * size + CHUNKS_OVERHEAD) {
          // The rest of it would take as long, so it is not read.
          socket.destroy();
        }
        if (!socket.destroyed) yield part;
        continue;
      }
      if (incoming.readableEnded) return;
      if (incoming.destroyed || socket.destroyed) throw new DOMException("The client has gone", "AbortError");
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    incoming.off("readable", woken).off("end", woken).off("close", woken);
    // `woken` stays for errors: nobody else listens.
  }
}

/** @throws AbortError */
async function* webParts(c: Context, ended: Promise<"ended">): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = c.req.raw.body?.getReader();
  if (reader === undefined) return;
  for (;;) {
    const read = await Promise.race([reader.read(), ended]).catch(() => {
      throw new DOMException("The client has gone", "AbortError");
    });
    if (read === "ended" || read.done) return;
    yield read.value;
  }
}

/** A compressed body would have to be counted by what comes out of it. @throws HTTPException 415 */
function refuseCoded(c: Context): void {
  const coding = c.req.header("content-encoding")?.trim().toLowerCase() ?? "";
  // The middleware that has read the body before us has also decoded it.
  const decoded = (c.env as { incoming?: Incoming } | undefined)?.incoming?.rawBody !== undefined;
  if (coding === "" || coding === "identity" || decoded) return;
  throw new HTTPException(415, { message: "The body must not be compressed: send it without Content-Encoding" });
}

function tooSlow(): HTTPException {
  return new HTTPException(408, {
    message: "Bodies that arrive take all the memory that they may, and this one was among the slowest; send it again",
  });
}

function declaredBytes(c: Context): number {
  const length = Number(c.req.header("content-length"));
  return Number.isFinite(length) ? length : 0;
}
