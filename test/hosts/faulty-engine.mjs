// The real engine, with two faults that no signal can cause by itself: SIGUSR2 loses its device, SIGHUP gives the device a
// kernel that does not return. `engineMain` is the engine's module.
import { globals } from "webgpu";

let device;
const { requestDevice } = globals.GPUAdapter.prototype;
globals.GPUAdapter.prototype.requestDevice = async function (...wishes) {
  device = await requestDevice.apply(this, wishes);
  return device;
};

const ENDLESS = `
@group(0) @binding(0) var<storage, read_write> cell: array<atomic<u32>>;
@compute @workgroup_size(1) fn main() { while (atomicLoad(&cell[0]) == 0u) { atomicAdd(&cell[1], 1u); } }`;

function hang() {
  const module = device.createShaderModule({ code: ENDLESS });
  const pipeline = device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
  const buffer = device.createBuffer({ size: 16, usage: 128 });
  const layout = pipeline.getBindGroupLayout(0);
  const group = device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer } }] });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(1);
  pass.end();
  device.queue.submit([encoder.finish()]);
}

process.on("SIGUSR2", () => device.destroy());
process.on("SIGHUP", hang);

export default async function open({ engineMain, ...options }, link) {
  const engine = await import(engineMain);
  return engine.open(options, link);
}
