/**
 * The hosts as the build makes them, for tests: a thread or a process begins with a file of JavaScript, and one that has to
 * load TypeScript first takes ten times as long to start.
 */
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "tsdown";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const FOLDER = `${ROOT}.built/hosts/`;

let building: Promise<string> | undefined;

/** Builds them once, and gives the URL of their folder, with its slash. */
export function builtHosts(): Promise<string> {
  building ??= build({
    cwd: ROOT,
    config: false,
    logLevel: "error",
    entry: {
      index: "src/hosts/index.ts",
      "thread-main": "src/hosts/thread-main.ts",
      "process-main": "src/hosts/process-main.ts",
      "engine-main": "src/hosts/engine/engine-main.ts",
    },
    loader: { ".wgsl": "text" },
    deps: { neverBundle: ["webgpu"] },
    outDir: FOLDER,
    format: "esm",
    platform: "node",
    target: "node20",
    fixedExtension: false,
    dts: false,
  }).then(() => pathToFileURL(FOLDER).href);
  return building;
}
