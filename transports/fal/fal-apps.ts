/**
 * The paths of fal.run, for clients whose base address is this server's:
 *
 *     POST /{app}            the finished picture
 *     POST /{app}/stream     server-sent events
 *     GET  /{app}/realtime   a WebSocket of msgpack messages
 *     GET  /{app}            a WebSocket of JSON: a request of the first or the second kind in each message (ws.fal.run)
 *     GET  /{app}/stream
 *
 * `{app}` is a model's name, or any id as fal writes them (`owner/app`, with more parts or without): where one model
 * answers it means that one, and of several the one whose name is its end. No such path hides a route or a file of this server, since an id that
 * begins as one of them is nobody's app.
 */
import type { Context, Handler } from "hono";
import { failureResponse } from "../failure.ts";
import { pathInApp, type Route } from "../route.ts";
import { APP_REALTIME, APP_RUN, APP_STREAM, APP_WEBSOCKET } from "./fal-answers.ts";
import { nameApp } from "./fal-app-name.ts";

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

/** @param models the names of the models that answer; empty: they have none */
export function falAppRoutes(models: readonly string[], handlers: AppHandlers): Route[] {
  const { run, stream, realtime, runSocket, streamSocket } = handlers;
  const at = (ending: string, ...asked: Handler[]) => ({
    path: `/:app{.+}${ending}`,
    isThere: (path: string, c: Context) =>
      path.endsWith(ending) && isApp(path.slice(1, path.length - ending.length), c),
    handlers: asked.map((handler): Handler => {
      return (c, next) => {
        const path = pathInApp(c);
        nameApp(c, decoded(path.slice(1, path.length - ending.length)));
        return handler(c, next);
      };
    }),
  });
  const isApp = (path: string, c: Context) => {
    const app = decoded(path);
    if (app !== "" && models.includes(app)) return true;
    // Where nothing is started, only what is surely an app is there.
    const starts = c.req.method === "POST" || isUpgrade(c);
    return starts && APP_ID.test(app) && !OF_APP.test(app);
  };
  const socket = { method: "GET", scope: "realtime", work: isUpgrade, webSocket: true } as const;
  return [
    { method: "POST", ...at("/stream", stream), about: APP_STREAM },
    { ...socket, ...at("/realtime", realtime, noUpgrade), about: APP_REALTIME },
    { ...socket, ...at("/stream", streamSocket, noUpgrade), about: APP_WEBSOCKET },
    { method: "POST", ...at("", run), about: APP_RUN },
    { ...socket, ...at("", runSocket, noUpgrade), about: APP_WEBSOCKET },
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
