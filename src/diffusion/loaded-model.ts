import type { ModelMemory } from "../memory/model-memory.ts";
import { DeviceTurns } from "./device-turns.ts";
import type { FamilyModel } from "./model.ts";
import { Stepper } from "./stepper.ts";

/** A model on a device. */
export interface LoadedModel {
  readonly family: FamilyModel;
  readonly memory: ModelMemory;
  /** Runs take their steps by it. */
  readonly stepper: Stepper;
  /** Turns for everything else on the device, such as to encode words: plans are shared by all runs. */
  readonly turns: DeviceTurns;
}

/** @param turns of the device, if other models are on it as well */
export function loadedModel(family: FamilyModel, memory: ModelMemory, turns = new DeviceTurns()): LoadedModel {
  return { family, memory, turns, stepper: new Stepper(family.step, memory, turns) };
}
