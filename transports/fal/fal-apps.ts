/**
 * The paths of fal.run, for clients whose base address is this server's:
 *
 *     POST /{app}            the finished picture
 *     POST /{app}/stream     server-sent events
 *     GET  /{app}/realtime   a WebSocket of msgpack messages
 *     GET  /{app}            a WebSocket of JSON: a request of the first or the second kind in each message (ws.fal.run)
 *     GET  /{app}/stream
 *
 * `{app}` is the model's name, or any id as fal writes them (`owner/app`, with more parts or without): one model
 * answers here, whatever a client calls it. No such path hides a route or a file of this server, since an id that
 * begins as one of them is nobody's app.
 */
import type { Context, Handler } from "hono";
import { failureResponse } from "../failure.ts";
import type { Route } from "../route.ts";
import { APP_REALTIME, APP_RUN, APP_STREAM, APP_WEBSOCKET } from "./fal-answers.ts";

export interface AppHandlers {
  /** Answers with the result. */
  readonly run: Handler;
  /** Answers with events. */
  readonly stream: Handler;
  /** Upgrades to a session. */
  readonly realtime: Handler;
  /** Upgrade to a WebSocket whose messages are requests of the first kind, and of the second. */
  readonly runSocket: Handler;
  readonly streamSocket: Handler;
}

/** @param model the name of the model that answers; empty: it has none */
export function falAppRoutes(model: string, handlers: AppHandlers): Route[] {
  const { run, stream, realtime, runSocket, streamSocket } = handlers;
  const at = (ending: string) => ({
    path: `/:app{.+}${ending}`,
    isThere: (path: string, c: Context) =>
      path.endsWith(ending) && isApp(path.slice(1, path.length - ending.length), c),
  });
  const isApp = (path: string, c: Context) => {
    const app = decoded(path);
    if (app === model && app !== "") return true;
    // Where nothing is started, only what is surely an app is there.
    const starts = c.req.method === "POST" || isUpgrade(c);
    return starts && APP_ID.test(app) && !OF_APP.test(app);
  };
  const socket = { method: "GET", scope: "realtime", work: isUpgrade, webSocket: true } as const;
  return [
    { method: "POST", ...at("/stream"), about: APP_STREAM, handlers: [stream] },
    { ...socket, ...at("/realtime"), about: APP_REALTIME, handlers: [realtime, noUpgrade] },
    { ...socket, ...at("/stream"), about: APP_WEBSOCKET, handlers: [streamSocket, noUpgrade] },
    { method: "POST", ...at(""), about: APP_RUN, handlers: [run] },
    { ...socket, ...at(""), about: APP_WEBSOCKET, handlers: [runSocket, noUpgrade] },
  ];
}

/** `owner/app`, with more parts or without. */
const APP_ID = /^[\w.-]+(?:\/[\w.-]+){1,7}$/;
/** The endings that follow an app's id. */
const OF_APP = /\/(?:stream|realtime|requests(?:\/.*)?)$/;

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return "";
  }
}

function isUpgrade(c: Context): boolean {
  return c.req.header("upgrade") !== undefined;
}

function noUpgrade(): Response {
  return failureResponse({ status: 426, detail: "This is a WebSocket" }, { Upgrade: "websocket" });
}
