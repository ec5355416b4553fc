import { readFile } from "node:fs/promises";
import { defineConfig } from "vitest/config";

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
  ],
  test: {
    include: ["{src,transports,cli,shaders,test,examples}/**/*.test.ts"],
    // One software GPU already uses every core; test files take turns.
    fileParallelism: false,
    pool: "forks",
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
