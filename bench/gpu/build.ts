/**
 * `npm run bench:gpu:build`: what `run.sh` needs on a bare machine with a GPU, as plain JavaScript in `.gpu/app`.
 *
 * There is no npm there: everything is part of the files but Dawn (`webgpu`), which is unpacked beside them. Programs run in
 * the root of the repository, whose models, fixtures and shaders they read.
 */

import { readFile } from "node:fs/promises";
import { basename, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "tsdown";

const root = fileURLToPath(new URL("../..", import.meta.url));
const PROGRAMS = {
  conformance: "test/conformance/main.ts",
  environment: "bench/gpu/environment.ts",
  bench: "bench/gpu/main.ts",
};
/** Those that need only a device. */
const TESTS = [
  ...["attention", "convolution", "matrix-unit", "normalisation", "pointwise", "sampling"].map(
    (name) => `src/graph/kernels/${name}.test.ts`,
  ),
  ...["fuse", "plan", "split"].map((name) => `src/graph/compile/${name}.test.ts`),
  "src/graph/tuner.test.ts",
  "src/memory/plan-cache.test.ts",
  "src/engine/step-loop.test.ts",
  "test/philox-kernel.test.ts",
];

await build({
  config: false,
  entry: {
    ...PROGRAMS,
    ...Object.fromEntries(TESTS.map((file) => [basename(file, ".ts"), file])),
  },
  cwd: root,
  outDir: ".gpu/app",
  platform: "node",
  target: "node20",
  format: "esm",
  outExtensions: () => ({ js: ".mjs" }),
  dts: false,
  minify: false,
  logLevel: "warn",
  loader: { ".wgsl": "text" },
  alias: { vitest: fileURLToPath(new URL("vitest.ts", import.meta.url)) },
  // Pictures are never encoded there, and libvips would not fit.
  deps: { alwaysBundle: [/^(?!node:|webgpu$|sharp$)/], neverBundle: ["webgpu", "sharp"] },
  plugins: [sourceUrls()],
});

/** Has `import.meta.url` say where the source lies, as files are looked for from there. */
function sourceUrls() {
  return {
    name: "source-urls",
    async load(id: string) {
      if (!id.startsWith(root) || id.includes("/node_modules/") || !id.endsWith(".ts")) return undefined;
      const code = await readFile(id, "utf8");
      if (!code.includes("import.meta.url")) return undefined;
      const path = JSON.stringify(`../../${relative(root, id)}`);
      return { code: code.replaceAll("import.meta.url", `new URL(${path}, import.meta.url).href`), moduleType: "ts" };
    },
  };
}
