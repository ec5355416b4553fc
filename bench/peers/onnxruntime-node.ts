/** onnxruntime-node: its WebGPU provider (Dawn, native) and its CPU provider. */

import { basename } from "node:path";
import ort from "onnxruntime-node";
import type { Peer, Prepared, Work } from "./peer.ts";
import { readTensor } from "./tensor-file.ts";

type Provider = ort.InferenceSession.ExecutionProviderConfig;

export async function openWebGpu(): Promise<Peer> {
  // Both layouts are tried: the provider converts convolutions to NHWC unless it is told not to.
  const webgpu = (preferredLayout: "NHWC" | "NCHW") => ({ name: "webgpu", preferredLayout }) as Provider;
  return peer("WebGPU provider", [webgpu("NHWC"), webgpu("NCHW")]);
}

export async function openCpu(): Promise<Peer> {
  return peer("CPU provider", [{ name: "cpu" }]);
}

function peer(name: string, providers: readonly Provider[]): Peer {
  return {
    description: `onnxruntime-node ${ort.env.versions.node ?? ort.env.versions.common}, ${name}`,
    prepare: (work) => prepare(work, providers),
  };
}

interface Candidate {
  readonly session: ort.InferenceSession;
  readonly label: string;
  readonly milliseconds: number;
}

/** Sessions of the work on every provider; the fastest is kept. */
async function prepare(work: Work, providers: readonly Provider[]): Promise<Prepared> {
  const feeds: Record<string, ort.Tensor> = {};
  const candidates: Candidate[] = [];
  const problems: string[] = [];
  // A network is loaded once, in the layout that the provider prefers: twice would take twice the memory.
  const forms = work.kind === "op" ? providers : providers.slice(0, 1);
  for (const file of work.onnx) {
    for (const provider of forms) {
      const layout =
        typeof provider === "object" && "preferredLayout" in provider ? provider.preferredLayout : undefined;
      const label = [basename(file, ".onnx").replace("op-", ""), layout]
        .filter((part) => part !== undefined)
        .join(", ");
      try {
        const options = { executionProviders: [provider], logSeverityLevel: 3 as const };
        const session = await ort.InferenceSession.create(file, options);
        for (const name of session.inputNames) {
          feeds[name] ??= toTensor(work.tensors[name]!, name);
        }
        if (work.kind === "op") await session.run(feeds);
        const begun = performance.now();
        if (work.kind === "op") await session.run(feeds);
        candidates.push({ session, label, milliseconds: performance.now() - begun });
      } catch (error) {
        problems.push(`${label}: ${error instanceof Error ? error.message : error}`);
      }
    }
  }
  candidates.sort((a, b) => a.milliseconds - b.milliseconds);
  const [best, ...others] = candidates;
  for (const { session } of others) await session.release();
  if (!best) throw new Error(problems.join("; "));
  return {
    note: best.label,
    async run(times) {
      for (let i = 0; i < times; i++) await best.session.run(feeds);
    },
    async output() {
      const result = await best.session.run(feeds);
      return result[best.session.outputNames[0]!]!.data as Float32Array;
    },
    release: () => best.session.release(),
  };
}

function toTensor(tensor: Work["tensors"][string], name: string): ort.Tensor {
  const values = readTensor(tensor);
  if (name === "ids" || name === "end") return new ort.Tensor("int32", new Int32Array(values.buffer), tensor.shape);
  return new ort.Tensor("float32", values, tensor.shape);
}
