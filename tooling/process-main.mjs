// A process of a host in a checkout: the loaders that run the sources, and then the file that a built one begins with.
import { register } from "node:module";
import { register as registerTypeScript } from "tsx/esm/api";

registerTypeScript();
register("./wgsl-loader.mjs", import.meta.url);
await import("../src/hosts/process-main.ts");
