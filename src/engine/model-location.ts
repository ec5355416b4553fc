/**
 * From the path that somebody gives for a model to the model.
 *
 * A model is a folder in diffusers layout, or a checkpoint in one file. People also give the folder's index file, the folder
 * of a hub's cache, a folder with one checkpoint in it, a model's name on a hub, and the address of a file; the last two mean
 * what was downloaded of them. Every other path is an error that names the thing at the path, and what to do.
 */

import { basename, dirname, join } from "node:path";
import { findAddressFile } from "../hub/address-files.ts";
import { type HubName, hubNameText, parseHubName } from "../hub/hub-name.ts";
import { addressCache, hubCache } from "../hub/settings.ts";
import { findSnapshot } from "../hub/snapshots.ts";
import { foreignKind, HEAD_BYTES } from "../platform/file-kind.ts";
import { fileOf, folderFiles } from "../platform/folder-files.ts";
import { type FileAt, fileAt, type ModelFiles, readFile, textOf } from "../platform/model-files.ts";
import { pathKind } from "../platform/path-kind.ts";
import { listed, quoted } from "../platform/quoted.ts";
import { WeightsError } from "../weights/errors.ts";
import { readOptionalJson } from "../weights/json-file.ts";
import { INDEX_FILE } from "../weights/model-directory.ts";

const LAYOUT = `a model is a folder in diffusers layout, with a ${INDEX_FILE}, or a checkpoint in one file (.safetensors, .ckpt, .gguf)`;
const SINGLE_FILE = /\.(?:safetensors|sft|ckpt|pth?|bin|gguf)$/i;
/** Files too short to be told by their content. */
const NO_TENSORS = /\.(?:json|txt|md|ya?ml)$/i;
const ADDRESS = /^[a-z][a-z0-9+.-]*:\/\//i;
/** A model in a hub's cache. */
const CACHED = /^models--/;
/** Folders that are looked into for models. */
const MOST_FOLDERS = 200;
/** Bytes of the file that names a cache's snapshot: a commit's hash. */
const LONGEST_REF = 200;

/** True if a file is named as a checkpoint in one file is. */
export function isCheckpointName(file: string): boolean {
  return SINGLE_FILE.test(file);
}

/** A folder's files, or a checkpoint in one file. */
export type LocatedModel = ModelFiles | FileAt;

/**
 * The model at `source`: its folder, its `model_index.json`, its one file, a hub's cache that holds one model, or its name
 * on a hub or its address if it was downloaded.
 * @throws WeightsError "model-location" that names the thing at `source`, and what to do
 */
export async function locateModel(source: string): Promise<LocatedModel> {
  if (source.trim() === "") throw located(source, `names nothing; ${LAYOUT}`);
  switch (await pathKind(source)) {
    case "folder":
      return inFolder(source, source);
    case "file":
      if (basename(source) === INDEX_FILE) return folderFiles(dirname(source));
      return inFile(source);
    case "other":
      throw located(source, `is neither a folder nor a file; ${LAYOUT}`);
    case "forbidden":
      throw located(source, "may not be read: permission denied");
    case "absent": {
      const path = await downloaded(source);
      if (path === undefined) throw located(source, await reasonOfAbsent(source));
      return (await pathKind(path)) === "folder" ? inFolder(source, path) : fileOf(path);
    }
  }
}

/** The path of what was downloaded under a name or from an address. */
async function downloaded(source: string): Promise<string | undefined> {
  if (ADDRESS.test(source)) return findAddressFile(addressCache(), source);
  const name = await hubNameIn(source);
  return name && findSnapshot(hubCache(), name);
}

/** The model's name on a hub that `source` is, if the model is not on this machine. */
export async function nameToPull(source: string): Promise<string | undefined> {
  if ((await pathKind(source)) !== "absent" || (await downloaded(source)) !== undefined) return undefined;
  const name = SINGLE_FILE.test(source) ? undefined : await hubNameIn(source);
  return name && hubNameText(name);
}

