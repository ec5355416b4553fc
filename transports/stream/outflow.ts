/**
 * The bytes on their way to one client: chunks made as the connection takes them, on the client's account meanwhile.
 *
 * If unread answers take all the memory that they may, the slowest of them are cut off (`account.ts`).
 */
import type { Context } from "hono";
import { type Account, type Hold, PROCESS_ACCOUNT } from "../../src/jobs/account.ts";
import { slice } from "../../src/platform/turns.ts";
import { clientOf } from "../http/client.ts";
import type { JsonText } from "../wire/json-text.ts";
import type { EncodeTracing } from "../wire/wire.ts";
import { pulledBody } from "./body.ts";

export interface AnswerOptions {
  /** The account of answers that wait to be read. */
  account?: Account;
  /** The client of the account. Default: the credential's, or the address of the connection. */
  clientOf?: (c: Context) => string;
  /** The traces of the encoding of pictures. */
  tracing?: EncodeTracing;
}

/** Chunks of bytes, made while they leave. */
export interface Chunks extends Iterable<Uint8Array<ArrayBuffer>> {
  /** Bytes that it takes in memory. */
  readonly heldBytes: number;
}

/** Bytes that every connection may hold, on nobody's account. */
export const UNCOUNTED_ANSWER_BYTES = 64 * 1024;

export class Outflow {
  readonly #hold: Hold;
  #chunks: Iterator<Uint8Array<ArrayBuffer>> | undefined;

  /** @param leave called when the client was cut off */
  constructor(c: Context, { account = PROCESS_ACCOUNT, clientOf: whose = clientOf }: AnswerOptions, leave: () => void) {
    this.#hold = account.open("answers", whose(c), () => {
      this.#chunks = undefined;
      leave();
      cutOff(c);
    });
  }

  /** Takes up what is to be said next. False: the client was cut off. */
  say(chunks: Chunks): boolean {
    if (chunks.heldBytes > UNCOUNTED_ANSWER_BYTES && !this.#hold.resize(chunks.heldBytes)) return false;
    this.#chunks = chunks[Symbol.iterator]();
    return true;
  }

  /** The next chunk of it; undefined: it has all been said. */
  async next(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    this.#hold.touch();
    await slice();
    const next = this.#chunks?.next();
    if (next?.done === false) return next.value;
    this.#chunks = undefined;
    this.#hold.resize(0);
    return undefined;
  }

  /** There is nothing more to say. */
  end(): void {
    this.#chunks = undefined;
    this.#hold.release();
  }
}

/** A JSON answer. */
export function jsonAnswer(
  c: Context,
  text: JsonText,
  headers: Record<string, string>,
  options: AnswerOptions,
): Response {
  const described = { "Content-Type": "application/json", ...headers };
  const { byteLength } = text;
  if (byteLength <= UNCOUNTED_ANSWER_BYTES) return new Response(text.toBuffer(), { headers: described });
  const outflow = new Outflow(c, options, () => {});
  outflow.say(text);
  const body = pulledBody(c, { next: async () => (await outflow.next()) ?? "end", leave: () => outflow.end() });
  return new Response(body, { headers: { ...described, "Content-Length": String(byteLength) } });
}

/** Ends a connection whose client does not read. */
function cutOff(c: Context): void {
  (c.env as { outgoing?: { destroy(): void } } | undefined)?.outgoing?.destroy();
}
