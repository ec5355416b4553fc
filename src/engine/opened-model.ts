/** A model that has been opened: its files found, its configurations read and checked, nothing of it on a device. */

import type { FamilyModel } from "../diffusion/model.ts";
import { FaultError } from "../faults/fault.ts";
import { listed, quoted } from "../platform/quoted.ts";
import type { ModelFacts } from "./contract.ts";

/** Names of models that a fault shows. */
const MOST_NAMES = 20;

/** A model that has been opened, and what was said of it. */
export interface OpenedModel {
  readonly name: string;
  readonly family: FamilyModel;
  /** Seconds. */
  readonly keepAlive?: number | undefined;
  readonly preload?: boolean | undefined;
}

export function factsOf({ facts, fewStep }: FamilyModel): ModelFacts {
  const { width, height, steps, guidanceScale } = facts.defaults;
  return {
    name: facts.name,
    ...(facts.description !== undefined && { description: facts.description }),
    defaultWidth: width,
    defaultHeight: height,
    defaultSteps: steps,
    defaultGuidanceScale: guidanceScale,
    fewStep: fewStep && { steps: fewStep.steps, guidanceScale: fewStep.guidanceScale },
  };
}

/** @param names of the models that there are */
export function noSuchModel(name: string, names: readonly string[]): FaultError {
  const message = `there is no model ${quoted(name)} here; there ${names.length === 1 ? "is" : "are"} ${listed(names, MOST_NAMES)}`;
  const issues = [{ path: ["model"], message, type: "model_not_found" }];
  return new FaultError({ code: "model-not-found", status: 404, message: `model: ${message}`, field: "model", issues });
}
