/** The parameters of a plan while it is compiled: of one component, or of several that it names. */

import { ownTurn } from "../../platform/turns.ts";
import { GraphError } from "../errors.ts";
import { type Operation, parametersOf } from "../ops/table.ts";
import type { MatrixParameter, Parameter } from "../tensor.ts";
import { type ParameterBuffers, type WeightTransform, withoutTransformed } from "../weights.ts";
import type { TransformedMatrix } from "./layout.ts";
import { componentOf, type WeightStorage } from "./target.ts";

/** Buffers of all parameters of a plan: of one component, or of several by their names. */
export type PlanParameters = ParameterBuffers | ReadonlyMap<string, ParameterBuffers>;

export class ParameterSet {
  readonly #parameters: PlanParameters;
  readonly #transformed = new Map<MatrixParameter, Map<WeightTransform, GPUTexture>>();

  /** @throws GraphError if `operations` use parameters of several components, and `parameters` are those of one */
  constructor(parameters: PlanParameters, operations: readonly Operation[]) {
    this.#parameters = parameters;
    const used = new Set(operations.flatMap(parametersOf).map(({ component }) => component));
    if (!isByComponent(parameters) && used.size > 1) {
      throw new GraphError(`parameters of ${[...used].join(" and ")} need buffers by component`);
    }
  }

  /** The buffers of the component that a parameter belongs to. */
  of({ component }: Parameter): ParameterBuffers {
    const parameters = this.#parameters;
    return isByComponent(parameters) ? componentOf(parameters, component) : parameters;
  }

  hasTransformed(matrix: MatrixParameter, transform: WeightTransform): boolean {
    return this.of(matrix).transformed!.has(matrix, transform);
  }

  /** Makes the transformed weights that are not there yet. */
  async transform(matrices: readonly TransformedMatrix[]): Promise<void> {
    for (const { matrix, transform } of matrices) {
      const transforms = this.#transformed.get(matrix) ?? new Map<WeightTransform, GPUTexture>();
      this.#transformed.set(matrix, transforms);
      transforms.set(transform, await this.of(matrix).transformed!.get(matrix, transform));
      await ownTurn(); // those of a run's own weights are made here
    }
  }

  transformed(matrix: MatrixParameter, transform: WeightTransform): GPUTexture {
    return this.#transformed.get(matrix)!.get(transform)!;
  }
}

function isByComponent(parameters: PlanParameters): parameters is ReadonlyMap<string, ParameterBuffers> {
  return parameters instanceof Map;
}

/** The storage of the parameters. */
export function storageOf(parameters: PlanParameters): WeightStorage {
  if (!isByComponent(parameters)) return parameters.storage;
  return new Map([...parameters].map(([name, { storage }]) => [name, storage]));
}

/** The same parameters without transformed weights. */
export function untransformed(parameters: PlanParameters): PlanParameters {
  if (!isByComponent(parameters)) return withoutTransformed(parameters);
  return new Map([...parameters].map(([name, buffers]) => [name, withoutTransformed(buffers)]));
}
