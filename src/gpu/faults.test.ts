import { afterEach, expect, it } from "vitest";
import { globals } from "webgpu";
import { requestDevice } from "./device-request.ts";
import { openAdapter } from "./drivers/adapter.ts";
import { DeviceLostError, GpuOutOfMemoryError, GpuValidationError, toGpuError } from "./errors.ts";
import { type DeviceWatch, watchDevice } from "./faults.ts";
import { settle } from "./waiting.ts";

const { GPUBufferUsage } = globals as unknown as { GPUBufferUsage: GPUBufferUsage };

let device: GPUDevice;

async function open(onError?: (error: Error) => void): Promise<DeviceWatch> {
  device = await requestDevice((await openAdapter()).adapter, "faults");
  return watchDevice(device, onError);
}

afterEach(() => device.destroy());

function pipeline(label: string): GPUComputePipeline {
  const code =
    "@group(0) @binding(0) var<storage, read_write> o: array<f32>; @compute @workgroup_size(1) fn main() { o[0] = 1; }";
  const module = device.createShaderModule({ label: "write one", code });
  return device.createComputePipeline({ label, layout: "auto", compute: { module } });
}

/** Encodes one dispatch without its bind group. */
function submitWithoutBindGroup(plan: string, kernel: string): void {
  const encoder = device.createCommandEncoder({ label: plan });
  const pass = encoder.beginComputePass({ label: kernel });
  pass.setPipeline(pipeline(kernel));
  pass.dispatchWorkgroups(1);
  pass.end();
  device.queue.submit([encoder.finish({ label: plan })]);
}

it("throws an invalid dispatch as an error that names plan and kernel, once", async () => {
  const heard: Error[] = [];
  const watch = await open((error) => heard.push(error));
  watch.check();
  submitWithoutBindGroup("unet 8x8", "mid_block.resnets.0.conv1");
  await settle(device.queue.onSubmittedWorkDone());
  expect(heard).toEqual(watch.errors);
  let thrown: unknown;
  try {
    watch.check();
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(GpuValidationError);
  const labels = (thrown as GpuValidationError).labels.map((l) => l.label);
  expect(labels).toContain("unet 8x8");
  expect(labels).toContain("mid_block.resnets.0.conv1");
  watch.check();
});

it("throws a shader that does not compile, naming it", async () => {
  const watch = await open();
  device.createShaderModule({ label: "conv2d", code: "fn main() { let x = y; }" });
  await settle(device.queue.onSubmittedWorkDone());
  expect(() => watch.check()).toThrow(/unresolved value 'y'[\s\S]*conv2d/);
});

it("turns the failure of an awaited pipeline into a validation error with the context that Dawn leaves out", async () => {
  await open();
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ label: "conv2d", code: "broken" });
  await settle(device.popErrorScope());
  const failure = device.createComputePipelineAsync({ label: "mid.conv", layout: "auto", compute: { module } }).then(
    () => undefined,
    (error: unknown) => toGpuError(error, "mid.conv"),
  );
  const error = await settle(failure);
  expect(error).toBeInstanceOf(GpuValidationError);
  expect(error?.labels.map((l) => l.label)).toEqual(["mid.conv", "conv2d"]);
});

it("tells out-of-memory from bad calls", async () => {
  await open();
  const Oom = (globals as unknown as { GPUOutOfMemoryError: new (m: string) => object }).GPUOutOfMemoryError;
  expect(toGpuError(new Oom('[Buffer "arena 1"] could not be allocated'))).toBeInstanceOf(GpuOutOfMemoryError);
});

it("keeps no more than a bounded number of errors", async () => {
  const watch = await open();
  for (let i = 0; i < 50; i++) {
    device.createBuffer({ label: `b${i}`, size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
  }
  await settle(device.queue.onSubmittedWorkDone());
  expect(watch.errors).toHaveLength(32);
  expect(() => watch.check()).toThrow(GpuValidationError);
  expect(watch.errors).toHaveLength(0);
});

it("tells of a lost device, at once and ever after", async () => {
  const watch = await open();
  expect(watch.loss).toBeUndefined();
  device.destroy();
  const loss = await watch.lost;
  expect(loss).toBeInstanceOf(DeviceLostError);
  expect(loss.reason).toBe("destroyed");
  expect(() => watch.check()).toThrow(loss);
  expect(() => watch.check()).toThrow(loss);
});
