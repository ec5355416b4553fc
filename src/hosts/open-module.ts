/** The export that a place serves. */
import type { PlaceLink } from "./host.ts";
import type { Opening } from "./messages.ts";
import { type Send, type ServedFunction, ServedRuns } from "./served-runs.ts";

/** Loads the module of an opening, and serves its runs. */
export function serveModule(opening: Opening, send: Send): ServedRuns {
  return new ServedRuns(openModule(opening, { report: (report) => void send({ type: "report", report }) }), send);
}

/** @throws TypeError if the module has no such function, and whatever the module or its set-up throw */
export async function openModule({ module, name, group, setup }: Opening, link: PlaceLink): Promise<ServedFunction> {
  const exported: unknown = (await import(module))[name];
  if (typeof exported !== "function") throw new TypeError(`${name} is not a function of the module`);
  if (group !== undefined) {
    const { rankFunction } = await import("./ranks/rank-function.ts");
    return rankFunction(exported, group);
  }
  return setup === undefined ? (exported as ServedFunction) : await exported(setup, link);
}
