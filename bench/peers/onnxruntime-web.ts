/** onnxruntime-web: WebAssembly with its WebGPU provider, on the same Dawn. Waits as Daguerre does. */

import { readFileSync } from "node:fs";
import { basename } from "node:path";
import type { InferenceSession, Tensor } from "onnxruntime-web";
import { provideWebGpu, settle } from "./dawn-globals.ts";
import type { Peer, Prepared, Work } from "./peer.ts";
import type { PeerOptions } from "./serve-peer.ts";
import { readTensor } from "./tensor-file.ts";

export async function open(options: PeerOptions): Promise<Peer> {
  const device = await provideWebGpu(options);
  acceptSharedMemory();
  const ort = await import("onnxruntime-web/webgpu");
  ort.env.wasm.numThreads = 1;
  return {
    description: `onnxruntime-web ${ort.env.versions.web ?? ort.env.versions.common}, ${device}`,
    async prepare(work) {
      if (work.kind !== "op") throw new Error("onnxruntime-web takes part in single operations only");
      return prepare(ort, work);
    },
  };
}

/** Its memory is a SharedArrayBuffer, views of which dawn.node's `writeBuffer` refuses: they are copied first. */
function acceptSharedMemory(): void {
  const { prototype } = GPUQueue;
  const { writeBuffer } = prototype;
  prototype.writeBuffer = function (buffer, offset, data, dataOffset, size) {
    const view = ArrayBuffer.isView(data) ? data : undefined;
    if (!(view?.buffer instanceof SharedArrayBuffer))
      return writeBuffer.call(this, buffer, offset, data, dataOffset, size);
    const unit = "BYTES_PER_ELEMENT" in view ? (view.BYTES_PER_ELEMENT as number) : 1;
    const begin = view.byteOffset + (dataOffset ?? 0) * unit;
    const length = size === undefined ? view.byteLength - (dataOffset ?? 0) * unit : size * unit;
    return writeBuffer.call(this, buffer, offset, new Uint8Array(view.buffer, begin, length).slice());
  };
}

type Ort = typeof import("onnxruntime-web/webgpu");

async function prepare(ort: Ort, work: Work): Promise<Prepared> {
  const feeds: Record<string, Tensor> = {};
  const candidates: { session: InferenceSession; label: string; milliseconds: number }[] = [];
  const problems: string[] = [];
  for (const file of work.onnx) {
    const label = basename(file, ".onnx").replace("op-", "");
    try {
      const options = { executionProviders: ["webgpu"], logSeverityLevel: 3 as const };
      const session = await settle(ort.InferenceSession.create(readFileSync(file), options));
      for (const name of session.inputNames) {
        const tensor = work.tensors[name]!;
        feeds[name] ??= new ort.Tensor("float32", readTensor(tensor), tensor.shape);
      }
      await settle(session.run(feeds));
      const begun = performance.now();
      await settle(session.run(feeds));
      candidates.push({ session, label, milliseconds: performance.now() - begun });
    } catch (error) {
      problems.push(`${label}: ${error instanceof Error ? error.message : error}`);
    }
  }
  candidates.sort((a, b) => a.milliseconds - b.milliseconds);
  const [best, ...others] = candidates;
  for (const { session } of others) await session.release();
  if (!best) throw new Error(problems.join("; "));
  return {
    note: best.label,
    async run(times) {
      for (let i = 0; i < times; i++) await settle(best.session.run(feeds));
    },
    async output() {
      const result = await settle(best.session.run(feeds));
      return result[best.session.outputNames[0]!]!.data as Float32Array;
    },
    release: () => best.session.release(),
  };
}
