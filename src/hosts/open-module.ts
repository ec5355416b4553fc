/** The export that a place serves. */
import type { Opening } from "./messages.ts";
import type { ServedFunction } from "./served-runs.ts";

/** @throws TypeError if the module has no such function, and whatever the module throws as it loads */
export async function openModule({ module, name, group }: Opening): Promise<ServedFunction> {
  const exported: unknown = (await import(module))[name];
  if (typeof exported !== "function") throw new TypeError(`${name} is not a function of the module`);
  if (group === undefined) return exported as ServedFunction;
  const { rankFunction } = await import("./ranks/rank-function.ts");
  return rankFunction(exported, group);
}
