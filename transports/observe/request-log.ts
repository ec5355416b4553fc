/**
 * One line for each request, when its answer has ended: who, what, how it was answered, how it ended, and how long that
 * took; also for each request within a WebSocket. Addresses are logged without their query, which may hold a token, and
 * no header is logged at all.
 */
import type { ServerResponse } from "node:http";
import type { Context, MiddlewareHandler } from "hono";
import type { Job } from "../../src/jobs/jobs.ts";
import { CANCELLED } from "../failure.ts";
import { principalOf } from "../gate/auth.ts";
import { addressOf } from "../http/client.ts";

/**
 * - `completed`: the whole answer was sent
 * - `refused`: the request could not be answered (a status of 400 to 498)
 * - `failed`: the run or the server failed
 * - `cancelled`: somebody cancelled the run
 * - `client left`: the connection broke, or its client closed it, before the end
 */
export type RequestEnd = "completed" | "refused" | "failed" | "cancelled" | "client left";

export interface RequestEntry {
  readonly request_id: string | undefined;
  /** `MESSAGE` for a request within a WebSocket. */
  readonly method: string;
  readonly path: string;
  /** For a request within a WebSocket: the status that its end would have over HTTP. */
  readonly status: number;
  readonly ended: RequestEnd;
  /** Milliseconds until the end of the answer; of a WebSocket, until it was opened. */
  readonly ms: number;
  /** Milliseconds until the answer's headers were ready; a request within a WebSocket has none. */
  readonly headers_ms?: number;
  /** The model of its job; left out if it has none. */
  readonly model?: string;
  readonly client: string;
  /** Whom the token was for, if it was a token. */
  readonly subject?: string;
  readonly address: string;
}

export interface RequestLogOptions {
  readonly proxies: number;
  /** The job of a request, by its id. */
  readonly jobOf: (requestId: string) => Pick<Job<unknown, unknown>, "state"> | undefined;
  /** The model of a request's job, by its id; undefined if there is no such job. */
  readonly modelOf: (requestId: string) => string | undefined;
}

/** Characters of a path that are logged. */
const PATH_CHARACTERS = 200;

export function requestLog(
  write: (entry: RequestEntry) => void,
  { proxies, jobOf, modelOf }: RequestLogOptions,
): MiddlewareHandler {
  return async (c, next) => {
    const began = performance.now();
    const taken = () => Math.round(performance.now() - began);
    // A connection that breaks meanwhile has no address any more.
    const address = addressOf(c, proxies);
    await next();
    const { name, subject } = principalOf(c);
    const { method, path } = c.req;
    const { status } = c.res;
    const request_id = c.res.headers.get("x-request-id") ?? undefined;
    const headers_ms = taken();
    const end = (ended: RequestEnd) => {
      const model = request_id === undefined ? undefined : modelOf(request_id);
      write({
        ...{ request_id, method, path: path.slice(0, PATH_CHARACTERS), status, ended, ms: taken(), headers_ms },
        ...(model !== undefined && { model }),
        ...{ client: name, subject, address },
      });
    };
    const { outgoing } = (c.env ?? {}) as { outgoing?: ServerResponse };
    // Without one, the answer goes elsewhere than to a socket of Node's: to a WebSocket, or to the caller of `fetch`.
    if (outgoing === undefined) end(endOf(status));
    else if (outgoing.closed) end(endOf(status, outgoing));
    // First of all listeners: the others cancel the job of a client that has left.
    else
      outgoing.prependOnceListener("close", () => end(endOf(status, outgoing, request_id && jobOf(request_id)?.state)));
  };
}

/** Ends a request within a WebSocket: its line is written. Left out, `ended` follows from the status. */
export type EndMessage = (request_id: string, status: number, ended?: RequestEnd) => void;

/** Begins a request within the WebSocket of `c`. */
export type MessageLog = (c: Context) => () => EndMessage;

export function messageLog(
  write: (entry: RequestEntry) => void,
  { proxies, modelOf }: Pick<RequestLogOptions, "proxies" | "modelOf">,
): MessageLog {
  return (c) => {
    const { name: client, subject } = principalOf(c);
    const [path, address] = [c.req.path.slice(0, PATH_CHARACTERS), addressOf(c, proxies)];
    return () => {
      const began = performance.now();
      return (request_id, status, ended = endOf(status)) => {
        const ms = Math.round(performance.now() - began);
        const model = modelOf(request_id);
        const answer = { request_id, method: "MESSAGE", path, status, ended, ms };
        write({ ...answer, ...(model !== undefined && { model }), client, subject, address });
      };
    };
  };
}

function endOf(status: number, outgoing?: ServerResponse, job?: string): RequestEnd {
  if (outgoing !== undefined && !outgoing.writableFinished) {
    // A stream whose run has failed is destroyed, so that it never looks like a finished one. A client that has left is
    // noticed before its job has ended.
    return job === "failed" || job === "cancelled" ? job : "client left";
  }
  if (status === CANCELLED) return "cancelled";
  return status >= 500 ? "failed" : status >= 400 ? "refused" : "completed";
}
