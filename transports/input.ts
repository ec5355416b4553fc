/** From an HTTP request to a run's input: a JSON body, or the query of a GET. */
import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import type { InputSource } from "./failure.ts";

export interface InputOptions<Input> {
  /**
   * Checks what the client sent and gives the run's input; throws a `RequestError` or a `ZodError` for 422.
   * Left out, the run gets the JSON value (or the query as an object of strings) as it came.
   */
  parse?: (raw: unknown, source: InputSource) => Input;
  /** Bytes of a body, at most; more is 413. */
  maxBodyBytes?: number;
}

/** Room for a starting picture of the size that `LIMITS.imageBytes` allows, in base64, and the words around it. */
export const DEFAULT_MAX_BODY_BYTES = 28 * 1024 * 1024;

export function inputSource(c: Context): InputSource {
  return c.req.method === "GET" ? "query" : "body";
}

/**
 * Reads and checks the input.
 *
 * @throws HTTPException 400 for a body that is not JSON, 413 for one that is too long
 * @throws whatever `parse` throws
 */
export async function readInput<Input>(c: Context, options: InputOptions<Input>): Promise<Input> {
  const { parse, maxBodyBytes = DEFAULT_MAX_BODY_BYTES } = options;
  const source = inputSource(c);
  const raw =
    source === "query" ? c.req.query() : parseJson((await readBody(c.req.raw, maxBodyBytes)).toString("utf8"));
  return parse === undefined ? (raw as Input) : parse(raw, source);
}

// The Content-Type is not looked at: `curl -d` says it is a form, and what is not JSON does not parse.
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new HTTPException(400, { message: "The body is not valid JSON" });
  }
}

/**
 * The bytes of a body, `limit` at most.
 *
 * @throws HTTPException 413
 */
export async function readBody(request: Request, limit: number): Promise<Buffer> {
  const tooLong = () => new HTTPException(413, { message: `The body is longer than ${limit} bytes` });
  if (Number(request.headers.get("content-length") ?? 0) > limit) throw tooLong();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.byteLength;
    if (size > limit) throw tooLong();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
