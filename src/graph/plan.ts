/** The entry to `compile/`. */

export { type CompileOptions, compile, type FootprintOptions, footprint } from "./compile/compile.ts";
export type { CompileWatch } from "./compile/kernels.ts";
export { type PlanParameters, storageOf } from "./compile/parameters.ts";
export type { Around, KernelTime, Plan, Range } from "./compile/plan.ts";
export type { WeightStorage } from "./compile/target.ts";
