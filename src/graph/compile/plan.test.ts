/** Plans on every adapter: whole networks, prologues, reading and writing, profiles, leaks, and how faults surface. */

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, describe, expect, test } from "vitest";
import { type Gpu, openGpu } from "../../gpu/device.ts";
import { DeviceLostError, type GpuError, GpuValidationError } from "../../gpu/errors.ts";
import { type LoadedParameters, loadParameters } from "../../memory/load.ts";
import { compile, footprint, type Plan } from "../plan.ts";
import { GraphError, Recorder } from "../recorder.ts";
import type { Storage } from "../tensor.ts";
import { relativeDifference } from "../testing/closeness.ts";
import { closeAll, openAdapters } from "../testing/devices.ts";
import { randomNetwork } from "../testing/graphs.ts";
import { interpret } from "../testing/interpreter.ts";
import type { MemoryRecord } from "../testing/many-runs.ts";
import { entriesOf, type Weights, weightsFor } from "../testing/run.ts";
import { normals, random, stored } from "../testing/values.ts";
import type { ParameterBuffers } from "../weights.ts";

const devices = await openAdapters();
afterAll(() => closeAll(devices));

const execFileAsync = promisify(execFile);
const NO_PARAMETERS: ParameterBuffers = { storage: "f32", get: () => [] };

function load(gpu: Gpu, recorder: Recorder, weights: Weights, storage: Storage = "f32"): Promise<LoadedParameters> {
  return loadParameters(gpu, recorder.parameters.values(), entriesOf(weights), { label: "weights", storage });
}

/** A convolution, group norm and activation: two dispatches with subgroups, else three. */
function smallNetwork(): Recorder {
  const g = new Recorder();
  const x = g.input("x", [1, 8, 8, 4]);
  const h = g.scope("block", () =>
    g.activation(
      g.groupNorm(g.conv2d(x, "conv", { outputs: 8, padding: 1 }), "norm", { groups: 2, eps: 1e-5 }),
      "silu",
    ),
  );
  g.output("y", h);
  return g;
}

interface Made {
  readonly plan: Plan;
  readonly parameters: LoadedParameters;
  destroy(): void;
}

async function make(gpu: Gpu, recorder: Recorder, label = "small 8 × 8", storage: Storage = "f32"): Promise<Made> {
  const parameters = await load(gpu, recorder, weightsFor(recorder, random(50), { deviation: 0.3 }), storage);
  const plan = await compile(gpu, recorder, { label, storage, parameters });
  const destroy = () => {
    plan.destroy();
    parameters.destroy();
  };
  return { plan, parameters, destroy };
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("nothing failed");
}

/** The kernel of `smallNetwork`'s convolution, which has few channels. */
function convolutionKernel({ lanes }: Gpu): string {
  if (lanes === undefined) return "conv2d_tiled";
  return lanes === 4 ? "conv2d_subgroup_quad" : "conv2d_narrow";
}

