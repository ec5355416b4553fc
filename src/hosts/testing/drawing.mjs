// The module of a worker that draws with the built-in model. A thread does not have the loaders for our sources that the
// program was started with, so they are registered here.
import { register } from "node:module";
import { register as registerTypeScript } from "tsx/esm/api";

registerTypeScript();
register("../../../tooling/wgsl-loader.mjs", import.meta.url);
const { createRuntime } = await import("../../engine/runtime.ts");
const runtime = await createRuntime({ adapter: { prefer: "software" } });

export default (input, context) => runtime.textToImage(input, context);
