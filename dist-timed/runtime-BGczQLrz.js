import { n as createRuntime } from "./runtime-DWW_EOyq.js";
export { createRuntime };
