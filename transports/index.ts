/**
 * `daguerre/transports`: the transports for a run of any kind, whatever makes its events. Neither a GPU nor an image
 * library is loaded with them.
 *
 *     app.post("/stream", sse(async function* ({ words }) { yield* … }));
 */

export { type App, type AppOptions, createApp } from "./app.ts";
export { type Failure, failureResponse } from "./failure.ts";
export { type QueueOptions, queue } from "./fal/fal-queue.ts";
export {
  type ApiKey,
  type Authenticator,
  createAuthenticator,
  type GuardOptions,
  guard,
  ownerOf,
  type Principal,
  principalOf,
} from "./gate/auth.ts";
export { type GateOptions, gate } from "./gate/gate.ts";
export { createRate, type Rate, type RateOptions, rateLimit } from "./gate/rate.ts";
export { type SessionOptions, sessionLimit } from "./gate/session-limit.ts";
export { tokenRoute } from "./gate/token-route.ts";
export { type Listening, type ListenOptions, listen } from "./http/listen.ts";
export { MESSAGE_BOUNDS, type MessageBounds, MessageError } from "./http/message.ts";
export { type Mounted, type MountOptions, mount } from "./http/mount.ts";
export { cancelJob, jobStatus, updateJob } from "./job-routes.ts";
export { json } from "./json.ts";
export { createMetrics, type Metrics } from "./observe/metrics.ts";
export { type OpenAiOptions, openaiImages } from "./openai/images.ts";
export { type RealtimeOptions, realtime } from "./realtime/websocket.ts";
export { addRoutes, type Route, type RouteGroup, type RouteRules, RouteTable } from "./route.ts";
export type { JobRequestOptions, Source } from "./source.ts";
export { resume, type SseOptions, sse } from "./stream/sse.ts";
