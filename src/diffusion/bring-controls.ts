/** The weights of the networks that a request brings, onto the device. */

import { MemoryLimitError } from "../gpu/errors.ts";
import type { ModelMemory } from "../memory/model-memory.ts";
import type { PreparationWatch } from "../memory/preparation.ts";
import { WeightsError } from "../weights/errors.ts";
import type { ControlUse } from "./control.ts";
import { PipelineError } from "./request.ts";
import { limitOf } from "./room.ts";

/** Brings the weights of a request's networks. @throws PipelineError naming the entry whose weights cannot be used */
export async function bringControls(
  memory: ModelMemory,
  { controls = [] }: { readonly controls?: readonly ControlUse[] },
  watch: PreparationWatch,
): Promise<void> {
  for (const { network, field } of controls) {
    try {
      for (const spec of network.components) await memory.add(spec, watch);
    } catch (error) {
      if (error instanceof WeightsError) throw new PipelineError(`${field}.name`, error.message, { cause: error });
      if (!(error instanceof MemoryLimitError)) throw error;
      throw new PipelineError(`${field}.name`, `does not fit beside this model into ${limitOf(error)}`, {
        cause: error,
      });
    }
  }
}
