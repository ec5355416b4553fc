/**
 * Daguerre as a library: `createRuntime` opens a GPU, loads a model, and gives runs as async generators.
 *
 *     const runtime = await createRuntime();
 *     for await (const event of runtime.textToImage({ prompt: "northern lights over a lake" })) { … }
 */

export { appOfRuntime, type RuntimeAppOptions } from "./runtime-app.ts";
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
export { parseRemoteGeneration, parseUpdate } from "./src/engine/request-parsing.ts";
export { createRuntime } from "./src/engine/runtime.ts";
export { type Fault, FaultError, faultOf } from "./src/faults/fault.ts";
export type { AdapterFacts } from "./src/gpu/adapter-facts.ts";
export { deviceDescriptor } from "./src/gpu/device-request.ts";
export type { AdapterChoice } from "./src/gpu/drivers/adapter.ts";
export { AdapterError, DeviceLostError, GpuError, GpuOutOfMemoryError, GpuValidationError } from "./src/gpu/errors.ts";
export {
  type EngineProcess,
  type EngineProcessOptions,
  type EngineWatch,
  openEngine,
  type ServedRuntime,
} from "./src/hosts/engine/engine-process.ts";
export type { EngineOptions } from "./src/hosts/engine/messages.ts";
export * from "./src/hosts/index.ts";
export { encodePicture } from "./src/image/encode.ts";
export * from "./src/jobs/index.ts";
export { folderFiles } from "./src/platform/folder-files.ts";
export { memoryFiles } from "./src/platform/memory-files.ts";
export { FileError, type ModelFiles, type OpenFile } from "./src/platform/model-files.ts";
export { WeightsError } from "./src/weights/errors.ts";
export * from "./transports/index.ts";
