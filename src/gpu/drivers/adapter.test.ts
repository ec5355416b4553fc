import { execFile, execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import type { AdapterFacts, SoftwareDriver } from "../adapter-facts.ts";
import { requestDevice } from "../device-request.ts";
import { AdapterError } from "../errors.ts";
import { settle } from "../waiting.ts";
import { type AdapterChoice, openAdapter, parseListing } from "./adapter.ts";
import { lavapipeDriver, packedSwiftShader, swiftShaderDriver } from "./software-driver.ts";

const linux = process.platform === "linux";
const lavapipe = linux ? lavapipeDriver() : undefined;
const swiftShader = linux ? await swiftShaderDriver() : undefined;
const packed = packedSwiftShader();

const folder = mkdtempSync(join(tmpdir(), "daguerre-adapter-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Squares 0…999 on the device and reads them back. */
async function squares(device: GPUDevice): Promise<Uint32Array> {
  const code = `
    @group(0) @binding(0) var<storage, read_write> out: array<u32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
      if (id.x < arrayLength(&out)) { out[id.x] = id.x * id.x; }
    }`;
  const module = device.createShaderModule({ code });
  const pipeline = device.createComputePipeline({ layout: "auto", compute: { module } });
  // 128: STORAGE, 4: COPY_SRC, 8: COPY_DST, 1: MAP_READ (WebGPU specification)
  const out = device.createBuffer({ size: 4000, usage: 128 | 4 });
  const staging = device.createBuffer({ size: 4000, usage: 8 | 1 });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  const layout = pipeline.getBindGroupLayout(0);
  pass.setBindGroup(0, device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: out } }] }));
  pass.dispatchWorkgroups(16);
  pass.end();
  encoder.copyBufferToBuffer(out, 0, staging, 0, 4000);
  device.queue.submit([encoder.finish()]);
  await settle(staging.mapAsync(1));
  return new Uint32Array(staging.getMappedRange().slice(0));
}

const expected = Uint32Array.from({ length: 1000 }, (_, i) => i * i);

it("opens a device with the adapter's own limits and features, which computes", async () => {
  const { adapter, facts } = await openAdapter();
  expect(facts.name).not.toBe("");
  expect(facts.backend).not.toBe("");
  expect(facts.features).toEqual([...adapter.features].sort());
  const device = await requestDevice(adapter, "a label");
  expect(device.label).toBe("a label");
  for (const limit of ["maxBufferSize", "maxStorageBufferBindingSize", "maxComputeWorkgroupStorageSize"] as const) {
    expect(device.limits[limit]).toBe(adapter.limits[limit]);
  }
  for (const feature of ["shader-f16", "subgroups", "timestamp-query"] as const) {
    expect(device.features.has(feature)).toBe(facts.features.includes(feature));
  }
  expect(await squares(device)).toEqual(expected);
  device.destroy();
});

it("passes Dawn's toggles on: timestamps are not rounded to 65 µs", async () => {
  const { adapter, facts } = await openAdapter();
  if (!facts.features.includes("timestamp-query")) return;
  const device = await requestDevice(adapter);
  const querySet = device.createQuerySet({ type: "timestamp", count: 32 });
  // 512: QUERY_RESOLVE, 4: COPY_SRC, 8: COPY_DST, 1: MAP_READ
  const resolved = device.createBuffer({ size: 256, usage: 512 | 4 });
  const staging = device.createBuffer({ size: 256, usage: 8 | 1 });
  const encoder = device.createCommandEncoder();
  for (let i = 0; i < 32; i += 2) {
    const timestampWrites = { querySet, beginningOfPassWriteIndex: i, endOfPassWriteIndex: i + 1 };
    encoder.beginComputePass({ timestampWrites }).end();
  }
  encoder.resolveQuerySet(querySet, 0, 32, resolved, 0);
  encoder.copyBufferToBuffer(resolved, 0, staging, 0, 256);
  device.queue.submit([encoder.finish()]);
  await settle(staging.mapAsync(1));
  const nanoseconds = [...new BigUint64Array(staging.getMappedRange())];
  expect(nanoseconds.some((time) => time > 0n)).toBe(true);
  // Quantized ones are multiples of 2^16 ns.
  expect(nanoseconds.every((time) => time % 65536n === 0n)).toBe(false);
  device.destroy();
});