describe.each(devices)("$name", ({ gpu }) => {
  describe("a network gives what its layers give one by one, in two replays", () => {
    test.each(Array.from({ length: 12 }, (_, seed) => seed))("network %i", async (seed) => {
      const g = randomNetwork(seed + 500, 16);
      const weights = weightsFor(g, random(seed), { deviation: 0.3 });
      const parameters = await load(gpu, g, weights);
      const plan = await compile(gpu, g, { label: `network ${seed}`, storage: "f32", parameters });
      const source = random(seed);
      const inputs = new Map<number, Float32Array>();
      try {
        // First all inputs; then one that leaves the prologue as it is; then the one that it follows from.
        for (const changed of [["x", "row", "factors", "fixed"], ["x"], ["fixed"]]) {
          for (const name of changed) {
            const tensor = g.inputs.get(name)!;
            inputs.set(
              tensor.id,
              normals(
                source,
                tensor.shape.reduce((a, b) => a * b),
              ),
            );
            plan.write(name, inputs.get(tensor.id)!);
          }
          plan.run();
          const wanted = interpret(g.operations, inputs, weights);
          for (const [name, tensor] of g.outputs) {
            const got = (await plan.read(name)) as Float32Array;
            expect(relativeDifference(got, wanted.get(tensor.id)!), `${name} after ${changed}`).toBeLessThan(1e-4);
          }
        }
        await gpu.idle();
      } finally {
        plan.destroy();
        parameters.destroy();
      }
    });
  });

  describe("a prologue", () => {
    function network(): Recorder {
      const g = new Recorder();
      const text = g.input("text", [1, 6, 8], { constant: true });
      const keys = g.linear(g.layerNorm(text, "norm", { eps: 1e-5 }), "keys", { outputs: 8 });
      g.output("y", g.add(g.activation(g.input("x", [1, 6, 8]), "silu"), keys));
      return g;
    }

    test("runs when a constant input was written, and only then", async () => {
      const { plan, destroy } = await make(gpu, network());
      expect(plan.dispatches).toBe(2); // the activation and the addition
      const [first, second] = [normals(random(1), 48), normals(random(2), 48)];
      const zeros = new Float32Array(48);
      plan.write("x", zeros);
      plan.write("text", first);
      plan.run();
      const keys = await plan.read("y");
      // Behind the plan's back.
      const { buffer, offset } = plan.range("text");
      gpu.device.queue.writeBuffer(buffer, offset, second);
      plan.run();
      expect(await plan.read("y")).toEqual(keys);
      plan.touch();
      plan.run();
      const changed = await plan.read("y");
      expect(changed).not.toEqual(keys);
      plan.write("text", first);
      plan.run();
      expect(await plan.read("y")).toEqual(keys);
      await gpu.idle();
      destroy();
    });

    test("keeps its results while steps use the memory around them", async () => {
      const { plan, destroy } = await make(gpu, network());
      plan.write("text", normals(random(1), 48));
      plan.write("x", new Float32Array(48));
      plan.run();
      const keys = await plan.read("y");
      for (let i = 0; i < 5; i++) {
        plan.write("x", normals(random(i), 48));
        plan.run();
      }
      plan.write("x", new Float32Array(48));
      plan.run();
      expect(await plan.read("y")).toEqual(keys);
      destroy();
    });
  });

  test.each(["f32", "f16"] as Storage[])("what is written is read back in %s, padding left out", async (storage) => {
    const g = new Recorder();
    const shape = [2, 3, 5, 7];
    const count = shape.reduce((a, b) => a * b);
    g.state("state", shape);
    g.input("half", shape);
    g.input("ids", [5], { element: "u32" });
    g.output("y", g.activation(g.input("x", shape), "relu"));
    const plan = await compile(gpu, g, { label: "round trip", storage, parameters: NO_PARAMETERS });
    const values = normals(random(51), count, { deviation: 100 });
    for (const name of ["state", "half"]) plan.write(name, values);
    plan.write("ids", Uint32Array.of(0, 1, 0xffffffff, 3, 4));
    expect(await plan.read("state")).toEqual(values); // states are f32 always
    expect(await plan.read("half")).toEqual(stored(values, storage));
    expect(await plan.read("ids")).toEqual(Uint32Array.of(0, 1, 0xffffffff, 3, 4));
    plan.destroy();
  });

  test("a wrong name, length or type is refused before anything is written", async () => {
    const { plan, destroy } = await make(gpu, smallNetwork());
    expect(() => plan.write("z", new Float32Array(256))).toThrow(GraphError);
    expect(() => plan.write("z", new Float32Array(256))).toThrow(/small 8 × 8: no tensor is named z; there are x, y/);
    expect(() => plan.write("x", new Float32Array(255))).toThrow(
      /x: wants Float32Array of 256 for \[1,8,8,4\], got Float32Array of 255/,
    );
    expect(() => plan.write("x", new Uint32Array(256))).toThrow(GraphError);
    await expect(plan.read("z")).rejects.toThrow(GraphError);
    destroy();
  });

  test("a replay that is read gives what a read after it gives, in one wait for which the thread is free", async () => {
    const g = new Recorder();
    g.output("y", g.conv2d(g.input("x", [1, 64, 64, 64]), "conv", { outputs: 64, padding: 1 }));
    const { plan, destroy } = await make(gpu, g);
    plan.write("x", normals(random(4), 64 ** 3));
    await plan.replay();
    const wanted = await plan.read("y");
    const busy: number[] = [];
    for (let round = 0; round < 10; round++) {
      const before = performance.eventLoopUtilization();
      const got = await plan.replayAndRead("y");
      busy.push(performance.eventLoopUtilization(before).utilization);
      if (round === 0) expect(got).toEqual(wanted);
    }
    // If it is polled from the beginning, the loop is never idle. A GPU is done before a timer is worth it.
    if (gpu.facts.kind === "software") expect(Math.min(...busy)).toBeLessThan(0.8);
    destroy();
  });

  test("memory is what was planned, and is all given back", async () => {
    const before = gpu.memory;
    const g = smallNetwork();
    const { plan, parameters, destroy } = await make(gpu, g);
    expect(plan.arenaBytes).toBe(footprint(gpu, g, { storage: "f32", weightStorage: "f32" }).arenas);
    expect(gpu.memory.bytes - before.bytes).toBe(plan.bytes + parameters.bytes);
    destroy();
    plan.destroy(); // twice is no harm
    expect(gpu.memory.bytes).toBe(before.bytes);
    expect(gpu.memory.buffers).toBe(before.buffers);
  });

  test("three thousand runs leak nothing", async () => {
    // A process of its own: the heap of a test runner moves by more than a leak would.
    const loaders = ["--import", "./tooling/wgsl-loader.mjs", "--import", "tsx"];
    const program = fileURLToPath(new URL("../testing/many-runs.ts", import.meta.url));
    const cwd = fileURLToPath(new URL("../../..", import.meta.url));
    const driver = gpu.facts.driver ? [gpu.facts.driver] : [];
    const { stdout } = await execFileAsync(process.execPath, ["--expose-gc", ...loaders, program, ...driver], { cwd });
    const { before, after } = JSON.parse(stdout) as { before: MemoryRecord; after: MemoryRecord };
    expect(after).toMatchObject({ device: before.device, buffers: before.buffers });
    expect(after.heap - before.heap).toBeLessThan(3000 * 200); // a promise that is kept for each run takes more
    expect(after.process - before.process).toBeLessThan(64 * 2 ** 20);
  });

  test("nor do a hundred plans of 3 MiB each, made, run and destroyed", async () => {
    const g = new Recorder();
    g.output("y", g.softmax(g.input("x", [1, 96 * 2 ** 10, 4]), "softmax"));
    const before = gpu.memory;
    const cycles = async (count: number) => {
      for (let i = 0; i < count; i++) {
        const plan = await compile(gpu, g, { label: `plan ${i}`, storage: "f32", parameters: NO_PARAMETERS });
        plan.run();
        await gpu.idle();
        plan.destroy();
      }
    };
    await cycles(20);
    const rss = process.memoryUsage.rss();
    await cycles(100);
    expect(gpu.memory).toMatchObject({ bytes: before.bytes, buffers: before.buffers });
    expect(process.memoryUsage.rss() - rss).toBeLessThan(100 * 2 ** 20); // of 300 MiB that were made
  });

  test("a profile names every layer and its kernel, the prologue's too", async () => {
    const g = smallNetwork();
    const { plan, destroy } = await make(gpu, g);
    if (!gpu.hasTimestamps) {
      await expect(plan.profile()).rejects.toThrow(GraphError);
    } else {
      const buffers = gpu.memory.buffers;
      const times = await plan.profile();
      const wanted = gpu.lanes
        ? [
            ["block.conv", convolutionKernel(gpu)],
            ["block.norm", "group_norm"],
          ]
        : [
            ["block.conv", "conv2d_tiled"],
            ["block.norm", "group_norm_stats"],
            ["block.norm", "group_norm_apply"],
          ];
      expect(times.map(({ layer, kernel }) => [layer, kernel])).toEqual(wanted);
      for (const { milliseconds } of times) expect(milliseconds).toBeGreaterThanOrEqual(0);
      expect(gpu.memory.buffers).toBe(buffers);
    }
    destroy();
  });

  describe("faults", () => {
    test("weights destroyed under a plan: idle() names the buffer and the plan", async () => {
      const { plan, parameters, destroy } = await make(gpu, smallNetwork(), "unet 64 × 64");
      parameters.destroy();
      plan.run();
      const error = await failure(gpu.idle());
      expect(error).toBeInstanceOf(GpuValidationError);
      const labels = (error as GpuError).labels.map(({ label }) => label);
      expect(labels).toContain("unet 64 × 64");
      expect(labels.some((label) => label.startsWith("weights: block."))).toBe(true);
      destroy();
      await gpu.idle(); // said once
    });

    test("a weight that is too small: compile() names the plan, the layer and the kernel", async () => {
      const tiny = gpu.createBuffer("tiny", 16);
      const before = gpu.memory;
      const parameters: ParameterBuffers = { storage: "f32", get: () => [tiny] };
      const error = await failure(compile(gpu, smallNetwork(), { label: "unet 64 × 64", storage: "f32", parameters }));
      expect(error).toBeInstanceOf(GpuValidationError);
      const labels = (error as GpuError).labels.map(({ label }) => label);
      expect(labels).toContain(`unet 64 × 64: block.conv (${convolutionKernel(gpu)})`);
      // Nothing of the failed plan is left.
      expect(gpu.memory).toMatchObject({ bytes: before.bytes, buffers: before.buffers });
      gpu.destroyBuffer(tiny);
      await gpu.idle();
    });

    test("a tensor beyond the adapter's limit: compile() names the layer and allocates nothing", async () => {
      const before = gpu.memory;
      const g = new Recorder();
      const rows = Math.ceil(gpu.maxBindingBytes / 16) + 1;
      g.output("y", g.softmax(g.input("x", [1, rows, 4]), "mid.softmax"));
      const error = await failure(compile(gpu, g, { label: "huge", storage: "f32", parameters: NO_PARAMETERS }));
      expect(error).toBeInstanceOf(GraphError);
      expect((error as Error).message).toMatch(/^mid\.softmax: /);
      expect(gpu.memory).toMatchObject({ bytes: before.bytes, buffers: before.buffers });
    });

    test("what nobody makes: compile() says so and leaves nothing", async () => {
      const before = gpu.memory;
      const other = new Recorder().input("elsewhere", [1, 4, 4]);
      const g = new Recorder();
      g.input("x", [1, 4, 4]);
      g.output("y", g.softmax({ ...other, id: 77 }, "softmax"));
      const error = await failure(compile(gpu, g, { label: "torn", storage: "f32", parameters: NO_PARAMETERS }));
      expect(error).toBeInstanceOf(GraphError);
      expect((error as Error).message).toBe("torn: nothing makes elsewhere");
      expect(gpu.memory).toMatchObject({ bytes: before.bytes, buffers: before.buffers });
    });

    test("a kernel that does not compile: its name and the compiler's line, however often it is asked for", async () => {
      for (let attempt = 0; attempt < 2; attempt++) {
        const code = "@compute @workgroup_size(1)\nfn main() { let x: u32 = 1.5; }";
        const error = await failure(gpu.pipeline("crooked", code));
        expect(error).toBeInstanceOf(GpuValidationError);
        expect((error as Error).message).toMatch(/kernel crooked/);
        expect((error as Error).message).toMatch(/2:\d+ .*u32/);
        expect((error as GpuError).labels.map(({ label }) => label).join()).toContain("crooked");
      }
      await gpu.idle();
    });
  });

  test("a lost device: whatever is waited for says that it is lost", async () => {
    const { facts } = gpu;
    const own = await openGpu({ adapter: facts.driver ? { driver: facts.driver } : { name: facts.name } });
    const g = smallNetwork();
    const { plan } = await make(own, g);
    plan.run();
    await own.idle();
    own.device.destroy();
    for (const attempt of [
      () => own.idle(),
      async () => {
        plan.run();
        await own.idle();
      },
      () => plan.read("y"),
      () => make(own, g),
    ]) {
      const error = await failure(attempt());
      expect(error).toBeInstanceOf(DeviceLostError);
      expect((error as DeviceLostError).reason).toBe("destroyed");
    }
    own.close();
  });
});
