/**
 * The LoRA files that a request means: by path for a program's own request, by name in the server's folder for others.
 *
 * A name is looked up in a list of the files that there are; it never becomes a path, so it cannot lead anywhere else.
 */

import { basename, join } from "node:path";
import type { LoraRequest } from "../memory/weight-sets.ts";
import { existingPath, type FileTree, fileTree } from "../platform/folder-tree.ts";
import { pathKind } from "../platform/path-kind.ts";
import { listed, quoted } from "../platform/quoted.ts";
import { WeightsError } from "../weights/errors.ts";
import { hasRegularFile } from "../weights/regular-file.ts";
import { RequestError } from "./errors.ts";
import { nearest } from "./near-names.ts";
import { type GenerationRequest, LIMITS } from "./request.ts";

/** As many as anybody has collected. */
const BOUNDS = { depth: 8, entries: 10_000 };
const ENDING = /\.safetensors$/i;
/** Names that an error shows. */
const MOST_SHOWN = 5;

/** The LoRAs of a folder. */
export interface LoraListing {
  /** Sorted. */
  readonly names: readonly string[];
  /** Sentences about files that are not offered, or not under the name that one would expect. */
  readonly notes: readonly string[];
  /** The path of a LoRA, below the folder. */
  readonly paths: ReadonlyMap<string, string>;
  /** Names by their NFC, and whole file names. */
  readonly others: ReadonlyMap<string, string>;
}

const NOTHING: LoraListing = { names: [], notes: [], paths: new Map(), others: new Map() };

/** Readings under way, by folder: those who ask meanwhile wait for the same. */
const readings = new Map<string, Promise<LoraListing>>();

/** The LoRAs in `folder` as it is now. */
export async function listLoras(folder: string | undefined): Promise<LoraListing> {
  if (folder === undefined) return NOTHING;
  let reading = readings.get(folder);
  if (reading === undefined) {
    reading = read(folder).finally(() => readings.delete(folder));
    readings.set(folder, reading);
  }
  return reading;
}

/** @throws WeightsError "model-location" if the folder whose LoRAs are to be offered is none */
export async function checkLoraFolder(folder: string | undefined): Promise<void> {
  if (folder === undefined || (await pathKind(folder)) === "folder") return;
  const reason = (await pathKind(folder)) === "absent" ? "there is no such folder" : "is no folder";
  throw new WeightsError("model-location", `lora_dir ${quoted(folder)}: ${reason}`);
}

async function read(folder: string): Promise<LoraListing> {
  try {
    return listingOf(await fileTree(folder, BOUNDS));
  } catch {
    return { ...NOTHING, notes: ["the folder of LoRAs cannot be read"] };
  }
}

/** The names of files: their paths below the folder, without the ending. */
function listingOf({ files, strays, isCut }: FileTree): LoraListing {
  const paths = new Map<string, string>();
  const others = new Map<string, string>();
  const notes = strays.map((stray) => `${quoted(stray)} is a link that leads out of the folder: it is not offered`);
  const fitting = files.filter((file) => ENDING.test(file));
  // If files differ in the ending alone, the usual one has the name.
  for (const file of fitting.toSorted(
    (a, b) => Number(b.endsWith(".safetensors")) - Number(a.endsWith(".safetensors")),
  )) {
    const name = file.replace(ENDING, "");
    const taken = paths.get(name);
    if (file.includes("\\") || file.length > LIMITS.loraNameCharacters) {
      notes.push(
        `${quoted(file)} has a backslash or over ${LIMITS.loraNameCharacters} characters in its name: it is not offered`,
      );
    } else if (taken === undefined) {
      paths.set(name, file);
    } else {
      paths.set(file, file);
      notes.push(`${quoted(file)} is offered under its whole name, since ${quoted(taken)} is ${quoted(name)}`);
    }
  }
  const names = [...paths.keys()].sort();
  for (const name of names) {
    const normal = name.normalize("NFC");
    const first = others.get(normal);
    if (first === undefined) others.set(normal, name);
    else notes.push(`${quoted(name)} is there in two normalizations of Unicode: each is found under its own alone`);
  }
  if (isCut)
    notes.push(`the folder has more than ${BOUNDS.entries} files or ${BOUNDS.depth} levels: the rest is not offered`);
  return { names, notes, paths, others };
}

/**
 * The path of the LoRA that is asked for, below the folder: under its name, with or without the ending, in any
 * normalization.
 */
function find({ paths, others }: LoraListing, loraName: string): string | undefined {
  for (const name of [loraName, loraName.replace(ENDING, "")]) {
    const path = paths.get(name) ?? paths.get(others.get(name.normalize("NFC")) ?? "");
    if (path !== undefined) return path;
  }
  return undefined;
}

/** Throws `RequestError` naming the entry whose file is not there, or is no regular file. */
export async function loraFiles(loras: GenerationRequest["loras"], folder: string | undefined): Promise<LoraRequest[]> {
  const listing = loras.some(({ path }) => path === undefined) ? await listLoras(folder) : NOTHING;
  return Promise.all(
    loras.map(async ({ name, path, ...scales }, index) => {
      if (path !== undefined) return { path: await existingPath(path), ...scales };
      if (folder === undefined) throw new RequestError(`loras.${index}.name`, "this server offers no LoRA");
      const found = find(listing, name as string);
      if (found === undefined) throw new RequestError(`loras.${index}.name`, unknown(name as string, listing.names));
      const file = join(folder, found);
      await checkThere(file, index);
      return { path: file, ...scales };
    }),
  );
}

function unknown(loraName: string, names: readonly string[]): string {
  const offered =
    names.length === 0
      ? "its folder has none"
      : `it offers ${listed(nearest(loraName, names).map(quoted), MOST_SHOWN)}`;
  return `${quoted(loraName)} is not a LoRA of this server; ${offered}`;
}

/** A file may have gone since the folder was read. */
async function checkThere(file: string, index: number): Promise<void> {
  try {
    if (await hasRegularFile(file, basename(file))) return;
  } catch (error) {
    throw error instanceof WeightsError ? new RequestError(`loras.${index}.name`, error.message) : error;
  }
  throw new RequestError(`loras.${index}.name`, `${quoted(basename(file))} is no longer there`);
}