function located(source: string, reason: string): WeightsError {
  return new WeightsError("model-location", `model ${quoted(source)}: ${reason}`);
}

async function reasonOfAbsent(source: string): Promise<string> {
  if (ADDRESS.test(source)) return `nothing was downloaded from this address: run "daguerre pull ${source}" first`;
  if (source.startsWith("~")) return "there is no such folder; only a shell knows ~, so write the whole path";
  const name = await hubNameIn(source);
  if (SINGLE_FILE.test(source) && name?.file === undefined) return "there is no such file";
  if (name === undefined) return `there is no such folder; ${LAYOUT}`;
  const { file, ...model } = name;
  const command = `daguerre pull ${hubNameText({ ...model, file: undefined })}${file === undefined ? "" : ` ${file}`}`;
  const { repository } = model;
  const isHere = (await findSnapshot(hubCache(), { repository, revision: undefined, file: undefined })) !== undefined;
  const lacks = isHere
    ? `the hub's cache has ${repository}, but not this of it`
    : "nor a model of that name in the hub's cache";
  return `there is no such ${file === undefined ? "folder" : "file"}, ${isHere ? "and " : ""}${lacks}: run "${command}" first`;
}

/** The model's name on a hub that `source` seems to be. In a configuration file a name became a path beside the file. */
async function hubNameIn(source: string): Promise<HubName | undefined> {
  const own = parseHubName(source);
  if (own !== undefined && (own.file === undefined || SINGLE_FILE.test(own.file))) return own;
  const name = parseHubName(source.split(/[\\/]/).slice(-2).join("/"));
  if (name === undefined) return undefined;
  const beside = dirname(dirname(source));
  const isName = (await pathKind(beside)) === "folder" && (await pathKind(dirname(source))) === "absent";
  return isName && dirname(beside) !== beside ? name : undefined;
}

async function inFolder(source: string, folder: string): Promise<LocatedModel> {
  const files = folderFiles(folder);
  const names = await files.list().catch(() => {
    throw located(source, "may not be read: permission denied");
  });
  if (names.includes(INDEX_FILE)) return files;
  if (names.length === 0) throw located(source, `is an empty folder; ${LAYOUT}`);
  if (names.includes("snapshots") && (names.includes("refs") || names.includes("blobs") || names.length === 1)) {
    return inSnapshots(source, folder, await folderFiles(join(folder, "snapshots")).list());
  }
  if (basename(folder) === "snapshots" && CACHED.test(basename(dirname(folder)))) {
    return inSnapshots(source, dirname(folder), names);
  }
  const cached = names.filter((name) => CACHED.test(name));
  if (cached.length > 0) return inCache(source, folder, cached);
  if (names.includes("hub") && (await holdsCache(join(folder, "hub")))) return inFolder(source, join(folder, "hub"));
  const singles = names.filter((name) => SINGLE_FILE.test(name));
  if (singles.length === 1 && !names.includes("config.json")) return inFile(source, join(folder, singles[0]!));
  throw located(source, await reasonOfFolder(folder, files, names, singles));
}

/** @param names the snapshots of one model in a cache; `refs/main` says which one is the model as it was last fetched. */
async function inSnapshots(source: string, root: string, names: readonly string[]): Promise<LocatedModel> {
  const main = await readFile(fileAt(folderFiles(root), "refs/main"), LONGEST_REF).then(
    (bytes) => textOf(bytes).trim(),
    () => undefined,
  );
  const chosen = names.length === 1 ? names[0] : names.find((name) => name === main);
  if (chosen !== undefined) return inFolder(source, join(root, "snapshots", chosen));
  if (names.length === 0) {
    throw located(source, "is a model in a hub's cache, of which nothing was downloaded; download it again");
  }
  const shown = listed(names.map((name) => quoted(join(root, "snapshots", name))));
  throw located(source, `is a model in a hub's cache with ${names.length} snapshots; name one of them: ${shown}`);
}

