/** Scripts of the web UI. There are none here: those that would change the picture are refused, others are let pass. */
import { withoutPicture } from "../../src/engine/base64-text.ts";
import { RequestError } from "../../src/engine/errors.ts";

/** Characters of a script's name that an error repeats. */
const MAX_NAME = 64;

/** @throws RequestError */
export function refuseScripts(fields: {
  readonly script_name?: string;
  readonly alwayson_scripts: Readonly<Record<string, unknown>>;
}): void {
  const { script_name: name = "", alwayson_scripts: scripts } = fields;
  if (name !== "" && name.toLowerCase() !== "none") {
    throw new RequestError("script_name", `there is no script '${name.slice(0, MAX_NAME)}' here; leave it out`);
  }
  for (const [script, { args }] of Object.entries(scripts as Readonly<Record<string, { args?: unknown }>>)) {
    if (!Array.isArray(args) || args.every(isOff) || args[0] === false) continue;
    const reason = `there is no script '${script.slice(0, MAX_NAME)}' here, and it would change the picture; leave it out`;
    throw new RequestError("alwayson_scripts", reason);
  }
}

/** An argument that asks for nothing, such as a unit of ControlNet that is not enabled. */
function isOff(argument: unknown): boolean {
  const value = withoutPicture(argument);
  if (value === null || value === undefined || value === false || value === 0 || value === "") return true;
  if (Array.isArray(value)) return value.every(isOff);
  if (typeof value !== "object") return false;
  const { enabled, ad_model } = value as { enabled?: unknown; ad_model?: unknown };
  return enabled === false || enabled === "false" || ad_model === "None" || Object.keys(value).length === 0;
}
