/** A recorded network run once on values of the host, and its milestones by the names of its modules. */

import { compile, type PlanParameters } from "../../src/graph/plan.ts";
import type { Recorder } from "../../src/graph/recorder.ts";
import type { Tensor as GraphTensor, Storage } from "../../src/graph/tensor.ts";
import { compare } from "./comparison.ts";
import { roundingFloor, type WeightValues } from "./exact.ts";
import type { CaseRun } from "./kind.ts";
import { channelsFirst } from "./tensors.ts";

export interface NetworkOptions {
  readonly label: string;
  readonly parameters: PlanParameters;
  readonly inputs: Readonly<Record<string, Float32Array | Uint32Array>>;
  /** The weights that `parameters` were made of, for the judge. */
  readonly weights: () => Promise<WeightValues>;
}

/** Beyond this nobody would call a difference rounding, and it is not asked what rounding does. */
const MOST_ROUNDING: Record<Storage, number> = { f32: 1e-2, f16: 1 };

/** Runs a network and compares its outputs, each with the tensor of the case that `tensors` has for it. */
export async function compareNetwork(
  run: CaseRun,
  recorder: Recorder,
  options: NetworkOptions,
  tensors: Readonly<Record<string, string>>,
): Promise<void> {
  const outputs = await runNetwork(run, recorder, options);
  let floors: Map<string, number> | undefined;
  for (const [output, name] of Object.entries(tensors)) {
    const actual = outputs.get(output)!;
    const { passed, relative } = compare("", "", actual, run.input(name), run.tolerances.network);
    if (!passed && relative !== undefined && relative < MOST_ROUNDING[run.bench.storage]) {
      floors ??= roundingFloor(recorder, await options.weights(), options.inputs, run.bench);
    }
    run.compare(name, actual, run.tolerances.network, { floor: passed ? undefined : floors?.get(output) });
  }
}

/** Inputs by name, as the device has them (channels last, no padding) → outputs by name, channels first. */
export async function runNetwork(
  run: CaseRun,
  recorder: Recorder,
  options: Omit<NetworkOptions, "weights"> & Partial<NetworkOptions>,
): Promise<Map<string, Float64Array>> {
  const { gpu, activations: storage, choose } = run.bench;
  const plan = await compile(gpu, recorder, { label: options.label, storage, parameters: options.parameters, choose });
  try {
    for (const [name, values] of Object.entries(options.inputs)) plan.write(name, values);
    plan.run();
    await gpu.idle();
    const outputs = new Map<string, Float64Array>();
    for (const [name, tensor] of recorder.outputs)
      outputs.set(name, channelsFirst(tensor.shape, await plan.read(name)));
    return outputs;
  } finally {
    plan.destroy();
  }
}

/**
 * Compares the milestones of one group, `<group>.<module>`, in a run of their own: a tensor that is read cannot be fused
 * away, so the network is not quite the one that was compared.
 */
export async function compareMilestones(
  run: CaseRun,
  group: string,
  record: () => Recorder,
  options: NetworkOptions,
  named: (module: string, recorder: Recorder) => GraphTensor | undefined = () => undefined,
): Promise<void> {
  const names = [...run.folder.intermediates.keys()].filter((name) => name.startsWith(`${group}.`));
  if (!run.bench.intermediates || names.length === 0) return;
  const recorder = record();
  recorder.outputs.clear();
  for (const name of names) {
    const module = name.slice(group.length + 1);
    const tensor = named(module, recorder) ?? outputOf(recorder, module);
    if (tensor) recorder.output(name, asPicture(tensor, run.folder.intermediates.get(name)!.shape));
    else run.fail("intermediates", name, "no operation has this name");
  }
  const outputs = await runNetwork(run, recorder, options);
  for (const [name, values] of outputs) run.compareIntermediate(name, values, run.tolerances.network);
}

/** Tokens under the shape of the picture that the milestone is, `[n, c, h, w]`; it may be of the first rows alone. */
export function asPicture(tensor: GraphTensor, milestone: readonly number[]): GraphTensor {
  if (milestone.length !== 4 || tensor.shape.length === 4) return tensor;
  const [, c, h, w] = milestone as [number, number, number, number];
  return { ...tensor, shape: [tensor.shape[0]!, h, w, c] };
}

/** The output of a module of the model: the last operation within it, or the one that has its name. */
function outputOf(recorder: Recorder, module: string): GraphTensor | undefined {
  const { operations } = recorder;
  const within = operations.filter((operation) => operation.name.startsWith(`${module}.`)).at(-1);
  return (within ?? operations.filter((operation) => operation.name === module).at(-1))?.output;
}
