/** The entry to `compile/`: plans, and what they are made with. */

export { type CompileOptions, compile, type FootprintOptions, footprint } from "./compile/compile.ts";
export type { PlanParameters } from "./compile/parameters.ts";
export type { Around, KernelTime, Plan, Range } from "./compile/plan.ts";
