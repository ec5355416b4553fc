import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";
import { builtHosts } from "./tooling/built-hosts.ts";

const CORES = availableParallelism();

/** The package is built before tests of its commands. */
const BUILD_ONCE = [fileURLToPath(new URL("tooling/build-once.ts", import.meta.url))];

/** Tests that measure the clock or the memory of a process, or flood a server: one at a time, while nothing else runs. */
const TIMING = [
  "transports/**/{any-generator,bounds,hostile,operations,stopped}.test.ts",
  "test/turn-meter.test.ts",
  "test/security/**/*.test.ts",
  "src/platform/turns.test.ts",
  "src/engine/turns.test.ts",
  "src/gpu/waiting.test.ts",
];
/** Tests that drive Chromium. */
const BROWSER = [
  "test/{playground,playground-states,foreign-pages}.test.ts",
  "transports/**/event-source.test.ts",
  "examples/**/*.test.ts",
];
/** Transports, jobs, and commands that end early. They speak to sockets or start processes, and open no device. */
const SERVER = [
  "{transports,src/jobs,src/hosts,test/{proxies,clients}}/**/!(cancels).test.ts",
  "cli/{command-lines,pull,supervisor}.test.ts",
  "src/hub/pull*.test.ts",
  "src/image/camera-pictures.test.ts",
  "test/{generators,models-page}.test.ts",
];
/** Packages bring tests of their own. */
const PACKAGES = ["**/node_modules/**"];
/** Pure computation and files. They open no device. */
const UNIT = [
  "src/{faults,hub,image,line,platform,text,weights}/**/*.test.ts",
  "src/diffusion/{schedulers,noise}/**/*.test.ts",
  "src/diffusion/{noise,philox,device-turns}.test.ts",
  "src/memory/shared-work.test.ts",
  "src/engine/{request-parsing,request-fields,model-location,open-models,lora-files,few-step-loras,embedding-files,place}.test.ts",
  "src/gpu/errors.test.ts",
  "src/graph/**/{memory,recorder}.test.ts",
  "src/families/{distilled,checkpoint/open-checkpoint}.test.ts",
  "src/models/config.test.ts",
  "cli/{config,generation-flags,memory-bound,mending,telemetry}.test.ts",
  "playground/**/*.test.ts",
  "test/{docs-tables,plain-english}.test.ts",
];

/**
 * A project without a device: its files run side by side. Those that are `isolated` have a process each; others share one
 * a worker, which halves the CPU time of quick files. If such a test opens a device, it fails and says where it
 * belongs, so that the lists above stay true.
 */
function parallel(name: string, groupOrder: number, isolate: boolean, include: string[], exclude: string[]) {
  // Most of the time of isolated ones is waiting, but many have deadlines.
  const maxWorkers = isolate ? CORES + 1 : CORES;
  return {
    extends: true,
    resolve: { alias: { webgpu: fileURLToPath(new URL("tooling/no-device.ts", import.meta.url)) } },
    test: {
      globalSetup: isolate ? BUILD_ONCE : [],
      name,
      isolate,
      include,
      exclude: [...PACKAGES, ...exclude],
      maxWorkers,
      sequence: { groupOrder },
    },
  } satisfies TestProjectInlineConfiguration;
}

/**
 * A project with a device. Two files at a time: a software GPU uses every core, but half of a test's time goes to starting,
 * compiling and comparing. One at a time where a clock is read.
 */
function onDevice(name: string, groupOrder: number, maxWorkers: 1 | 2, include: string[], exclude: string[]) {
  return {
    extends: true,
    test: {
      globalSetup: BUILD_ONCE,
      name,
      include,
      exclude: [...PACKAGES, ...exclude],
      maxWorkers,
      sequence: { groupOrder },
    },
  } satisfies TestProjectInlineConfiguration;
}

export default defineConfig({
  plugins: [
    {
      name: "wgsl-as-text",
      enforce: "pre",
      async load(id) {
        if (!id.endsWith(".wgsl")) return;
        return `export default ${JSON.stringify(await readFile(id, "utf8"))};`;
      },
    },
    {
      // Threads and processes of hosts begin with files of JavaScript.
      name: "hosts-as-built",
      enforce: "pre",
      async load(id) {
        if (!id.endsWith("/src/hosts/mains.ts")) return;
        const folder = JSON.stringify(await builtHosts());
        const url = (name: string) => `new URL("${name}", ${folder})`;
        const names = { THREAD_MAIN: "thread-main.js", PROCESS_MAIN: "process-main.js", ENGINE_MAIN: "engine-main.js" };
        return `export const ${Object.entries(names).map(([name, file]) => `${name} = ${url(file)}`)};`;
      },
    },
  ],
  test: {
    pool: "forks",
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // The projects run one after another, in this order. A test that no list names is a device test.
    projects: [
      parallel("unit", 1, false, UNIT, [...TIMING, ...SERVER]),
      parallel("server", 2, true, SERVER, [...TIMING, ...BROWSER]),
      onDevice(
        "device",
        3,
        2,
        ["{src,transports,cli,shaders,playground,test,examples}/**/*.test.ts"],
        [...UNIT, ...SERVER, ...BROWSER, ...TIMING],
      ),
      onDevice("browser", 4, 2, BROWSER, []),
      onDevice("timing", 5, 1, TIMING, []),
    ],
  },
});