it("opens again and again, each time with a device of its own", async () => {
  const devices: GPUDevice[] = [];
  for (let i = 0; i < 4; i++) devices.push(await requestDevice((await openAdapter()).adapter));
  devices[0]?.destroy();
  expect(await squares(devices[3] as GPUDevice)).toEqual(expected);
  for (const device of devices) device.destroy();
});

it("refuses a name that none has, saying what there is", async () => {
  const refused = openAdapter({ name: "Voodoo 2" });
  await expect(refused).rejects.toThrow(AdapterError);
  await expect(refused).rejects.toThrow(/no GPU named like "Voodoo 2" was found; there is .+daguerre doctor/);
});

it("reads Dawn's list of adapters", () => {
  const message = `no suitable backends found
Available adapters:
 * backend: 'vulkan', name: 'NVIDIA H200'
 * backend: 'vulkan', name: 'llvmpipe (LLVM 15.0.6, 256 bits)'
`;
  expect(parseListing(message)).toEqual([
    { backend: "vulkan", name: "NVIDIA H200" },
    { backend: "vulkan", name: "llvmpipe (LLVM 15.0.6, 256 bits)" },
  ]);
  expect(parseListing("something else")).toEqual([]);
});

describe.each<[SoftwareDriver, string | undefined]>([
  ["lavapipe", lavapipe],
  ["swiftshader", swiftShader],
])("%s", (driver, file) => {
  it.runIf(file)("opens by its driver's name and computes", async () => {
    const { adapter, facts } = await openAdapter({ prefer: "software", driver });
    expect(facts).toMatchObject({ kind: "software", driver });
    expect([4, 8, 16, 32, 64]).toContain(facts.subgroupMinSize);
    const device = await requestDevice(adapter);
    expect(await squares(device)).toEqual(expected);
    device.destroy();
  });

  it.runIf(file)("is respected where VK_DRIVER_FILES names it", async () => {
    const { facts } = await openElsewhere({}, { VK_DRIVER_FILES: file });
    expect(facts).toMatchObject({ kind: "software", driver });
  });

  // Dawn writes these two lines for every Vulkan adapter that it sees, before anything is asked of it, and has no switch
  // for them. Any other message would be about our own requests.
  it.runIf(file)("is opened without a warning of our making", async () => {
    const { stderr } = await openElsewhere({}, { VK_DRIVER_FILES: file });
    const discovery = /^Warning: maxDynamic(Uniform|Storage)BuffersPerPipelineLayout artificially reduced from .+$/;
    expect(stderr.split("\n").filter((line) => line !== "" && !discovery.test(line))).toEqual([]);
  });

  it.runIf(file)("is no hardware", async () => {
    const { error } = await openElsewhere({ prefer: "hardware" }, { VK_DRIVER_FILES: file });
    expect(error).toMatchObject({ name: "AdapterError", code: "gpu-adapter" });
    expect(error?.message).toMatch(/^no hardware GPU was found; there is .+\(software\)\. Run "daguerre doctor"/);
  });
});

/** The adapter of a fresh process, with other environment variables and perhaps inside another command. */
async function openElsewhere(
  choice: AdapterChoice,
  env: NodeJS.ProcessEnv,
  inside: readonly string[] = [],
): Promise<{
  facts?: AdapterFacts;
  sum?: number;
  error?: { name: string; code: string; message: string };
  stderr: string;
}> {
  const moduleOf = (name: string) => JSON.stringify(fileURLToPath(new URL(name, import.meta.url)));
  const script = join(folder, "open.mts");
  writeFileSync(
    script,
    `import { openAdapter } from ${moduleOf("./adapter.ts")};
     import { requestDevice } from ${moduleOf("../device-request.ts")};
     try {
       const { adapter, facts } = await openAdapter(${JSON.stringify(choice)});
       (await requestDevice(adapter)).destroy();
       console.log(JSON.stringify({ facts }));
     } catch ({ name, code, message }) {
       console.log(JSON.stringify({ error: { name, code, message } }));
     }`,
  );
  const [command = "", ...args] = [...inside, process.execPath, "--import", import.meta.resolve("tsx"), script];
  const { VK_DRIVER_FILES, VK_ICD_FILENAMES, ...rest } = process.env;
  const { stdout, stderr } = await promisify(execFile)(command, args, { env: { ...rest, ...env } });
  return { ...JSON.parse(stdout), stderr };
}

