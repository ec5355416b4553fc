/**
 * A model folder as diffusers saves it: `model_index.json`, and a folder for each component.
 *
 *     model_index.json            {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"], …}
 *     unet/config.json            what the class was built with
 *     unet/diffusion_pytorch_model.safetensors
 *     scheduler/scheduler_config.json
 *     tokenizer/tokenizer_config.json, vocab.json, merges.txt
 *
 * Opening reads and checks the JSON; weights are opened when asked for (`weight-files.ts`). Everything in the folder is
 * untrusted. Nothing here knows what a UNet is: configs are handed on as they were found.
 */
import { z } from "zod";
import { filesOf } from "../platform/folder-files.ts";
import { fileAt, type ModelFiles, subfolder } from "../platform/model-files.ts";
import { listed, quoted } from "../platform/quoted.ts";
import { WeightsError } from "./errors.ts";
import { readJson, readOptionalJson } from "./json-file.ts";
import {
  COMPONENTS,
  type ComponentKind,
  IGNORED_PLACES,
  type KnownClasses,
  kindOfClass,
  PIPELINES,
  PLACES,
  requiredBy,
} from "./model-classes.ts";
import type { TensorSet } from "./tensor-set.ts";
import { openWeights, variantNames, variantsIn } from "./weight-files.ts";

export type { TensorEntry, TensorSet } from "./tensor-set.ts";

export interface Component {
  /** Its place in the pipeline, which is its folder's name: "unet", "text_encoder_2". */
  readonly name: string;
  /** One of the known classes (`model-classes.ts`). */
  readonly className: string;
  readonly kind: ComponentKind;
  /** Its config file's content, unchecked. */
  readonly config: Readonly<Record<string, unknown>>;
  /** The files of its folder. */
  readonly files: ModelFiles;
  /** Opens its weights; the caller closes them. Throws WeightsError. */
  weights(): Promise<TensorSet>;
}

export interface ModelDirectory {
  /** All its files. */
  readonly files: ModelFiles;
  /** One of the known pipelines (`model-classes.ts`). */
  readonly pipelineClass: string;
  /** `_name_or_path` of `model_index.json`: the repository, or the folder, that it was saved from. */
  readonly nameOrPath?: string;
  /** Entries of `model_index.json` besides components: `requires_safety_checker`, `force_zeros_for_empty_prompt`, … */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly components: ReadonlyMap<string, Component>;
  /** The kind of a checkpoint in one file, in words; undefined for a folder. */
  readonly description?: string;
  /** Components that are there and are not used, such as "safety_checker". */
  readonly ignored: readonly string[];
  component(name: string): Component | undefined;
}

export interface ModelDirectoryOptions {
  /**
   * Which of several saved weights, such as "fp16". Components that have no such variant take what they have, as without
   * it: the plain weights, else "fp16", else the only ones.
   */
  readonly variant?: string | undefined;
  /** Classes beside those of `model-classes.ts`. */
  readonly extraClasses?: KnownClasses | undefined;
}

export const INDEX_FILE = "model_index.json";

/** Real ones name some fifteen; each component is a folder to be read. */
const MOST_ENTRIES = 100;

const componentSchema = z.union([
  z.tuple([z.string(), z.string()]),
  z.tuple([z.null(), z.null()]).transform(() => null),
  z.null(),
]);

const indexSchema = z.looseObject({ _class_name: z.string(), _name_or_path: z.string().optional().catch(undefined) });

/**
 * Opens a model: reads `model_index.json` and the config of each component.
 * @param model its files; as a text, the path of a folder on this machine.
 * @throws WeightsError where the index or a config is missing or not sound, or names a class that is not known.
 */
export async function openModelDirectory(
  model: ModelFiles | string,
  options: ModelDirectoryOptions = {},
): Promise<ModelDirectory> {
  const files = filesOf(model);
  const index = indexSchema.safeParse(await readJson(fileAt(files, INDEX_FILE), INDEX_FILE));
  if (!index.success) throw new WeightsError("model-config", "has no _class_name", { file: INDEX_FILE });
  const pipelineClass = index.data._class_name;
  const required = requiredBy(pipelineClass, options.extraClasses);
  if (required === undefined)
    throw new WeightsError(
      "model-class",
      `unknown pipeline class ${quoted(pipelineClass)}; known are ${Object.keys(PIPELINES).join(", ")}`,
      { file: INDEX_FILE },
    );

  const entries = Object.entries(index.data);
  if (entries.length > MOST_ENTRIES)
    throw new WeightsError("model-config", `names ${entries.length} things, more than the ${MOST_ENTRIES} allowed`, {
      file: INDEX_FILE,
    });
  const flags: Record<string, unknown> = {};
  const ignored: string[] = [];
  const components = new Map<string, Component>();
  for (const [name, value] of entries) {
    if (name.startsWith("_")) continue;
    // A component is a pair; one that is absent may be a bare null too.
    if (!Array.isArray(value) && !(value === null && Object.hasOwn(PLACES, name))) {
      flags[name] = value;
      continue;
    }
    const entry = componentSchema.safeParse(value);
    if (!entry.success)
      throw new WeightsError("model-config", `component ${quoted(name)} is not a pair of library and class`, {
        file: INDEX_FILE,
      });
    if (entry.data === null) continue;
    if (IGNORED_PLACES.has(name)) {
      ignored.push(name);
      continue;
    }
    const [library, className] = entry.data;
    const kind = kindOf(name, library, className, options.extraClasses);
    components.set(
      name,
      await readComponent(subfolder(files, name), { name, className, kind, prefix: `${name}/` }, options),
    );
  }
  for (const name of required)
    if (!components.has(name))
      throw new WeightsError("model-config", `a ${pipelineClass} needs a component "${name}", and none is named`, {
        file: INDEX_FILE,
      });
  const { _name_or_path: nameOrPath } = index.data;
  if (options.variant !== undefined) await checkVariant(files, components, options.variant);
  return { files, pipelineClass, nameOrPath, flags, components, ignored, component: (name) => components.get(name) };
}

