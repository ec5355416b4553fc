/** The models that a runtime is to serve, opened: their files found, their configurations read and checked. */

import type { FamilyModel } from "../diffusion/model.ts";
import { openFamily } from "../families/registry.ts";
import { folderFiles } from "../platform/folder-files.ts";
import { packagePath } from "../platform/package-files.ts";
import { pathKind } from "../platform/path-kind.ts";
import { listed, quoted } from "../platform/quoted.ts";
import { ownTurn } from "../platform/turns.ts";
import { WeightsError } from "../weights/errors.ts";
import type { ModelSource, RuntimeOptions } from "./contract.ts";
import { isCheckpointName, locateModel } from "./model-location.ts";
import { noSuchModel, type OpenedModel } from "./opened-model.ts";

/** The folder of the model that comes with the package. */
export function builtInModel(): string {
  return packagePath("models", "landscapes");
}

/** Models of one runtime: each is a few MB on the host even if it is never loaded. */
const MOST_MODELS = 1_000;
/** Characters of a model's name. */
const LONGEST_NAME = 128;

/** A model by its name; undefined: by the name that its makers gave it. */
interface Named {
  readonly name?: string;
  readonly source: ModelSource;
}

/**
 * Opens the models that the options name, the default first.
 * @throws WeightsError, ModelConfigError, TokenizerError, SchedulerError for one that is no model we can run, unless it only
 *   lies in `modelFolder`
 */
export async function openModels(options: RuntimeOptions): Promise<OpenedModel[]> {
  const { model, models = {}, modelFolder, variant, vae, tinyAutoencoder, onNote } = options;
  const named: Named[] = Object.entries(models).map(([name, source]) => ({ name, source }));
  const hasOthers = named.length > 0 || modelFolder !== undefined;
  if (model !== undefined || !hasOthers) {
    named.unshift({ source: { model: model ?? builtInModel(), variant, vae, tinyAutoencoder } });
  }
  const opened = new Map<string, OpenedModel>();
  for (const { name, source } of named) {
    const family = await open(source, options);
    const own = name ?? family.facts.name;
    if (opened.has(own)) throw located(`two models are named ${quoted(own)}: give one of them another name`);
    opened.set(own, openedModel(own, family, source, options));
  }
  const left: string[] = [];
  for (const [name, path] of modelFolder === undefined ? [] : await modelsIn(modelFolder)) {
    if (opened.has(name)) continue;
    const source: ModelSource = { model: path };
    try {
      await ownTurn();
      opened.set(name, openedModel(name, await open(source, options), source, options));
    } catch (error) {
      const note = `the model ${quoted(name)} is left out: ${(error as Error).message}`;
      left.push(note);
      onNote?.(note);
    }
  }
  if (opened.size === 0) {
    throw located(
      `the folder of models ${quoted(modelFolder!)} holds no model that can be opened${left.length > 0 ? `; ${listed(left, 3)}` : ""}`,
    );
  }
  const unknown = options.preload?.find((name) => !opened.has(name));
  if (unknown !== undefined) throw noSuchModel(unknown, [...opened.keys()]);
  return [...opened.values()];
}

async function open(source: ModelSource, { families }: RuntimeOptions): Promise<FamilyModel> {
  const { model, variant, vae, tinyAutoencoder } = source;
  const files = typeof model === "string" ? await locateModel(model) : model;
  return openFamily(files, { variant, vae, tinyAutoencoder }, families);
}

function openedModel(name: string, family: FamilyModel, source: ModelSource, options: RuntimeOptions): OpenedModel {
  const keepAlive = source.keepAlive ?? options.keepAlive;
  const preload = source.preload ?? options.preload?.includes(name) ?? false;
  return { name, family, keepAlive, preload };
}

/** The paths of what may be models in a folder, by their names, sorted. @throws WeightsError if it is no folder */
async function modelsIn(folder: string): Promise<Map<string, string>> {
  if ((await pathKind(folder)) !== "folder") throw located(`there is no folder of models ${quoted(folder)}`);
  const paths = new Map<string, string>();
  for (const file of [...(await folderFiles(folder).list())].sort()) {
    if (file.startsWith(".")) continue;
    const path = `${folder.replace(/\/+$/, "")}/${file}`;
    const isFolder = (await pathKind(path)) === "folder";
    if (!isFolder && !isCheckpointName(file)) continue;
    const short = isFolder ? cachedName(file) : file.replace(/\.\w+$/, "");
    const name = paths.has(short) ? file : short;
    if (name.length > LONGEST_NAME || /\p{C}/u.test(name)) throw located(`the name ${quoted(file)} is no model's name`);
    paths.set(name, path);
    if (paths.size > MOST_MODELS) throw located(`the folder ${quoted(folder)} holds over ${MOST_MODELS} models`);
  }
  return paths;
}

/** `owner/name` of a model in a hub's cache. */
function cachedName(folder: string): string {
  const [, owner, name] = /^models--(.+?)--(.+)$/.exec(folder) ?? [];
  return owner === undefined ? folder : `${owner}/${name}`;
}

function located(reason: string): WeightsError {
  return new WeightsError("model-location", reason);
}
