/**
 * From the path that somebody gives for a model to the model's folder.
 *
 * A model is a folder in diffusers layout. People give its index file, the folder of a hub's cache, a name on a hub, one
 * file of weights. The first two are opened; every other path is an error that says what was given and what to do.
 */

import { basename, dirname, join } from "node:path";
import { foreignKind, HEAD_BYTES } from "../platform/file-kind.ts";
import { fileOf, folderFiles } from "../platform/folder-files.ts";
import { fileAt, type ModelFiles, readFile, textOf } from "../platform/model-files.ts";
import { pathKind } from "../platform/path-kind.ts";
import { listed, quoted } from "../platform/quoted.ts";
import { WeightsError } from "../weights/errors.ts";
import { readOptionalJson } from "../weights/json-file.ts";
import { INDEX_FILE } from "../weights/model-directory.ts";
import { openSafetensors } from "../weights/safetensors.ts";
import { kindOfTensors } from "../weights/tensor-kind.ts";

const LAYOUT = `a model is a folder in diffusers layout, with a ${INDEX_FILE}`;
const CONVERT =
  "get the model in diffusers layout, or convert it with diffusers in Python: " +
  "StableDiffusionPipeline.from_single_file(file).save_pretrained(folder)";
const SINGLE_FILE = /\.(?:safetensors|ckpt|pt|pth|bin|gguf|onnx)$/i;
/** A name on a hub: an owner and a model. */
const HUB_NAME = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;
/** A model in a hub's cache. */
const CACHED = /^models--/;
/** Folders that are looked into for models. */
const MOST_FOLDERS = 200;
/** Bytes of the file that names a cache's snapshot: a commit's hash. */
const LONGEST_REF = 200;

/**
 * The files of the model at `given`: its folder, its `model_index.json`, or a hub's cache that holds one model.
 * @throws WeightsError "model-location" that says what `given` is, and what to do
 */
export async function locateModel(given: string): Promise<ModelFiles> {
  if (given.trim() === "") throw located(given, `names nothing; ${LAYOUT}`);
  switch (await pathKind(given)) {
    case "folder":
      return inFolder(given, given);
    case "file":
      if (basename(given) === INDEX_FILE) return folderFiles(dirname(given));
      throw located(given, await reasonOfFile(given));
    case "other":
      throw located(given, `is neither a folder nor a file; ${LAYOUT}`);
    case "forbidden":
      throw located(given, "may not be read: permission denied");
    case "absent":
      throw located(given, await reasonOfAbsent(given));
  }
}

function located(given: string, reason: string): WeightsError {
  return new WeightsError("model-location", `model ${quoted(given)}: ${reason}`);
}

async function reasonOfAbsent(given: string): Promise<string> {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(given)) {
    return "is an address, and models are not downloaded: download its folder first, and name that";
  }
  if (given.startsWith("~")) return "there is no such folder; only a shell knows ~, so write the whole path";
  if (SINGLE_FILE.test(given)) return `there is no such file; and ${LAYOUT}, not a single file`;
  const hubName = await hubNameIn(given);
  if (hubName === undefined) return `there is no such folder; ${LAYOUT}`;
  const folder = hubName.slice(hubName.indexOf("/") + 1);
  return (
    "there is no such folder, and models are not downloaded by their names: " +
    `run "hf download ${hubName} --local-dir ${folder}" first, and name that folder`
  );
}

/** The model's name on a hub that `given` seems to be. In a configuration file a name became a path beside the file. */
async function hubNameIn(given: string): Promise<string | undefined> {
  const name = given.split(/[\\/]/).slice(-2).join("/");
  if (!HUB_NAME.test(name)) return undefined;
  if (name === given) return name;
  const beside = dirname(dirname(given));
  const isName = (await pathKind(beside)) === "folder" && (await pathKind(dirname(given))) === "absent";
  return isName && dirname(beside) !== beside ? name : undefined;
}

