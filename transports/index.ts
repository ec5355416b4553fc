/**
 * `daguerre/transports`: the transports for a run of any kind, whatever makes its events. Neither a GPU nor an image
 * library is loaded with them.
 *
 *     app.post("/stream", sse(async function* ({ words }) { yield* … }));
 */

export { type App, type AppOptions, createApp } from "./app.ts";
export {
  type ApiKey,
  type Authenticator,
  createAuthenticator,
  type GuardOptions,
  guard,
  ownerOf,
  type Principal,
  principalOf,
} from "./auth.ts";
export { type Failure, failureResponse } from "./failure.ts";
export { type GateOptions, gate } from "./gate.ts";
export { cancelJob, jobStatus, updateJob } from "./job-routes.ts";
export { json } from "./json.ts";
export {
  createRate,
  type Rate,
  type RateOptions,
  rateLimit,
  type SessionOptions,
  sessionLimit,
} from "./limits.ts";
export { type ConnectionLimits, type Listening, listen } from "./listen.ts";
export { MESSAGE_BOUNDS, type MessageBounds, MessageError } from "./message.ts";
export { createMetrics, type Metrics } from "./metrics.ts";
export { type Mounted, type MountOptions, mount } from "./mount.ts";
export { type OpenAiOptions, openaiImages } from "./openai.ts";
export { type QueueOptions, queue } from "./queue.ts";
export type { JobRequestOptions, Source } from "./source.ts";
export { resume, type SseOptions, sse } from "./sse.ts";
export { tokenRoute } from "./token-route.ts";
export { type RealtimeOptions, realtime } from "./websocket.ts";
