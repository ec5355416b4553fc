import pLimit from "p-limit";
import type { ModelMemory } from "../memory/model-memory.ts";
import type { FamilyModel } from "./model.ts";
import { Stepper } from "./stepper.ts";

/** A model on a device. */
export interface LoadedModel {
  readonly family: FamilyModel;
  readonly memory: ModelMemory;
  /** Runs take their steps by it. */
  readonly stepper: Stepper;
  /** Does work that writes to plans which runs share, besides the steps', one piece at a time. */
  alone<T>(work: () => Promise<T>): Promise<T>;
}

export function loadedModel(family: FamilyModel, memory: ModelMemory): LoadedModel {
  return { family, memory, stepper: new Stepper(family.step, memory), alone: pLimit(1) };
}
