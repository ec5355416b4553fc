/**
 * A case: a folder with `case.json`, `expected.safetensors`, and what they are about: folders of model components, LoRA
 * files, lists of requests. The kind of case follows from these, never from its name.
 */

import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { readTensors, type Tensor } from "./tensors.ts";

/** A folder in the case with a network's `config.json`. */
export interface ComponentFolder {
  /** `vae_slim` */
  readonly name: string;
  readonly path: string;
  /** The class that its config names. */
  readonly className: string;
  readonly config: Readonly<Record<string, unknown>>;
}

export interface CaseFolder {
  /** The folder's name, for the report. */
  readonly name: string;
  readonly path: string;
  /** `case.json` */
  readonly facts: Readonly<Record<string, unknown>>;
  readonly expected: ReadonlyMap<string, Tensor>;
  /** Empty where the case has none. */
  readonly intermediates: ReadonlyMap<string, Tensor>;
  readonly components: readonly ComponentFolder[];
  /** Base names of everything in the folder. */
  readonly files: readonly string[];
  readText(file: string): Promise<string>;
}

/** A folder that was given and holds no case, or a case that cannot be read. */
export class CaseError extends Error {
  override readonly name = "CaseError";
}

/** Folders of cases: those given that are cases, and those in the ones that are not. Throws `CaseError` where there is none. */
export async function findCases(paths: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const path of paths.map((given) => resolve(given))) {
    if (await isFile(join(path, "case.json"))) {
      found.push(path);
      continue;
    }
    const entries = await readdir(path, { withFileTypes: true }).catch(() => {
      throw new CaseError(`${path}: no such folder`);
    });
    const folders = entries.filter((entry) => !entry.isFile()).map((entry) => join(path, entry.name));
    const cases: string[] = [];
    for (const folder of folders.sort()) if (await isFile(join(folder, "case.json"))) cases.push(folder);
    if (cases.length === 0) throw new CaseError(`${path}: has no case.json, nor has any folder in it`);
    const without = folders.filter((folder) => !cases.includes(folder)).map((folder) => basename(folder));
    if (without.length > 0) throw new CaseError(`${path}: no case.json in ${without.join(", ")}`);
    found.push(...cases);
  }
  return found;
}

/** Reads a case. Throws `CaseError` or `WeightsError` naming the file. */
export async function openCase(path: string): Promise<CaseFolder> {
  const files = await readdir(path);
  const facts = await readJson(join(path, "case.json"));
  if (!files.includes("expected.safetensors")) throw new CaseError("expected.safetensors: no such file");
  const components: ComponentFolder[] = [];
  for (const name of files.sort()) {
    const file = join(path, name, "config.json");
    if (!(await isFile(file))) continue;
    const config = await readJson(file);
    const className = config._class_name ?? (config.architectures as string[] | undefined)?.[0];
    components.push({ name, path: join(path, name), className: String(className), config });
  }
  return {
    name: basename(path),
    path,
    facts,
    expected: await readTensors(join(path, "expected.safetensors")),
    intermediates: files.includes("intermediates.safetensors")
      ? await readTensors(join(path, "intermediates.safetensors"))
      : new Map(),
    components,
    files,
    readText: (file) => readFile(join(path, file), "utf8"),
  };
}

async function readJson(file: string): Promise<Record<string, unknown>> {
  try {
    return JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>;
  } catch (error) {
    throw new CaseError(`${basename(file)}: cannot be read as JSON (${(error as Error).message})`);
  }
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  );
}

/** The groups of tensors, `<group>.<field>`, that a component's prefix (`slim.`) begins; `""`: those that no other does. */
export function groupsOf(
  tensors: ReadonlyMap<string, Tensor>,
  prefix: string,
  prefixes: readonly string[],
): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  const longer = prefixes.filter((other) => other.length > prefix.length);
  for (const name of tensors.keys()) {
    if (!name.startsWith(prefix) || longer.some((other) => name.startsWith(other))) continue;
    const dot = name.lastIndexOf(".");
    const group = name.slice(0, dot);
    groups.set(group, [...(groups.get(group) ?? []), name.slice(dot + 1)]);
  }
  return groups;
}

/** The prefix of a component's tensors: `vae` is the plain one, `vae_slim` has `slim.`. */
export function prefixOf(component: ComponentFolder, place: string): string {
  return component.name.startsWith(`${place}_`) ? `${component.name.slice(place.length + 1)}.` : "";
}
