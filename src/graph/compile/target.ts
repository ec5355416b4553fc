/** The adapter, storage and choices that the kernels of a plan are made for. */

import type { Gpu } from "../../gpu/device.ts";
import type { Choose } from "../choice.ts";
import type { Target } from "../dispatch.ts";
import { GraphError } from "../errors.ts";
import { type Operation, parametersOf } from "../ops/table.ts";
import type { Storage } from "../tensor.ts";
import { matrixTexture, type ParameterBuffers } from "../weights.ts";

/** The storage and transforms of a component's weights. */
export type ComponentTarget = Pick<Target, "weightStorage" | "transformed" | "textured">;

/** The target of a plan; if it is of several components, with the fields that their weights differ in. */
export interface PlanTarget extends Target {
  readonly components?: ReadonlyMap<string, ComponentTarget>;
}

/** Storages of the weights of a plan: of one component, or of several by their names. */
export type WeightStorage = Storage | ReadonlyMap<string, Storage>;

/** The target of one operation, whose parameters are all of one component. */
export function targetFor(operation: Operation, target: PlanTarget): Target {
  if (!target.components) return target;
  const component = parametersOf(operation)[0]?.component;
  return component === undefined ? target : { ...target, ...componentOf(target.components, component) };
}

/** @throws GraphError if nothing is there for the component */
export function componentOf<T>(components: ReadonlyMap<string, T>, name: string): T {
  const found = components.get(name);
  if (found) return found;
  throw new GraphError(`no parameters for the component ${name}; there are ${[...components.keys()].join(", ")}`);
}

/** The target of a plan whose weights lie in `parameters`. */
export function targetOf(
  gpu: Gpu,
  storage: Storage,
  parameters: ParameterBuffers | ReadonlyMap<string, ParameterBuffers>,
  choose: Choose | undefined,
): PlanTarget {
  return planTarget(gpu, storage, choose, parameters, (buffers) => ({
    weightStorage: buffers.storage,
    transformed: buffers.transformed !== undefined,
    textured: (matrix) => buffers.texture?.(matrix) !== undefined,
  }));
}

/** The target of a plan whose weights are not loaded yet, and will be stored so. */
export function targetOfWeights(
  gpu: Gpu,
  storage: Storage,
  weightStorage: WeightStorage,
  { choose, transformed }: { readonly choose?: Choose; readonly transformed: boolean },
): PlanTarget {
  return planTarget(gpu, storage, choose, weightStorage, (stored) => ({
    weightStorage: stored,
    transformed,
    textured: (matrix) => matrixTexture(gpu, matrix, stored) !== undefined,
  }));
}

function planTarget<T extends object | string>(
  gpu: Gpu,
  storage: Storage,
  choose: Choose | undefined,
  of: T | ReadonlyMap<string, T>,
  heldAs: (one: T) => ComponentTarget,
): PlanTarget {
  const { lanes, matrixUnit, maxBindingBytes, maxTextureDimension, maxWorkgroupBytes, facts } = gpu;
  const hardware = facts.kind === "hardware";
  const adapter = { hardware, lanes, matrixUnit, maxBindingBytes, maxTextureDimension, maxWorkgroupBytes };
  if (!(of instanceof Map)) return { ...adapter, storage, choose, ...heldAs(of as T) };
  const components = new Map([...(of as ReadonlyMap<string, T>)].map(([name, one]) => [name, heldAs(one)]));
  const [first = { weightStorage: storage }] = components.values();
  return { ...adapter, storage, choose, ...first, components };
}
