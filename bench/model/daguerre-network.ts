/** A whole network as one plan of Daguerre's. */

import type { Gpu } from "../../src/gpu/device.ts";
import type { Choose } from "../../src/graph/choice.ts";
import { compile, type Plan } from "../../src/graph/plan.ts";
import type { Recorder } from "../../src/graph/recorder.ts";
import type { Storage } from "../../src/graph/tensor.ts";
import { type LoadedParameters, loadParameters } from "../../src/memory/load.ts";
import type { TensorEntry } from "../../src/weights/tensor-set.ts";
import { channelsFirst, channelsLast } from "../layout.ts";
import { replay, storages } from "../peers/daguerre.ts";
import type { Prepared } from "../peers/peer.ts";
import { readTensor } from "../peers/tensor-file.ts";
import { declareShape } from "./generated-weights.ts";
import { NETWORKS, type NetworkWork, type RecordedNetwork } from "./networks.ts";

export async function prepareNetwork(gpu: Gpu, work: NetworkWork): Promise<Prepared> {
  const network = await NETWORKS.find(({ name }) => name === work.network)!.build();
  const { weights, activations } = storages(work.storage ?? "f32");
  const parameters = await loadNetwork(gpu, network, weights);
  const prepared = await prepareLoaded(gpu, work, { recorder: network.recorder, parameters, activations });
  return {
    ...prepared,
    release() {
      prepared.release();
      parameters.destroy();
    },
  };
}

/** The network's weights on the device; whoever asks destroys them. */
export function loadNetwork(
  gpu: Gpu,
  { recorder, weights: values }: RecordedNetwork,
  storage: Storage,
): Promise<LoadedParameters> {
  const entries = new Map<string, TensorEntry>();
  for (const { parts } of recorder.parameters.values()) {
    for (const { name, shape } of parts) {
      declareShape(name, shape);
      entries.set(
        name,
        generatedTensor(name, shape, () => values(name)),
      );
    }
  }
  return loadParameters(gpu, recorder.parameters.values(), entries, { label: "bench", storage });
}

/** A plan of it, with the inputs of `work` written. */
export async function prepareLoaded(
  gpu: Gpu,
  work: NetworkWork,
  of: {
    readonly recorder: Recorder;
    readonly parameters: LoadedParameters;
    readonly activations: Storage;
    readonly choose?: Choose;
  },
): Promise<Prepared & Pick<Plan, "profile">> {
  const { recorder, parameters, activations, choose } = of;
  const plan = await compile(gpu, recorder, { label: work.network, storage: activations, parameters, choose });
  for (const [name, tensor] of recorder.inputs) {
    const file = work.tensors[name]!;
    const numbers = readTensor(file);
    if (tensor.element === "u32") plan.write(name, new Uint32Array(numbers.buffer));
    else if (file.shape.length === 4) {
      const [n, c, h, w] = file.shape as [number, number, number, number];
      plan.write(name, channelsLast(numbers, n, c, h * w));
    } else plan.write(name, numbers);
  }
  const megabytes = (bytes: number) => `${Math.round(bytes / 1e6)} MB`;
  return {
    note: `${plan.dispatches} dispatches, arenas of ${megabytes(plan.arenaBytes)}, weights of ${megabytes(parameters.bytes)}`,
    run: (times) => replay(gpu, plan, times),
    async output() {
      plan.run();
      const result = (await plan.read("out")) as Float32Array;
      const { shape } = recorder.outputs.get("out")!;
      return shape.length === 4 ? channelsFirst(result, shape[0]!, shape[3]!, shape[1]! * shape[2]!) : result;
    },
    profile: () => plan.profile(),
    release: () => plan.destroy(),
  };
}

/** A tensor whose values are made when they are read, piece by piece, and not kept. */
function generatedTensor(name: string, shape: readonly number[], make: () => Float32Array): TensorEntry {
  let bytes: Uint8Array | undefined;
  const byteLength = shape.reduce((product, size) => product * size, 4);
  return {
    name,
    dtype: "F32",
    shape,
    byteLength,
    file: "generated",
    async read(into, byteOffset = 0) {
      bytes ??= new Uint8Array(make().buffer);
      into.set(bytes.subarray(byteOffset, byteOffset + into.byteLength));
      if (byteOffset + into.byteLength >= byteLength) bytes = undefined;
    },
  };
}
