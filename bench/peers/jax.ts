/** jax-js (`@jax-js/jax`): jitted functions on its WebGPU backend. Waits as Daguerre does, which is to its advantage. */

import { defaultDevice, init, type Array as JaxArray, jit, lax, nn, numpy as np } from "@jax-js/jax";
import type { OpCase } from "../ops/cases.ts";
import { provideWebGpu, settle } from "./dawn-globals.ts";
import type { OpWork, Peer, Prepared } from "./peer.ts";
import type { PeerOptions } from "./serve-peer.ts";
import { readTensor } from "./tensor-file.ts";

export async function open(options: PeerOptions): Promise<Peer> {
  const device = await provideWebGpu(options);
  await init("webgpu");
  defaultDevice("webgpu");
  return {
    description: `jax-js 0.1, ${device}`,
    async prepare(work) {
      if (work.kind !== "op") throw new Error("jax-js takes part in single operations only");
      return prepare(work);
    },
  };
}

async function prepare({ op, tensors }: OpWork): Promise<Prepared> {
  const names = Object.keys(tensors);
  const values = names.map((name) =>
    np.array(readTensor(tensors[name]!) as Float32Array<ArrayBuffer>).reshape([...tensors[name]!.shape]),
  );
  const compute = jit((...args: JaxArray[]) =>
    forward(op, Object.fromEntries(names.map((name, i) => [name, args[i]!]))),
  );
  const once = () => compute(...values.map((value) => value.ref)) as JaxArray;
  await settle(once().blockUntilReady());
  return {
    async run(times) {
      // All are waited for: what is disposed of before does not run.
      const runs = Array.from({ length: times }, () => settle(once().blockUntilReady()));
      for (const done of await Promise.all(runs)) done.dispose();
    },
    async output() {
      return (await settle(once().data())) as Float32Array;
    },
    release() {
      for (const value of values) value.dispose();
      compute.dispose();
    },
  };
}

function forward(op: OpCase, t: Record<string, JaxArray>): JaxArray {
  switch (op.kind) {
    case "gemm":
      return np.matmul(t["x"]!, t["weight"]!.transpose());
    case "conv": {
      const pad: [number, number] = [op.padding, op.padding];
      const y = lax.convGeneralDilated(t["x"]!, t["weight"]!, [op.stride, op.stride], [pad, pad]);
      return y.add(t["bias"]!.reshape([op.outputs, 1, 1]));
    }
    case "group-norm": {
      const { channels, size, groups } = op;
      let x = t["x"]!;
      for (let i = 0; i < op.times; i++) {
        const grouped = x.reshape([groups, (channels / groups) * size * size]);
        const mean = np.mean(grouped.ref, 1, { keepdims: true });
        const centred = grouped.sub(mean);
        const variance = np.mean(np.square(centred.ref), 1, { keepdims: true });
        const normal = centred.div(np.sqrt(variance.add(1e-5))).reshape([1, channels, size, size]);
        const last = i === op.times - 1;
        const [gamma, beta] = last ? [t["gamma"]!, t["beta"]!] : [t["gamma"]!.ref, t["beta"]!.ref];
        x = nn.silu(normal.mul(gamma.reshape([channels, 1, 1])).add(beta.reshape([channels, 1, 1]))) as JaxArray;
      }
      return x;
    }
    case "attention": {
      const { heads, head, queries, keys } = op;
      const attended = nn.dotProductAttention(
        t["query"]!.reshape([1, queries, heads, head]),
        t["key"]!.reshape([1, keys, heads, head]),
        t["value"]!.reshape([1, keys, heads, head]),
      );
      return attended.reshape([1, queries, heads * head]);
    }
    default:
      return op satisfies never;
  }
}
