/** From the pipeline's events to those that clients see. */

import type { LoadedModel } from "../diffusion/loaded-model.ts";
import type { PipelineEvent, PipelineRequest } from "../diffusion/request.ts";
import type { RunEvent } from "./events.ts";
import { infotextsOf } from "./picture-settings.ts";
import type { GenerationRequest } from "./request.ts";

export function toRunEvent(
  model: LoadedModel,
  event: PipelineEvent,
  request: GenerationRequest,
  run: PipelineRequest,
  begun: number,
): RunEvent {
  switch (event.type) {
    case "preparing":
      return event;
    case "step": {
      const { step, steps } = event;
      return {
        type: "progress",
        step,
        steps,
        progress: step / steps,
        elapsed_ms: Math.round(performance.now() - begun),
      };
    }
    case "preview": {
      const { step, steps, decoder, picture } = event;
      return { type: "preview", picture, step, steps, progress: step / steps, decoder };
    }
    case "result": {
      const timings = Object.fromEntries(Object.entries(event.timings).map(([phase, ms]) => [phase, Math.round(ms)]));
      const warnings = event.warnings.length > 0 ? event.warnings : undefined;
      return {
        type: "result",
        pictures: event.pictures,
        seed: run.seed,
        prompt: request.prompt,
        ...(request.embed_metadata && { infotexts: infotextsOf(model, request, run) }),
        timings,
        warnings,
      };
    }
    default:
      return event satisfies never;
  }
}
