/** The trial of `daguerre doctor`: the GPU that a run would take is opened by the very code that a run uses, and computes. */

import type { AdapterFacts } from "../src/gpu/adapter-facts.ts";
import { type Gpu, openGpu } from "../src/gpu/device.ts";

/**
 * Opens the GPU that a run would open and lets it compute.
 * @param write takes one line at a time, without its end.
 * @returns undefined if it cannot be opened or computes wrongly.
 */
export async function tryOut(write: (line: string) => void): Promise<AdapterFacts | undefined> {
  let gpu: Gpu;
  try {
    gpu = await openGpu();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    write(`  ${message.replace(/ Run "daguerre doctor".*$/, "")}`); // this is it
    return undefined;
  }
  const { facts } = gpu;
  write(`  a run would use ${facts.name} (${facts.kind})${facts.note === undefined ? "" : `: ${facts.note}`}`);
  try {
    const { firstMs, againMs } = await computeSquares(gpu);
    write(`  1024 squares came out right: ${firstMs.toFixed(1)} ms with compiling, ${againMs.toFixed(1)} ms again`);
    return facts;
  } catch (error) {
    write(`  it does not work: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  } finally {
    gpu.close();
  }
}

const SQUARES = `
@group(0) @binding(0) var<storage, read_write> values: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  values[id.x] = values[id.x] * values[id.x];
}`;

/**
 * Squares 0 … 1023 on the device, twice, and checks each.
 * @throws GpuError for errors that the device reported; Error if a value is wrong.
 */
async function computeSquares(gpu: Gpu): Promise<{ firstMs: number; againMs: number }> {
  const input = Uint32Array.from({ length: 1024 }, (_, i) => i);
  const times: number[] = [];
  const values = gpu.createBuffer("values", input.byteLength);
  for (let round = 0; round < 2; round++) {
    const start = performance.now();
    const pipeline = await gpu.pipeline("squares", SQUARES);
    const layout = pipeline.getBindGroupLayout(0);
    const group = gpu.device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: values } }] });
    gpu.write(values, 0, input.buffer);
    gpu.submit("doctor", (encoder) => {
      const pass = encoder.beginComputePass({ label: "squares" });
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(input.length / 64);
      pass.end();
    });
    const output = new Uint32Array((await gpu.read(values, 0, input.byteLength)).buffer);
    const wrong = input.findIndex((value, i) => output[i] !== value * value);
    if (wrong >= 0) throw new Error(`it computes wrongly: ${wrong}² gave ${output[wrong]}`);
    times.push(performance.now() - start);
  }
  return { firstMs: times[0] ?? 0, againMs: times[1] ?? 0 };
}
