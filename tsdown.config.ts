import { defineConfig } from "tsdown";
import { playgroundPage } from "./tooling/playground-page.ts";

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
  {
    entry: { main: "playground/main.ts", theme: "playground/theme.ts" },
    outDir: "dist/playground",
    platform: "browser",
    target: ["chrome123", "firefox121", "safari17.5"],
    format: "esm",
    dts: false,
    minify: true,
    clean: true,
    deps: { alwaysBundle: [/./] },
    tsconfig: "playground/tsconfig.json",
    outputOptions: { entryFileNames: "[name]-[hash].js" },
    plugins: [playgroundPage(new URL("playground/", import.meta.url))],
  },
]);
