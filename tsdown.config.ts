import { readFile } from "node:fs/promises";
import { defineConfig } from "tsdown";
import { playgroundBuild } from "./tooling/playground-page.ts";

// Most of the time that these take to load is spent finding their many files: as part of ours they take a quarter of it.
const BUNDLED = ["commander", "zod"];

/** Each is an entry point of the package (`exports` in package.json). */
const ENTRIES = {
  index: "index.ts",
  transports: "transports/index.ts",
  jobs: "src/jobs/index.ts",
  hosts: "src/hosts/index.ts",
};

/**
 * WebGPU's types come with `lib.dom` or `@webgpu/types`, which exclude each other, and a program that brings no device of
 * its own has neither. An empty interface merges with either, and stands for them where there is none.
 */
const GPU_TYPES = ["GPU", "GPUAdapter", "GPUBuffer", "GPUCommandEncoder", "GPUDevice", "GPUDeviceDescriptor"];
const GPU_DECLARATIONS = `declare global {\n${GPU_TYPES.map((name) => `  interface ${name} {}`).join("\n")}\n}`;

export default defineConfig([
  {
    entry: {
      ...ENTRIES,
      cli: "cli/daguerre.ts",
      "thread-main": "src/hosts/thread-main.ts",
      "process-main": "src/hosts/process-main.ts",
      "engine-main": "src/hosts/engine/engine-main.ts",
    },
    platform: "node",
    target: "node20",
    format: "esm",
    dts: { entry: Object.values(ENTRIES) },
    banner: { dts: GPU_DECLARATIONS },
    loader: { ".wgsl": "text" },
    clean: true,
    fixedExtension: false,
    // Types still come from the packages themselves.
    deps: {
      alwaysBundle: (id, importer) => BUNDLED.includes(id) && !importer?.endsWith(".d.ts"),
      onlyBundle: BUNDLED,
      neverBundle: ["webgpu"], // in a checkout; the package brings its files (tooling/pack-native.ts)
    },
    plugins: [licences(BUNDLED)],
  },
  playgroundBuild("dist/playground"),
]);

/** Writes the licences of packages that are part of our files beside them, as those licences ask. */
function licences(packages: readonly string[]) {
  return {
    name: "licences",
    async generateBundle(this: { emitFile(file: { type: "asset"; fileName: string; source: string }): unknown }) {
      const texts = packages.map(
        async (name) => `${name}\n\n${await readFile(`node_modules/${name}/LICENSE`, "utf8")}`,
      );
      this.emitFile({ type: "asset", fileName: "licences.txt", source: (await Promise.all(texts)).join("\n") });
    },
  };
}
