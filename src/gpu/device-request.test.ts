/** A GPU that an embedding program brings: its `GPU` object, or a device that it made. */

import { describe, expect, it } from "vitest";
import { openGpu } from "./device.ts";
import { deviceDescriptor } from "./device-request.ts";
import { openAdapter } from "./drivers/adapter.ts";
import { AdapterError } from "./errors.ts";

const DOUBLE = `
@group(0) @binding(0) var<storage, read_write> values: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) { values[id.x] = values[id.x] * 2; }`;

type Opened = Awaited<ReturnType<typeof openGpu>>;

/** Doubles 0 … 63 on the device. */
async function doubled(gpu: Opened): Promise<number[]> {
  const values = gpu.createBuffer("values", 256);
  gpu.write(values, 0, Uint32Array.from({ length: 64 }, (_, i) => i).buffer);
  const pipeline = await gpu.pipeline("double", DOUBLE);
  const layout = pipeline.getBindGroupLayout(0);
  const group = gpu.device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: values } }] });
  gpu.submit("double", (encoder) => {
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(1);
    pass.end();
  });
  return [...new Uint32Array((await gpu.read(values, 0, 256)).buffer)];
}

const expected = Array.from({ length: 64 }, (_, i) => i * 2);

describe("a GPU object", () => {
  it("is asked for an adapter and a device with its limits and features", async () => {
    const { gpu: given, facts } = await openAdapter();
    const gpu = await openGpu({ gpu: given });
    expect(gpu.facts).toMatchObject({ kind: facts.kind, description: facts.description, backend: "webgpu" });
    expect(gpu.facts.features).toEqual(facts.features);
    expect(gpu.facts.note).toBeUndefined();
    expect(await doubled(gpu)).toEqual(expected);
    const { device } = gpu;
    gpu.close();
    expect((await device.lost).reason).toBe("destroyed");
  });

  it("is refused if it offers no adapter", async () => {
    const none = { requestAdapter: async () => null } as unknown as GPU;
    await expect(openGpu({ gpu: none })).rejects.toThrow(AdapterError);
  });
});

describe("a device", () => {
  it("is used as it is, and outlives what Daguerre made on it", async () => {
    const { adapter, facts } = await openAdapter();
    const device = await adapter.requestDevice(deviceDescriptor(adapter));
    const gpu = await openGpu({ gpu: device });
    expect(gpu.device).toBe(device);
    expect(gpu.facts).toMatchObject({ kind: facts.kind, description: facts.description, backend: "webgpu" });
    const lacks = ["shader-f16", "subgroups"].some((name) => !facts.features.includes(name));
    expect(gpu.facts.note !== undefined).toBe(lacks);
    expect(gpu.maxBindingBytes).toBe(
      Math.min(adapter.limits.maxStorageBufferBindingSize, adapter.limits.maxBufferSize),
    );
    expect(await doubled(gpu)).toEqual(expected);
    gpu.close();
    expect(gpu.memory.bytes).toBe(0);
    const again = await openGpu({ gpu: device });
    expect(await doubled(again)).toEqual(expected);
    device.destroy();
  });

  it("that was made with nothing asked for works, and the note says what it lacks", async () => {
    const { adapter } = await openAdapter();
    const device = await adapter.requestDevice();
    const gpu = await openGpu({ gpu: device });
    expect(gpu.lanes).toBeUndefined();
    expect(gpu.hasTimestamps).toBe(false);
    expect(gpu.facts.note).toMatch(/has no shader-f16 and no subgroups.* no buffer over 268435456 bytes/);
    expect(gpu.facts.note).toContain("deviceDescriptor(adapter)");
    expect(await doubled(gpu)).toEqual(expected);
    device.destroy();
  });

  it("with limits below what kernels need is refused, and all of these are named", async () => {
    const limits = { maxStorageBuffersPerShaderStage: 4, maxComputeInvocationsPerWorkgroup: 128 };
    const others = { maxComputeWorkgroupSizeX: 256, maxComputeWorkgroupStorageSize: 16384 };
    const device = { queue: {}, limits: { ...limits, ...others }, features: new Set() } as unknown as GPUDevice;
    const refused = openGpu({ gpu: device });
    await expect(refused).rejects.toThrow(AdapterError);
    await expect(refused).rejects.toThrow(/maxStorageBuffersPerShaderStage \(it is 4, and 8 is needed\)/);
    await expect(refused).rejects.toThrow(/maxComputeInvocationsPerWorkgroup \(it is 128, and 256 is needed\)/);
  });
});
