/** TensorFlow.js on its WebGPU backend. Waits as Daguerre does, which is to its advantage. */

import type { WebGPUBackend } from "@tensorflow/tfjs-backend-webgpu";
import * as tf from "@tensorflow/tfjs-core";
import { channelsFirst, channelsLast } from "../layout.ts";
import type { OpCase } from "../ops/cases.ts";
import { provideWebGpu, settle } from "./dawn-globals.ts";
import type { OpWork, Peer, Prepared } from "./peer.ts";
import type { PeerOptions } from "./serve-peer.ts";
import { readTensor } from "./tensor-file.ts";

export async function open(options: PeerOptions): Promise<Peer> {
  const device = await provideWebGpu(options);
  // Registers itself, if it finds WebGPU when it is loaded.
  await import("@tensorflow/tfjs-backend-webgpu");
  await settle(tf.setBackend("webgpu"));
  await settle(tf.ready());
  if (tf.getBackend() !== "webgpu") throw new Error(`its backend is ${tf.getBackend()}`);
  return {
    description: `tfjs-webgpu ${tf.version_core}, ${device}`,
    async prepare(work) {
      if (work.kind !== "op") throw new Error("tfjs takes part in single operations only");
      return prepare(work);
    },
  };
}

async function prepare({ op, tensors }: OpWork): Promise<Prepared> {
  const values: Record<string, tf.Tensor> = {};
  for (const [name, tensor] of Object.entries(tensors))
    values[name] = place(op, name, readTensor(tensor), tensor.shape);
  const once = () => tf.tidy(() => forward(op, values));
  const backend = tf.backend() as WebGPUBackend;
  const finished = async () => {
    backend.endComputePassEncoder();
    backend.submitQueue();
    await settle(backend.device.queue.onSubmittedWorkDone());
  };
  once().dispose();
  await finished();
  return {
    async run(times) {
      for (let i = 0; i < times; i++) once().dispose();
      await finished();
    },
    async output() {
      const result = once();
      const data = (await settle(result.data())) as Float32Array;
      const { shape } = result;
      result.dispose();
      if (op.kind === "attention") return heads(data, op.heads, op.queries, op.head);
      return shape.length === 4 ? channelsFirst(data, 1, shape[3]!, shape[1]! * shape[2]!) : data;
    },
    release() {
      tf.dispose(values);
    },
  };
}

/** A tensor in the layout that tfjs computes in. */
function place(op: OpCase, name: string, values: Float32Array, shape: readonly number[]): tf.Tensor {
  if (op.kind === "attention") {
    const tokens = shape[1]!;
    return tf.tidy(() => tf.transpose(tf.tensor(values, [tokens, op.heads, op.head]), [1, 0, 2]));
  }
  if (name === "weight" && op.kind === "conv")
    return tf.tidy(() => tf.transpose(tf.tensor(values, [...shape]), [2, 3, 1, 0]));
  if (shape.length === 4) {
    const [n, c, h, w] = shape as [number, number, number, number];
    return tf.tensor(channelsLast(values, n, c, h * w), [n, h, w, c]);
  }
  return tf.tensor(values, [...shape]);
}

function forward(op: OpCase, t: Record<string, tf.Tensor>): tf.Tensor {
  switch (op.kind) {
    case "gemm":
      return tf.matMul(t["x"] as tf.Tensor2D, t["weight"] as tf.Tensor2D, false, true);
    case "conv":
      return tf.fused.conv2d({
        x: t["x"] as tf.Tensor4D,
        filter: t["weight"] as tf.Tensor4D,
        strides: op.stride,
        pad: op.padding,
        bias: t["bias"]!,
      });
    case "group-norm": {
      const { channels, size, groups } = op;
      let x = t["x"]!;
      for (let i = 0; i < op.times; i++) {
        const grouped = tf.reshape(x, [size * size, groups, channels / groups]);
        const { mean, variance } = tf.moments(grouped, [0, 2], true);
        const normal = tf.mul(tf.sub(grouped, mean), tf.rsqrt(tf.add(variance, 1e-5)));
        const y = tf.add(tf.mul(tf.reshape(normal, [1, size, size, channels]), t["gamma"]!), t["beta"]!);
        x = tf.mul(y, tf.sigmoid(y));
      }
      return x;
    }
    case "attention": {
      const scores = tf.mul(tf.matMul(t["query"]!, t["key"]!, false, true), op.head ** -0.5);
      return tf.matMul(tf.softmax(scores), t["value"]!);
    }
    default:
      return op satisfies never;
  }
}

/** `[heads, tokens, head]` → `[tokens, heads · head]` */
function heads(values: Float32Array, count: number, tokens: number, width: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let h = 0; h < count; h++) {
    for (let token = 0; token < tokens; token++) {
      const from = (h * tokens + token) * width;
      out.set(values.subarray(from, from + width), (token * count + h) * width);
    }
  }
  return out;
}
