/**
 * Which files of a repository a model needs: the folders of its components, in one variant, or its one checkpoint.
 *
 * Repositories hold the same weights several times over: plain and fp16, with and without EMA, as safetensors, pickles,
 * for Flax, ONNX and OpenVINO, and in one file beside the folders. The reader's own rules (`weights/weight-files.ts`) say
 * which of them it opens.
 */
import { listed, quoted } from "../platform/quoted.ts";
import { IGNORED_PLACES } from "../weights/model-classes.ts";
import { INDEX_FILE } from "../weights/model-directory.ts";
import { filesByVariant, variantNames } from "../weights/weight-files.ts";
import { bytesText } from "./bytes-text.ts";
import { HubError } from "./errors.ts";

/** The name of weights that have no variant. */
export const PLAIN = "plain";

/** Files beside `model_index.json` that belong to a model (docs/model-folder.md). */
const ROOT_FILES = /^(?:daguerre|latent_rgb|words)\.json$/;
/** Folders with a LoRA that belongs to a model. */
const OWN_LORAS = /^(?:few-step|large)\/pytorch_lora_weights\.safetensors$/;
/** Configurations, tokenizers, indices of shards. */
const SMALL = /\.(?:json|txt|model)$/i;
const SHARD_INDEX = /\.index(?:\.[A-Za-z0-9_-]+)?\.json$/;
const CHECKPOINT = /\.(?:safetensors|sft|gguf|ckpt|pth?|bin)$/i;
const PICKLE = /\.(?:ckpt|pth?|bin)$/i;
const MOST_SHOWN = 12;

/** The files of a repository: bytes by path. */
export type Listing = ReadonlyMap<string, number>;

/** Weights, and the index that names the rest of them if they are shards. */
export interface ChosenWeights {
  /** The component's folder; "" for the root. */
  readonly folder: string;
  readonly file: string;
  readonly isIndex: boolean;
  readonly variant: string;
}

export interface Choice {
  /** Files that are read before the weights. */
  readonly small: readonly string[];
  readonly weights: readonly ChosenWeights[];
}

/**
 * The files of a model.
 * @param index the content of `model_index.json`, if the repository has one
 * @param variant `fp16`, or `plain`; without it `fp16` where it is there, else the plain ones, else the only ones
 * @throws HubError "choice" if there are several checkpoints, or several variants; "not-found" if there is none
 */
export function chooseFiles(
  repository: string,
  listing: Listing,
  index: Readonly<Record<string, unknown>> | undefined,
  variant: string | undefined,
): Choice {
  if (index !== undefined) return diffusersFolder(repository, listing, index, variant);
  const root = namesIn(listing, "");
  const weights = root.includes("config.json") ? weightsIn(repository, "", root, variant) : undefined;
  if (weights !== undefined) return { small: ["config.json"], weights: [weights] };
  return { small: [], weights: [checkpointOf(repository, listing)] };
}

function diffusersFolder(
  repository: string,
  listing: Listing,
  index: Readonly<Record<string, unknown>>,
  variant: string | undefined,
): Choice {
  const small = [...listing.keys()].filter((path) => path === INDEX_FILE || ROOT_FILES.test(path));
  const weights: ChosenWeights[] = [];
  for (const [component, value] of Object.entries(index)) {
    const isPair = Array.isArray(value) && typeof value[1] === "string";
    if (component.startsWith("_") || IGNORED_PLACES.has(component) || !isPair) continue;
    const present = namesIn(listing, component);
    const chosen = weightsIn(repository, component, present, variant);
    if (chosen !== undefined) weights.push(chosen);
    const wanted = present.filter((name) => SMALL.test(name) && !SHARD_INDEX.test(name));
    small.push(...wanted.map((name) => `${component}/${name}`));
  }
  if (variant !== undefined && variant !== PLAIN && !weights.some((chosen) => chosen.variant === variant)) {
    const there = new Set(weights.flatMap(({ folder }) => [...filesByVariant(namesIn(listing, folder)).keys()]));
    throw new HubError("choice", `${repository} has no variant ${quoted(variant)}; it has ${variantNames(there)}`);
  }
  for (const path of listing.keys()) {
    if (OWN_LORAS.test(path)) weights.push({ folder: "", file: path, isIndex: false, variant: "" });
  }
  return { small, weights };
}

/** Names of the files in a folder, and of none below it. */
function namesIn(listing: Listing, folder: string): string[] {
  const prefix = folder === "" ? "" : `${folder}/`;
  return [...listing.keys()].flatMap((path) => {
    const name = path.startsWith(prefix) ? path.slice(prefix.length) : "/";
    return name.includes("/") ? [] : [name];
  });
}

function weightsIn(
  repository: string,
  folder: string,
  present: readonly string[],
  wished: string | undefined,
): ChosenWeights | undefined {
  const found = filesByVariant(present);
  if (found.size === 0) return undefined;
  const own = wished === undefined ? undefined : wished === PLAIN ? "" : wished;
  const only = found.size === 1 ? [...found.keys()][0] : undefined;
  const variant = [own, "fp16", "", only].find((name) => name !== undefined && found.has(name));
  if (variant === undefined) {
    const where = folder === "" ? repository : `${folder} of ${repository}`;
    throw new HubError("choice", `${where} has ${variantNames(found.keys())}: choose one with --variant`);
  }
  const file = found.get(variant)!;
  const path = folder === "" ? file : `${folder}/${file}`;
  return { folder, file: path, isIndex: SHARD_INDEX.test(file), variant };
}

/** The only checkpoint in one file of a repository without an index. */
function checkpointOf(repository: string, listing: Listing): ChosenWeights {
  const all = [...listing.keys()].filter((path) => CHECKPOINT.test(path));
  const safe = all.filter((path) => !PICKLE.test(path));
  const found = safe.length > 0 ? safe : all;
  const [only] = found;
  if (found.length === 1) return { folder: "", file: only!, isIndex: false, variant: "" };
  if (only === undefined) {
    throw new HubError(
      "not-found",
      `${repository} has no ${INDEX_FILE} and no checkpoint (.safetensors, .gguf, .ckpt): it is no model that Daguerre reads`,
    );
  }
  const shown = listed(
    found.map((path) => `${quoted(path)} (${bytesText(listing.get(path)!)})`),
    MOST_SHOWN,
  );
  throw new HubError(
    "choice",
    `${repository} has ${found.length} checkpoints, choose: daguerre pull ${repository} FILE, where FILE is one of ${shown}`,
  );
}

/** The shards that an index names. */
export function shardsOf(index: Readonly<Record<string, unknown>>, folder: string): string[] {
  const { weight_map: map } = index;
  if (typeof map !== "object" || map === null) return [];
  const names = new Set(Object.values(map).filter((name) => typeof name === "string" && !name.includes("/")));
  return [...names].map((name) => (folder === "" ? String(name) : `${folder}/${name}`));
}