async function inCache(source: string, folder: string, cached: readonly string[]): Promise<LocatedModel> {
  const [only] = cached;
  if (cached.length === 1) return inFolder(source, join(folder, only!));
  const shown = listed(cached.map((name) => quoted(join(folder, name))));
  throw located(source, `is a hub's cache of ${cached.length} models; name one of them: ${shown}`);
}

async function holdsCache(folder: string): Promise<boolean> {
  const names = await folderFiles(folder)
    .list()
    .catch(() => []);
  return names.some((name) => CACHED.test(name));
}

/** A folder without an index, by its content. */
async function reasonOfFolder(
  folder: string,
  files: ModelFiles,
  names: readonly string[],
  singles: readonly string[],
): Promise<string> {
  if (await isModel(dirname(folder))) {
    return `is one component of the model in ${quoted(dirname(folder))}: name that folder`;
  }
  const config = names.includes("config.json")
    ? await readOptionalJson(fileAt(files, "config.json"), "config.json").catch(() => undefined)
    : undefined;
  const named = config?._class_name ?? (Array.isArray(config?.architectures) ? config.architectures[0] : undefined);
  if (typeof named === "string") {
    return `holds one component (${quoted(named)}), and no ${INDEX_FILE}; name the folder of the whole model`;
  }
  const models: string[] = [];
  for (const name of names.slice(0, MOST_FOLDERS))
    if (await isModel(join(folder, name))) models.push(join(folder, name));
  if (models.length > 0) {
    return `holds ${models.length === 1 ? "a model" : "models"} in its folders; name ${models.length === 1 ? "it" : "one"}: ${listed(models.map(quoted))}`;
  }
  if (singles.length > 0) {
    const shown = listed(
      singles.map((name) => quoted(join(folder, name))),
      3,
    );
    return `has no ${INDEX_FILE}, and ${singles.length} files that may be models; name one: ${shown}`;
  }
  return `has no ${INDEX_FILE}; ${LAYOUT}`;
}

async function isModel(folder: string): Promise<boolean> {
  return (await pathKind(join(folder, INDEX_FILE))) === "file";
}

/**
 * A file that may be a checkpoint; its tensors say whether it is one, as it is opened.
 * @throws WeightsError if it is something else
 */
async function inFile(source: string, path = source): Promise<FileAt> {
  const at = fileOf(path);
  const head = await headOf(at.files, at.path);
  if (head === undefined) throw located(source, "may not be read: permission denied");
  const foreign = foreignKind(head, at.path);
  const isRead = foreign === undefined ? !NO_TENSORS.test(at.path) : ["pickle", "gguf"].includes(foreign.kind);
  const isTensors = head.byteLength > 0 && isRead;
  // A repository may have a checkpoint in one file beside the folders of its components.
  const folders = isTensors ? [dirname(dirname(path))] : [dirname(path), dirname(dirname(path))];
  for (const folder of folders) {
    if (await isModel(folder)) throw located(source, `is one file of the model in ${quoted(folder)}: name that folder`);
  }
  if (isTensors) return at;
  if (foreign === undefined)
    throw located(source, `is ${head.byteLength === 0 ? "an empty file" : "a file of text"}; ${LAYOUT}`);
  if (foreign.kind === "text") throw located(source, `is a file of text; ${LAYOUT}`);
  throw located(source, foreign.kind === "format" ? `${foreign.reason}; ${LAYOUT}` : foreign.reason);
}

async function headOf(files: ModelFiles, name: string): Promise<Uint8Array | undefined> {
  try {
    const file = await files.open(name);
    try {
      const head = new Uint8Array(HEAD_BYTES);
      return head.subarray(0, await file.read(head, 0));
    } finally {
      await file.close();
    }
  } catch {
    return undefined;
  }
}
