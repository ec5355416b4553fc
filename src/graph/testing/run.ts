/** Runs what a recorder holds, from values on the host to values on the host. */

import type { Gpu } from "../../gpu/device.ts";
import { loadParameters } from "../../memory/load.ts";
import type { FloatType } from "../../weights/element-types.ts";
import type { Choose } from "../choice.ts";
import { compile } from "../plan.ts";
import type { Recorder } from "../recorder.ts";
import type { Parameter, Storage } from "../tensor.ts";
import { tensorEntry } from "./checkpoint.ts";
import { checkpointed, type Distribution, normals, type Random, stored } from "./values.ts";

/** A tensor of the checkpoint: its values there, and as the kernels see them. */
export interface Weight {
  readonly shape: readonly number[];
  readonly type: FloatType;
  readonly values: Float32Array;
}

export type Weights = ReadonlyMap<string, Weight>;

/** Values for every parameter that was recorded; `adjust` may change them by name. */
export function weightsFor(
  recorder: Pick<Recorder, "parameters">,
  source: Random,
  options: Distribution & { type?: FloatType; adjust?: (name: string, values: Float32Array) => Float32Array } = {},
): Weights {
  const { type = "F32", adjust = (_, values) => values } = options;
  const parts = [...recorder.parameters.values()].flatMap((parameter) => parameter.parts);
  return new Map(
    parts.map(({ name, shape }) => {
      const count = shape.reduce((product, size) => product * size, 1);
      return [name, { shape, type, values: checkpointed(adjust(name, normals(source, count, options)), type) }];
    }),
  );
}

/** A weight as the device holds it: vectors always in f32. */
export function onDevice(weights: Weights, name: string, storage: Storage): Float32Array {
  const { values, shape } = weights.get(name)!;
  return shape.length === 1 ? values : stored(values, storage);
}

/** The tensors that `loadParameters` reads. */
export function entriesOf(weights: Weights) {
  return new Map([...weights].map(([name, { shape, values, type }]) => [name, tensorEntry(name, shape, values, type)]));
}

export interface Run {
  readonly recorder: Recorder;
  readonly storage: Storage;
  /** How weights are stored; as activations where not given. */
  readonly weightStorage?: Storage;
  readonly weights?: Weights;
  /** Inputs and states by name. */
  readonly inputs: Readonly<Record<string, Float32Array | Uint32Array>>;
  /** Inputs of a second run, whose results are the ones that are given. */
  readonly then?: Readonly<Record<string, Float32Array | Uint32Array>>;
  /** Overrules which variants of kernels run. */
  readonly choose?: Choose;
  /** States to read back as well. */
  readonly states?: readonly string[];
}

export interface Ran {
  readonly outputs: Readonly<Record<string, Float32Array | Uint32Array>>;
  readonly dispatches: number;
}

export async function run(gpu: Gpu, of: Run): Promise<Ran> {
  const { recorder, storage, weights = new Map() } = of;
  const parameters: Iterable<Parameter> = recorder.parameters.values();
  const loaded = await loadParameters(gpu, parameters, entriesOf(weights), {
    label: "test",
    storage: of.weightStorage ?? storage,
  });
  try {
    const plan = await compile(gpu, recorder, { label: "test", storage, parameters: loaded, choose: of.choose });
    try {
      for (const [name, values] of Object.entries(of.inputs)) plan.write(name, values);
      plan.run();
      if (of.then) {
        for (const [name, values] of Object.entries(of.then)) plan.write(name, values);
        plan.run();
      }
      const outputs: Record<string, Float32Array | Uint32Array> = {};
      for (const name of [...recorder.outputs.keys(), ...(of.states ?? [])]) outputs[name] = await plan.read(name);
      await gpu.idle();
      return { outputs, dispatches: plan.dispatches };
    } finally {
      plan.destroy();
    }
  } finally {
    loaded.destroy();
  }
}

/** How values may be stored, activations and weights: all that a plan can be asked for. */
export const STORAGES: readonly { storage: Storage; weightStorage: Storage; name: string }[] = [
  { storage: "f32", weightStorage: "f32", name: "f32" },
  { storage: "f16", weightStorage: "f16", name: "f16" },
  { storage: "f32", weightStorage: "f16", name: "f32 with f16 weights" },
];
