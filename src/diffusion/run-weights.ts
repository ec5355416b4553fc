/** The weights that a run draws with: the model's, with LoRAs and the model's own variants merged in. */

import { FaultError } from "../faults/fault.ts";
import { MemoryLimitError } from "../gpu/errors.ts";
import type { PreparationWatch } from "../memory/preparation.ts";
import type { LoraRequest, WeightSetLease } from "../memory/weight-sets.ts";
import { WeightsError } from "../weights/errors.ts";
import type { LoadedModel } from "./loaded-model.ts";
import type { FamilyModel } from "./model.ts";
import { PipelineError, type PipelineRequest } from "./request.ts";
import { limitOf } from "./room.ts";

/**
 * The weights of a run. The variant for large pictures gives way if it does not find room beside the model.
 * @throws PipelineError if what was asked for does not, or is no LoRA of this model
 * @throws FaultError if the variant for large pictures is broken
 */
export async function leaseWeights(
  { family, memory }: LoadedModel,
  { loras = [], fewStep, width, height }: Pick<PipelineRequest, "loras" | "fewStep" | "width" | "height">,
  warnings: string[],
  watch: PreparationWatch,
): Promise<WeightSetLease> {
  const files: LoraRequest[] = [...loras];
  if (fewStep) {
    if (family.fewStep === undefined) throw new PipelineError("few_step", "this model has no few-step variant");
    files.unshift({ path: family.fewStep.path, modelFiles: family.fewStep.files, scale: 1 });
  }
  if (family.large && width * height >= family.large.fromPixels) {
    // Merged, it holds a second UNet: where memory is limited there is seldom room for that.
    if (memory.gpu.maxBytes === undefined)
      files.unshift({ path: family.large.path, modelFiles: family.large.files, scale: 1 });
    else warnings.push("Drawn without the model's variant for large pictures: device memory is limited.");
  }
  try {
    const lease = await memory.weightSets.lease(files, watch);
    warnings.push(...lease.warnings);
    return lease;
  } catch (error) {
    if (error instanceof WeightsError) throw variantFault(error, family, loras);
    if (!(error instanceof MemoryLimitError)) throw error;
    throw new PipelineError(fewStep ? "few_step" : "loras", `do not fit beside this model into ${limitOf(error)}`);
  }
}

/** A file that cannot be merged: the model's own are named by their place in its folder, others by their base name. */
function variantFault(error: WeightsError, { fewStep, large }: FamilyModel, loras: readonly LoraRequest[]): Error {
  if (error.file === large?.path) {
    const message = `The model's variant for large pictures cannot be used: ${error.message}`;
    return new FaultError({ code: error.code, status: 500, message }, { cause: error });
  }
  if (error.file === fewStep?.path) {
    return new PipelineError("few_step", `the model's few-step variant cannot be used: ${error.message}`);
  }
  const index = loras.findIndex(({ path }) => path.endsWith(`/${error.file}`));
  return new PipelineError(index < 0 ? "loras" : `loras.${index}`, error.message, { cause: error });
}
