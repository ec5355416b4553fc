/** Daguerre itself: an operation as a plan of its own, many replays in one submit. */

import { type Gpu, openGpu } from "../../src/gpu/device.ts";
import type { Choose } from "../../src/graph/choice.ts";
import { compile, type Plan } from "../../src/graph/plan.ts";
import { headPadding, Recorder } from "../../src/graph/recorder.ts";
import type { Storage, Tensor } from "../../src/graph/tensor.ts";
import { type LoadedParameters, loadParameters } from "../../src/memory/load.ts";
import type { TensorEntry } from "../../src/weights/tensor-set.ts";
import { channelsFirst, channelsLast } from "../layout.ts";
import { prepareNetwork } from "../model/daguerre-network.ts";
import type { OpCase } from "../ops/cases.ts";
import type { OpWork, Peer, Prepared, StorageChoice } from "./peer.ts";
import type { PeerOptions } from "./serve-peer.ts";
import { readTensor } from "./tensor-file.ts";

export async function open({ driver }: PeerOptions): Promise<Peer> {
  const gpu = await openGpu({ adapter: driver ? { prefer: "software", driver } : {} });
  const { name, backend, description } = gpu.facts;
  return {
    description: `${name} · ${backend}${description && description !== name ? ` · ${description}` : ""} · subgroups of ${gpu.lanes ?? "unknown size"}`,
    prepare: (work) => (work.kind === "op" ? prepareOp(gpu, work) : prepareNetwork(gpu, work)),
  };
}

export function storages(choice: StorageChoice): { weights: Storage; activations: Storage } {
  return { weights: choice === "f32" ? "f32" : "f16", activations: choice === "half" ? "f16" : "f32" };
}

/** An operation with its weights, of which several plans may be made. */
export interface LoadedOp {
  readonly recorder: Recorder;
  readonly parameters: LoadedParameters;
  readonly activations: Storage;
}

export async function loadOp(gpu: Gpu, { op, tensors, storage = "f32" }: OpWork): Promise<LoadedOp> {
  // Attention has no weights: what can be packed are its queries, keys and values.
  const { weights, activations } = storages(storage === "packed" && op.kind === "attention" ? "half" : storage);
  const recorder = new Recorder();
  recorder.output("out", record(recorder, op));
  const entries = new Map<string, TensorEntry>();
  for (const [name, { shape }] of Object.entries(tensors)) {
    const parameter = PARAMETER_NAMES[name];
    if (parameter) entries.set(parameter, memoryTensor(parameter, shape, readTensor(tensors[name]!)));
  }
  const options = { label: "bench", storage: weights };
  const parameters = await loadParameters(gpu, recorder.parameters.values(), entries, options);
  return { recorder, parameters, activations };
}

export interface PrepareOptions {
  /** Made by `loadOp`, and left to whoever made it. */
  readonly loaded?: LoadedOp;
  /** Which kernels run. Default: by rule. */
  readonly choose?: Choose;
}

export async function prepareOp(gpu: Gpu, work: OpWork, { loaded, choose }: PrepareOptions = {}): Promise<Prepared> {
  const { op, tensors } = work;
  const values = (name: string) => readTensor(tensors[name]!);
  const { recorder: g, parameters, activations } = loaded ?? (await loadOp(gpu, work));
  const plan = await compile(gpu, g, { label: op.name, storage: activations, parameters, choose });
  for (const name of g.inputs.keys()) {
    const { shape } = tensors[name]!;
    const picture = shape.length === 4;
    plan.write(name, picture ? channelsLast(values(name), shape[0]!, shape[1]!, shape[2]! * shape[3]!) : values(name));
  }
  return {
    run: (times) => replay(gpu, plan, times),
    async output() {
      plan.run();
      const result = (await plan.read("out")) as Float32Array;
      const { shape } = g.outputs.get("out")!;
      return shape.length === 4 ? channelsFirst(result, shape[0]!, shape[3]!, shape[1]! * shape[2]!) : result;
    },
    release() {
      plan.destroy();
      if (!loaded) parameters.destroy();
    },
  };
}

/** So many replays in one submission. */
export async function replay(gpu: Gpu, plan: Plan, times: number): Promise<void> {
  gpu.submit("replays", (encoder) => {
    for (let i = 0; i < times; i++) plan.encode(encoder);
  });
  await gpu.idle();
}

const PARAMETER_NAMES: Record<string, string> = {
  weight: "layer.weight",
  bias: "layer.bias",
  gamma: "layer.weight",
  beta: "layer.bias",
};

function record(g: Recorder, op: OpCase): Tensor {
  switch (op.kind) {
    case "gemm":
      return g.linear(g.input("x", [op.rows, op.inputs]), "layer", { outputs: op.outputs, bias: false });
    case "conv": {
      const { outputs, kernel, stride, padding } = op;
      return g.conv2d(g.input("x", [1, op.size, op.size, op.inputs]), "layer", { outputs, kernel, stride, padding });
    }
    case "group-norm": {
      let x = g.input("x", [1, op.size, op.size, op.channels]);
      for (let i = 0; i < op.times; i++) {
        x = g.activation(g.groupNorm(x, "layer", { groups: op.groups, eps: 1e-5 }), "silu");
      }
      return x;
    }
    case "attention": {
      const { heads } = op;
      const head = headPadding(op.head);
      const view = (name: string, tokens: number) => ({
        tensor: g.input(name, [1, tokens, heads * op.head]),
        offset: 0,
      });
      const views = { query: view("query", op.queries), key: view("key", op.keys), value: view("value", op.keys) };
      return g.attention("layer", views, { heads, head });
    }
    default:
      return op satisfies never;
  }
}

/** A checkpoint's tensor that is in memory. */
export function memoryTensor(name: string, shape: readonly number[], values: Float32Array): TensorEntry {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return {
    name,
    dtype: "F32",
    shape,
    byteLength: bytes.byteLength,
    file: "memory",
    async read(into, byteOffset = 0) {
      into.set(bytes.subarray(byteOffset, byteOffset + into.byteLength));
    },
  };
}
