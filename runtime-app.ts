/** The server's routes over a runtime: the adapter that every program with a runtime of its own would write. */

import { costOf, workingBytesOf } from "./src/engine/cost.ts";
import type { ServedRuntime } from "./src/hosts/engine/engine-process.ts";
import { pictureCodec } from "./src/platform/picture-codec.ts";
import { type App, type AppOptions, createApp } from "./transports/app.ts";

/** As for `createApp`; the runtime gives the rest. */
export interface RuntimeAppOptions
  extends Omit<AppOptions, "run" | "model" | "models" | "health" | "loras" | "embeddings" | "controls" | "preprocess"> {
  /** Facts that `GET /health` tells besides the status, the adapter and the model. */
  readonly health?: () => Record<string, unknown>;
}

/**
 * All routes of the server, with this runtime behind them. Closing the runtime stays the caller's business.
 *
 *     const app = appOfRuntime(await createRuntime());
 *     listen(app, 8080);
 */
export function appOfRuntime(runtime: ServedRuntime, options: RuntimeAppOptions = {}): App {
  const { model, device } = runtime;
  const facts = new Map(runtime.models.map((one) => [one.name, one]));
  const factsOf = (name: string | undefined) => facts.get(name ?? model.name) ?? model;
  // There will be pictures, and the first should not wait for it.
  pictureCodec().catch(() => {}); // thrown where it is needed
  return createApp({
    ...options,
    jobs: {
      ...placesOf(runtime.runsAtOnce),
      costOf: (request) => costOf(request, factsOf(request.model)),
      workingBytesOf: (request) => workingBytesOf(request, factsOf(request.model)),
      ...options.jobs,
    },
    run: ({ image, ...input }, context) =>
      image === undefined ? runtime.textToImage(input, context) : runtime.imageToImage({ ...input, image }, context),
    health: () => ({ ...options.health?.(), ...healthOf(runtime) }),
    loras: async () => (await runtime.loras()).names,
    controls: () => runtime.controls(),
    preprocess: (input, options) => runtime.preprocess(input, options),
    embeddings: () => runtime.embeddings(),
    model: { ...model, countTokens: (text, name) => runtime.countTokens(text, name) },
    models: () => runtime.models,
    unready: () => runtime.process?.unready ?? (device.lost ? "the device is lost" : options.unready?.()),
  });
}

/** A third of the places is for realtime sessions, and one of the others for a client that has none. */
function placesOf(runsAtOnce: number) {
  const reserved = Math.floor(runsAtOnce / 3);
  const concurrency = runsAtOnce - reserved;
  return { concurrency, reserved, ofClient: Math.max(concurrency - 1, 1) };
}

function healthOf({ adapter, model }: ServedRuntime): Record<string, unknown> {
  return {
    adapter: { name: adapter.name, kind: adapter.kind, backend: adapter.backend },
    model: model.name,
    defaults: {
      width: model.defaultWidth,
      height: model.defaultHeight,
      num_inference_steps: model.defaultSteps,
      guidance_scale: model.defaultGuidanceScale,
    },
    // If the model has a variant for few steps: the defaults of a request with few_step.
    ...(model.fewStep !== undefined && {
      few_step: { num_inference_steps: model.fewStep.steps, guidance_scale: model.fewStep.guidanceScale },
    }),
  };
}
