/**
 * Daguerre as a library: `createRuntime` opens a GPU, loads a model, and gives runs as async generators.
 *
 *     const runtime = await createRuntime();
 *     for await (const event of runtime.textToImage({ prompt: "a lighthouse at sunset" })) { … }
 */

export { type App, type AppOptions, createApp } from "../transports/app.ts";
export {
  type ApiKey,
  type Authenticator,
  createAuthenticator,
  type GuardOptions,
  guard,
  ownerOf,
  type Principal,
  principalOf,
} from "../transports/auth.ts";
export { type Failure, failureResponse } from "../transports/failure.ts";
export { type GateOptions, gate } from "../transports/gate.ts";
export { cancelJob, jobStatus, updateJob } from "../transports/job-routes.ts";
export { json } from "../transports/json.ts";
export {
  createRate,
  type Rate,
  type RateOptions,
  rateLimit,
  type SessionOptions,
  sessionLimit,
} from "../transports/limits.ts";
export { type ConnectionLimits, type Listening, listen } from "../transports/listen.ts";
export { MESSAGE_BOUNDS, type MessageBounds, MessageError } from "../transports/message.ts";
export { createMetrics, type Metrics } from "../transports/metrics.ts";
export { type Mounted, type MountOptions, mount } from "../transports/mount.ts";
export { type OpenAiOptions, openaiImages } from "../transports/openai.ts";
export { type QueueOptions, queue } from "../transports/queue.ts";
export type { JobRequestOptions, Source } from "../transports/source.ts";
export { resume, type SseOptions, sse } from "../transports/sse.ts";
export { tokenRoute } from "../transports/token-route.ts";
export { type RealtimeOptions, realtime } from "../transports/websocket.ts";
export { type WorkerOptions, worker } from "../transports/worker.ts";
export { type Account, createAccount, type MemoryBounds } from "./engine/account.ts";
export type { LoadProgress, ModelFacts, RunOptions, Runtime, RuntimeOptions, WarmUpShape } from "./engine/contract.ts";
export { RequestError } from "./engine/errors.ts";
export type * from "./engine/events.ts";
export { JobError } from "./engine/job-errors.ts";
export { createJobs, type Job, type Jobs, type JobsOptions, throughJobs } from "./engine/jobs.ts";
export { type MapOptions, map } from "./engine/map.ts";
export type { GenerationInput, ImageToImageInput, TextToImageInput } from "./engine/request.ts";
export { parseRemoteGeneration, parseUpdate } from "./engine/request.ts";
export type { AnyRun, Run, RunContext } from "./engine/run.ts";
export { createRuntime } from "./engine/runtime.ts";
export type { AdapterChoice, AdapterFacts } from "./gpu/adapter.ts";
export { AdapterError, DeviceLostError, GpuError, GpuOutOfMemoryError, GpuValidationError } from "./gpu/errors.ts";
export { encodePicture } from "./image/encode.ts";
export { WeightsError } from "./weights/errors.ts";