async function inFolder(given: string, folder: string): Promise<ModelFiles> {
  const files = folderFiles(folder);
  const names = await files.list().catch(() => {
    throw located(given, "may not be read: permission denied");
  });
  if (names.includes(INDEX_FILE)) return files;
  if (names.length === 0) throw located(given, `is an empty folder; ${LAYOUT}`);
  if (names.includes("snapshots") && (names.includes("refs") || names.includes("blobs") || names.length === 1)) {
    return inSnapshots(given, folder, await folderFiles(join(folder, "snapshots")).list());
  }
  if (basename(folder) === "snapshots" && CACHED.test(basename(dirname(folder)))) {
    return inSnapshots(given, dirname(folder), names);
  }
  const cached = names.filter((name) => CACHED.test(name));
  if (cached.length > 0) return inCache(given, folder, cached);
  if (names.includes("hub") && (await holdsCache(join(folder, "hub")))) return inFolder(given, join(folder, "hub"));
  throw located(given, await reasonOfFolder(folder, files, names));
}

/** @param names the snapshots of one model in a cache; `refs/main` says which one is the model as it was last fetched. */
async function inSnapshots(given: string, root: string, names: readonly string[]): Promise<ModelFiles> {
  const main = await readFile(fileAt(folderFiles(root), "refs/main"), LONGEST_REF).then(
    (bytes) => textOf(bytes).trim(),
    () => undefined,
  );
  const chosen = names.length === 1 ? names[0] : names.find((name) => name === main);
  if (chosen !== undefined) return inFolder(given, join(root, "snapshots", chosen));
  if (names.length === 0) {
    throw located(given, "is a model in a hub's cache, of which nothing was downloaded; download it again");
  }
  const shown = listed(names.map((name) => quoted(join(root, "snapshots", name))));
  throw located(given, `is a model in a hub's cache with ${names.length} snapshots; name one of them: ${shown}`);
}

async function inCache(given: string, folder: string, cached: readonly string[]): Promise<ModelFiles> {
  const [only] = cached;
  if (cached.length === 1) return inFolder(given, join(folder, only!));
  const shown = listed(cached.map((name) => quoted(join(folder, name))));
  throw located(given, `is a hub's cache of ${cached.length} models; name one of them: ${shown}`);
}

async function holdsCache(folder: string): Promise<boolean> {
  const names = await folderFiles(folder)
    .list()
    .catch(() => []);
  return names.some((name) => CACHED.test(name));
}

/** A folder without an index, by its content. */
async function reasonOfFolder(folder: string, files: ModelFiles, names: readonly string[]): Promise<string> {
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
  const singles = names.filter((name) => SINGLE_FILE.test(name));
  if (singles.length > 0) {
    const shown = listed(singles.map(quoted), 3);
    return `has no ${INDEX_FILE}; single files such as ${shown} are not read as models: ${CONVERT}`;
  }
  return `has no ${INDEX_FILE}; ${LAYOUT}`;
}

async function isModel(folder: string): Promise<boolean> {
  return (await pathKind(join(folder, INDEX_FILE))) === "file";
}

async function reasonOfFile(path: string): Promise<string> {
  for (const folder of [dirname(path), dirname(dirname(path))]) {
    if (await isModel(folder)) return `is one file of the model in ${quoted(folder)}: name that folder`;
  }
  const { files, path: name } = fileOf(path);
  const head = await headOf(files, name);
  if (head === undefined) return "may not be read: permission denied";
  if (head.byteLength === 0) return `is an empty file; ${LAYOUT}`;
  const foreign = foreignKind(head, name);
  if (foreign?.kind === "pickle") return `${foreign.reason}; ${LAYOUT}`;
  if (foreign?.kind === "text") return `is a file of text; ${LAYOUT}`;
  if (foreign !== undefined) return foreign.kind === "format" ? `${foreign.reason}; ${LAYOUT}` : foreign.reason;
  const kind = await tensorKindOf(path);
  if (kind === undefined) return `is a file; ${LAYOUT}`;
  if (kind === "LoRA") return "is a LoRA, not a model: give it with --lora or put it into lora_dir, beside a model";
  if (kind === "embedding")
    return `is a textual-inversion embedding, not a model, and embeddings are not supported; ${LAYOUT}`;
  return `is a single file (${kind}), and single files are not read as models: ${CONVERT}`;
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

/** The kind of model in a safetensors file; undefined if it is none. */
async function tensorKindOf(path: string): Promise<string | undefined> {
  try {
    const set = await openSafetensors(path);
    await set.close();
    return kindOfTensors(set.names()) ?? "weights of an unknown kind";
  } catch {
    return undefined;
  }
}
