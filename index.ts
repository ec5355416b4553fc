/**
 * Daguerre as a library: `createRuntime` opens a GPU, loads a model, and gives runs as async generators.
 *
 *     const runtime = await createRuntime();
 *     for await (const event of runtime.textToImage({ prompt: "a lighthouse at sunset" })) { … }
 */

export type {
  LoadProgress,
  ModelFacts,
  RunOptions,
  Runtime,
  RuntimeOptions,
  WarmUpShape,
} from "./src/engine/contract.ts";
export { RequestError } from "./src/engine/errors.ts";
export type * from "./src/engine/events.ts";
export type { GenerationInput, ImageToImageInput, TextToImageInput } from "./src/engine/request.ts";
export { parseRemoteGeneration, parseUpdate } from "./src/engine/request.ts";
export { createRuntime } from "./src/engine/runtime.ts";
export { type Fault, FaultError, faultOf } from "./src/faults/fault.ts";
export type { AdapterChoice, AdapterFacts } from "./src/gpu/drivers/adapter.ts";
export { AdapterError, DeviceLostError, GpuError, GpuOutOfMemoryError, GpuValidationError } from "./src/gpu/errors.ts";
export { type WorkerOptions, worker } from "./src/hosts/thread.ts";
export { encodePicture } from "./src/image/encode.ts";
export { type Account, createAccount, type MemoryBounds } from "./src/jobs/account.ts";
export { JobError } from "./src/jobs/job-errors.ts";
export { createJobs, type Job, type Jobs, type JobsOptions, throughJobs } from "./src/jobs/jobs.ts";
export { type MapOptions, map } from "./src/jobs/map.ts";
export type { AnyRun, Run, RunContext } from "./src/jobs/run.ts";
export { WeightsError } from "./src/weights/errors.ts";
export { type App, type AppOptions, createApp } from "./transports/app.ts";
export { type Failure, failureResponse } from "./transports/failure.ts";
export { type QueueOptions, queue } from "./transports/fal/fal-queue.ts";
export {
  type ApiKey,
  type Authenticator,
  createAuthenticator,
  type GuardOptions,
  guard,
  ownerOf,
  type Principal,
  principalOf,
} from "./transports/gate/auth.ts";
export { type GateOptions, gate } from "./transports/gate/gate.ts";
export { createRate, type Rate, type RateOptions, rateLimit } from "./transports/gate/rate.ts";
export { type SessionOptions, sessionLimit } from "./transports/gate/session-limit.ts";
export { tokenRoute } from "./transports/gate/token-route.ts";
export { type ConnectionLimits, type Listening, listen } from "./transports/http/listen.ts";
export { MESSAGE_BOUNDS, type MessageBounds, MessageError } from "./transports/http/message.ts";
export { type Mounted, type MountOptions, mount } from "./transports/http/mount.ts";
export { cancelJob, jobStatus, updateJob } from "./transports/job-routes.ts";
export { json } from "./transports/json.ts";
export { createMetrics, type Metrics } from "./transports/observe/metrics.ts";
export { type OpenAiOptions, openaiImages } from "./transports/openai/images.ts";
export { type RealtimeOptions, realtime } from "./transports/realtime/websocket.ts";
export { addRoutes, type Route, type RouteGroup, type RouteRules, RouteTable } from "./transports/route.ts";
export type { JobRequestOptions, Source } from "./transports/source.ts";
export { resume, type SseOptions, sse } from "./transports/stream/sse.ts";
