/** The route of realtime sessions. */
import type { Handler } from "hono";
import { failureResponse } from "../failure.ts";
import { COMMON, failure, inQuery } from "../openapi/describe.ts";
import type { Route } from "../route.ts";

/** @param session upgrades to a session: `realtime(jobs, options)` */
export function realtimeRoutes(session: Handler): Route[] {
  return [
    {
      method: "GET",
      path: "/realtime",
      scope: "realtime",
      work: true,
      webSocket: true,
      about: {
        tag: "pictures",
        summary: "WebSocket of msgpack messages: requests in, events out",
        parameters: [
          inQuery("fal_jwt_token", "a token"),
          inQuery("max_buffering", "requests that may wait, 1 to 60"),
          inQuery("mode", "queue: every request is answered, in order; else the latest wins"),
          inQuery("session", "the session to take up again, as its first frame has named it"),
          inQuery("after", "with session: the last event_id seen of each request, as request:event,request:event"),
        ],
        answers: { 101: { description: "switching to WebSocket" }, 426: failure("not a WebSocket"), ...COMMON },
      },
      handlers: [
        session,
        // A request without an upgrade is told so.
        () => failureResponse({ status: 426, detail: "This is a WebSocket" }, { Upgrade: "websocket" }),
      ],
    },
  ];
}
