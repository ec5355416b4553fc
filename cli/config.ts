/**
 * Reading the server's configuration.
 *
 * A setting `limits.steps` is `{"limits": {"steps": 50}}` in the file, `DAGUERRE_LIMITS_STEPS=50` in the environment and
 * `--limits-steps 50` as a flag; the later of these three wins. Secrets have no flag, because every user of a machine
 * can read every command line.
 */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { requestIssues } from "../src/faults/request-issues.ts";
import { type Config, configSchema } from "./config-schema.ts";
import { SETTINGS, type Setting } from "./settings.ts";

/** The faults of a configuration: one line for each, with the place where it was written. */
export class ConfigError extends Error {
  constructor(lines: readonly string[]) {
    super(lines.join("\n"));
    this.name = "ConfigError";
  }
}

/** Read from the working folder where no other file is named. */
export const CONFIG_FILE = "daguerre.config.json";

/** The file to read: the one named by flag or environment, or the usual one where it exists. */
export function configFile(named: string | undefined, env: ConfigSources["env"]): string | undefined {
  return named ?? (env.DAGUERRE_CONFIG || (existsSync(CONFIG_FILE) ? CONFIG_FILE : undefined));
}

export interface ConfigSources {
  /** The flags of the command line, by name without dashes: `{"limits-steps": "50"}`. */
  readonly flags: Readonly<Record<string, string | boolean | undefined>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The file to read; undefined: none. */
  readonly file: string | undefined;
}

/**
 * Reads, merges and checks a configuration.
 *
 * @throws ConfigError
 */
export function loadConfig({ flags, env, file }: ConfigSources): Config {
  const tree: Tree = file === undefined ? {} : readConfigFile(file);
  const origin = new Map<string, string>();
  for (const setting of SETTINGS) {
    const variable = setting.variables.find((name) => env[name] !== undefined && env[name] !== "");
    const flagged = setting.flag === undefined ? undefined : flags[setting.flag.slice(2)];
    const value = flagged ?? (variable === undefined ? undefined : env[variable]);
    if (value === undefined) continue;
    origin.set(setting.key, flagged === undefined ? (variable as string) : (setting.flag as string));
    place(tree, setting.path, typeof value === "string" ? typedValue(setting, value) : value);
  }
  const parsed = configSchema.safeParse(tree, { reportInput: false });
  if (parsed.success) return parsed.data;
  const lines = requestIssues(parsed.error).map((issue) => {
    const key = issue.path.map(String).join(".");
    const named = [...origin].find(([setting]) => key === setting || key.startsWith(`${setting}.`))?.[1];
    const mustBe = SETTINGS.find((setting) => setting.key === key)?.mustBe;
    const message = mustBe === undefined ? issue.message.replace(/^(Input|String|List) /, "") : `must be ${mustBe}`;
    return `${named ?? (file === undefined ? key : `${file}: ${key || "the file"}`)}: ${message}`;
  });
  throw new ConfigError([...new Set(lines)]);
}

type Tree = { [name: string]: unknown };

function readConfigFile(file: string): Tree {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigError([`${file}: cannot be read (${(error as NodeJS.ErrnoException).code ?? "unknown"})`]);
  }
  let tree: unknown;
  try {
    tree = JSON.parse(text);
  } catch (error) {
    throw new ConfigError([`${file}: is not JSON (${(error as Error).message})`]);
  }
  if (typeof tree !== "object" || tree === null || Array.isArray(tree))
    throw new ConfigError([`${file}: must be an object`]);
  const settings = tree as Tree;
  delete settings.$schema;
  for (const setting of SETTINGS) {
    const value = settings[setting.key];
    if (setting.isPath && typeof value === "string") settings[setting.key] = path.resolve(path.dirname(file), value);
  }
  if (settings.models !== undefined) settings.models = modelsBeside(file, settings.models);
  return settings;
}

/** The paths of models by their names, relative to the file. */
function modelsBeside(file: string, models: unknown): unknown {
  if (typeof models !== "object" || models === null || Array.isArray(models)) return models;
  const beside = (value: unknown) => (typeof value === "string" ? path.resolve(path.dirname(file), value) : value);
  const entries = Object.entries(models).map(([name, model]) => {
    if (typeof model !== "object" || model === null) return [name, beside(model)];
    const paths = Object.entries(model).map(([key, value]) => [key, MODEL_PATHS.has(key) ? beside(value) : value]);
    return [name, Object.fromEntries(paths)];
  });
  return Object.fromEntries(entries);
}

const MODEL_PATHS: ReadonlySet<string> = new Set(["path", "vae", "tiny_vae"]);

function place(tree: Tree, [name, ...rest]: readonly string[], value: unknown): void {
  if (name === undefined) return;
  if (rest.length === 0) {
    tree[name] = value;
    return;
  }
  const branch = tree[name];
  const inner: Tree = typeof branch === "object" && branch !== null && !Array.isArray(branch) ? (branch as Tree) : {};
  tree[name] = inner;
  place(inner, rest, value);
}

/** A text of the environment or the command line as the schema's type; what is not one is left for the schema to refuse. */
function typedValue({ kind }: Setting, text: string): unknown {
  switch (kind) {
    case "number":
      return text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text);
    case "boolean":
      return text === "true" || text === "1" ? true : text === "false" || text === "0" ? false : text;
    case "list":
      return splitList(text);
    case "keys":
      return splitList(text).map((pair) => {
        const at = pair.indexOf("=");
        return at < 0 ? { name: pair } : { name: pair.slice(0, at), key: pair.slice(at + 1) };
      });
    case "text":
      return text;
    default:
      return kind satisfies never;
  }
}

function splitList(text: string): string[] {
  return text.split(",").flatMap((part) => part.trim() || []);
}
