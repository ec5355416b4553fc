/** The route of realtime sessions. */
import { failureResponse } from "../failure.ts";
import { COMMON, failure, inQuery } from "../openapi/describe.ts";
import type { Route } from "../route.ts";
import type { Source } from "../source.ts";
import { type RealtimeOptions, realtime } from "./websocket.ts";

export function realtimeRoutes<Input, Event>(source: Source<Input, Event>, options: RealtimeOptions<Input>): Route[] {
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
        realtime(source, options),
        // A request without an upgrade is told so.
        () => failureResponse({ status: 426, detail: "This is a WebSocket" }, { Upgrade: "websocket" }),
      ],
    },
  ];
}
