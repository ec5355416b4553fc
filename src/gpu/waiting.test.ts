import { readFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { globals } from "webgpu";
import { requestDevice } from "./device-request.ts";
import { openAdapter } from "./drivers/adapter.ts";
import { settle } from "./waiting.ts";

const { GPUBufferUsage } = globals as unknown as { GPUBufferUsage: GPUBufferUsage };

let device: GPUDevice;
let pipeline: GPUComputePipeline;
let group: GPUBindGroup;

/** Submits a dispatch of `workgroups` groups of 64 invocations that each loop long enough to take a while. */
function submit(workgroups: number): Promise<undefined> {
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(workgroups);
  pass.end();
  device.queue.submit([encoder.finish()]);
  return device.queue.onSubmittedWorkDone();
}

/** Workgroups that keep this adapter busy for about 400 ms. */
let long = 1;

beforeAll(async () => {
  device = await requestDevice((await openAdapter()).adapter, "waiting");
  const code = `
    @group(0) @binding(0) var<storage, read_write> out: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
      var a = f32(id.x);
      for (var i = 0u; i < 20000u; i++) { a = a * 1.0001 + 0.5; }
      out[id.x % 64u] = a;
    }`;
  pipeline = device.createComputePipeline({
    layout: "auto",
    compute: { module: device.createShaderModule({ code }) },
  });
  const buffer = device.createBuffer({ size: 256, usage: GPUBufferUsage.STORAGE });
  group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: [{ binding: 0, resource: { buffer } }],
  });
  await settle(submit(1)); // the driver compiles at the first dispatch
  for (let took = 0; took < 200 && long < 32768; ) {
    long *= 2;
    const start = performance.now();
    await settle(submit(long));
    took = performance.now() - start;
  }
});

afterAll(() => device.destroy());

it("resolves and rejects as the promise does", async () => {
  await expect(settle(Promise.resolve(3))).resolves.toBe(3);
  await expect(settle(Promise.reject(new Error("no")))).rejects.toThrow("no");
});

it("serves several waiters at once, and can be used again after", async () => {
  const waits = [settle(submit(1)), settle(submit(2)), settle(device.queue.onSubmittedWorkDone())];
  await expect(Promise.all(waits)).resolves.toHaveLength(3);
  await settle(submit(1));
});

it("does not keep the event loop turning once nobody waits", async () => {
  await settle(submit(1));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(process.getActiveResourcesInfo()).not.toContain("Immediate");
});

it("keeps timers and immediates running meanwhile", async () => {
  let ticks = 0;
  const ticking = setInterval(() => ticks++, 5);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const start = performance.now();
  delay.enable();
  await settle(submit(long));
  delay.disable();
  const took = performance.now() - start;
  clearInterval(ticking);
  // A free core gives one tick every 5 ms; a crowded one a good part of that.
  expect(ticks).toBeGreaterThan(took / 5 / 5);
  expect(delay.percentile(50) / 1e6).toBeLessThan(10);
});

// Per-thread CPU time comes from /proc; Node has no call for it before 23.9.
describe.runIf(process.platform === "linux")("CPU", () => {
  const threadMs = () => Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;

  async function share(wait: (work: Promise<undefined>) => Promise<undefined>): Promise<number> {
    const start = performance.now();
    const cpu = threadMs();
    await wait(submit(long));
    return (threadMs() - cpu) / (performance.now() - start);
  }

  it("takes a small part of what spinning takes", { retry: 2 }, async () => {
    // On a free core spinning takes all of it and waiting 2 to 4%. Where other processes crowd the cores (a software
    // GPU is one), spinning gets less: hence the second bound.
    const spinning = await share((work) => work);
    const waiting = await share(settle);
    expect(waiting).toBeLessThan(0.3);
    expect(waiting).toBeLessThan(spinning / 2);
  });
});