describe.runIf(lavapipe && swiftShader)("with several software drivers", () => {
  it("takes the faster one", async () => {
    const both = [swiftShader, lavapipe].join(delimiter);
    expect((await openElsewhere({}, { VK_DRIVER_FILES: both })).facts?.driver).toBe("lavapipe");
  });

  it("finds one by part of its name, in any case", async () => {
    const both = [swiftShader, lavapipe].join(delimiter);
    const { facts } = await openElsewhere({ name: "sWiFtShAdEr" }, { VK_DRIVER_FILES: both });
    expect(facts?.driver).toBe("swiftshader");
  });
});

describe.runIf(packed)("on a machine without a driver", () => {
  const none = join(folder, "no-such-driver.json");

  it("brings SwiftShader along, unpacked once into the cache, and says so", async () => {
    const cache = join(folder, "cache");
    const env = { VK_DRIVER_FILES: none, XDG_CACHE_HOME: cache, XDG_DATA_DIRS: folder };
    // Three processes at once, all of which find the cache empty.
    const opened = await Promise.all([1, 2, 3].map(() => openElsewhere({}, env)));
    for (const { facts } of opened) {
      expect(facts?.kind).toBe("software");
      expect(facts?.note).toMatch(/^no usable GPU driver was found: using (SwiftShader|lavapipe), a software GPU/);
    }
    const { facts } = await openElsewhere({ driver: "swiftshader" }, env);
    expect(facts?.driver).toBe("swiftshader");
    // Debian's Chromium needs no unpacking.
    if (!swiftShader?.includes("daguerre")) return;
    const unpacked = readdirSync(join(cache, "daguerre")).filter((name) => name.includes("swiftshader"));
    expect(unpacked).toEqual([`swiftshader-linux-x64-${packed?.version}`]);
  });

  it("does so where the cache cannot be written", async () => {
    const blocked = join(folder, "a-file");
    writeFileSync(blocked, "");
    const env = { VK_DRIVER_FILES: none, XDG_CACHE_HOME: blocked, TMPDIR: folder };
    expect((await openElsewhere({ driver: "swiftshader" }, env)).facts?.driver).toBe("swiftshader");
    expect(readdirSync(folder).filter((name) => name.startsWith("daguerre-native"))).toEqual([]);
  });

  // A view of this machine in which the loader is an empty file, where that is allowed.
  const loader = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"]
    .map((lib) => join(lib, "libvulkan.so.1"))
    .find(existsSync);
  const mount = `mount --bind /dev/null "$(readlink -f ${loader})" && exec "$@"`;
  const hidden = loader === undefined ? [] : ["unshare", "--mount", "sh", "-c", mount, "sh"];
  const canHide = hidden.length === 0 || spawnSync("unshare", [...hidden.slice(1), "true"]).status === 0;

  it.runIf(canHide)("brings the loader along where that is missing too", async () => {
    const dlopen = `try { process.dlopen({ exports: {} }, "libvulkan.so.1") } catch (e) { console.log(e.message) }`;
    const [command = "", ...args] = [...hidden, process.execPath, "-e", dlopen];
    expect(String(execFileSync(command, args))).not.toMatch(/self-register/);
    const env = { VK_DRIVER_FILES: none, XDG_CACHE_HOME: join(folder, "loader-cache") };
    const { facts, error } = await openElsewhere({}, env, hidden);
    expect(error).toBeUndefined();
    expect(facts?.note).toMatch(/^no usable GPU driver was found/);
  });
});
