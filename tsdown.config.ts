import { defineConfig } from "tsdown";
import { playgroundBuild } from "./tooling/playground-page.ts";

export default defineConfig([
  {
    entry: { index: "src/index.ts", cli: "src/cli/main.ts" },
    platform: "node",
    target: "node20",
    format: "esm",
    dts: { entry: "src/index.ts" },
    loader: { ".wgsl": "text" },
    clean: true,
    fixedExtension: false,
  },
  playgroundBuild("dist/playground"),
]);