/** @throws WeightsError if no component has this variant, with those that they have */
async function checkVariant(
  files: ModelFiles,
  components: ReadonlyMap<string, Component>,
  variant: string,
): Promise<void> {
  const there = new Set<string>();
  for (const { name, kind } of components.values()) {
    if (isWeightless(kind)) continue;
    for (const found of await variantsIn(subfolder(files, name), name)) there.add(found);
  }
  if (there.has(variant)) return;
  const reason = `the model has no variant ${quoted(variant)}; it has ${variantNames(there) || "no weights"}`;
  throw new WeightsError("weights-variant", reason);
}

function isWeightless(kind: ComponentKind): boolean {
  return kind === "tokenizer" || kind === "scheduler";
}

/**
 * Opens a folder that holds one component by itself, such as a VAE: its class is what its config says.
 * @throws WeightsError where the config is missing or not sound, or names a class that is not known.
 */
export async function openComponentFolder(
  source: ModelFiles | string,
  options: ModelDirectoryOptions = {},
): Promise<Component> {
  const files = filesOf(source);
  for (const file of ["config.json", "scheduler_config.json", "tokenizer_config.json"]) {
    const config = await readOptionalJson(fileAt(files, file), file);
    if (config === undefined) continue;
    const className = classIn(config);
    if (className === undefined)
      throw new WeightsError("model-config", "names no class: neither _class_name nor architectures", { file });
    const kind = kindOfClass(className, options.extraClasses);
    if (kind === undefined) throw unknownComponent(className, file);
    return component(files, { name: files.name, className, kind, prefix: "" }, config, options);
  }
  throw new WeightsError("weights-not-found", "no such file; a component's folder must have one", {
    file: "config.json",
  });
}

interface ComponentPlace {
  readonly name: string;
  readonly className: string;
  readonly kind: ComponentKind;
  /** The prefix of its files' names in messages: "unet/", or nothing. */
  readonly prefix: string;
}

function kindOf(name: string, library: string, className: string, known?: KnownClasses): ComponentKind {
  const file = INDEX_FILE;
  // A component's name is the name of a folder.
  if (!/^[A-Za-z0-9_-]+$/.test(name))
    throw new WeightsError("model-config", `component ${quoted(name)}: the name may have letters, digits, - and _`, {
      file,
    });
  const kind = library === "diffusers" || library === "transformers" ? kindOfClass(className, known) : undefined;
  if (kind === undefined) throw unknownComponent(className, file, name, library);
  const wanted = Object.hasOwn(PLACES, name) ? PLACES[name]! : kind;
  if (kind !== wanted)
    throw new WeightsError(
      "model-class",
      `component ${quoted(name)} must be of kind ${wanted}, and ${className} is of kind ${kind}`,
      {
        file,
      },
    );
  return kind;
}

function unknownComponent(className: string, file: string, name?: string, library?: string): WeightsError {
  const what = library === undefined ? quoted(className) : `${quoted(className)} of ${quoted(library)}`;
  const where = name === undefined ? "" : ` for component ${quoted(name)}`;
  return new WeightsError(
    "model-class",
    `unknown class ${what}${where}; known are ${listed(Object.keys(COMPONENTS), Infinity)}`,
    { file },
  );
}

const CONFIG_FILES: Readonly<Record<ComponentKind, string>> = {
  denoiser: "config.json",
  autoencoder: "config.json",
  "text encoder": "config.json",
  "control network": "config.json",
  "image encoder": "config.json",
  tokenizer: "tokenizer_config.json",
  scheduler: "scheduler_config.json",
};

async function readComponent(
  files: ModelFiles,
  place: ComponentPlace,
  options: ModelDirectoryOptions,
): Promise<Component> {
  const file = CONFIG_FILES[place.kind];
  const [source, name] = [fileAt(files, file), `${place.prefix}${file}`];
  // A tokenizer does without: its other files say enough.
  const config =
    place.kind === "tokenizer" ? ((await readOptionalJson(source, name)) ?? {}) : await readJson(source, name);
  return component(files, place, config, options);
}

function component(
  files: ModelFiles,
  { name, className, kind, prefix }: ComponentPlace,
  config: Record<string, unknown>,
  options: ModelDirectoryOptions,
): Component {
  return {
    name,
    className,
    kind,
    config,
    files,
    async weights() {
      if (isWeightless(kind)) throw new WeightsError("weights-not-found", `a ${kind} has no weights`, { file: name });
      const shown = prefix === "" ? "" : name;
      const { variant } = options;
      const isThere = variant !== undefined && (await variantsIn(files, shown)).includes(variant);
      return openWeights(files, { name: shown, variant: isThere ? variant : undefined });
    },
  };
}

function classIn(config: Record<string, unknown>): string | undefined {
  const { _class_name: own, architectures, tokenizer_class: tokenizer } = config;
  const named = own ?? (Array.isArray(architectures) ? architectures[0] : undefined) ?? tokenizer;
  return typeof named === "string" ? named : undefined;
}
