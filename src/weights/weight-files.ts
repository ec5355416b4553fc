/**
 * Which files of a component's folder hold its weights, and the tensors in them.
 *
 * A component saves its weights as one file or as shards with an index, and may do so several times over in variants
 * ("fp16", "ema"). Names in use, for a stem of `diffusion_pytorch_model` (diffusers) or `model` (transformers):
 *
 *     <stem>.safetensors                       <stem>.fp16.safetensors
 *     <stem>.safetensors.index.json            <stem>.safetensors.index.fp16.json   (what both libraries write)
 *                                              <stem>.fp16.safetensors.index.json   (diffusers before 0.30, and by hand)
 *     diffusion_pytorch_model.bin, pytorch_model.bin, if there is none of these
 *
 * An index names files of the same folder: a name with a separator in it is refused, so that an index cannot
 * lead out of the folder.
 */
import { z } from "zod";
import { filesOf } from "../platform/folder-files.ts";
import { fileAt, type ModelFiles } from "../platform/model-files.ts";
import { listed, quoted } from "../platform/quoted.ts";
import { toWeightsError, WeightsError } from "./errors.ts";
import { readJson } from "./json-file.ts";
import { openSafetensors, type SafetensorsFile } from "./safetensors.ts";
import { openTensorFile } from "./tensor-file.ts";
import type { TensorEntry, TensorSet } from "./tensor-set.ts";

const STEMS = ["diffusion_pytorch_model", "model"] as const;
const SINGLE = /^(?:diffusion_pytorch_model|model)(?:\.([A-Za-z0-9_-]+))?\.safetensors$/;
const INDEX =
  /^(?:diffusion_pytorch_model|model)(?:\.([A-Za-z0-9_-]+))?\.safetensors\.index(?:\.([A-Za-z0-9_-]+))?\.json$/;
const SHARD = /-\d{5}-of-\d{5}\.safetensors$/;
/** Weights as `torch.save` wrote them, for folders that have no others. */
const PICKLE = /^(?:diffusion_pytorch_model|pytorch_model)(?:\.([A-Za-z0-9_-]+))?\.bin$/;
const OTHER_PICKLE = /\.(?:bin|ckpt|pt|pth|pkl|pickle)$/i;

/** Bounds of what an index may make us do. The largest public models have a few hundred shards. */
const LONGEST_INDEX = 64 * 2 ** 20;
const MOST_SHARDS = 1024;

/**
 * Opens the weights in a folder; the caller closes them.
 * @param options.name the folder's name in messages, "" for the model folder itself.
 * @param options.variant such as "fp16". Without it the plain weights are taken, else "fp16", else the only variant.
 * @throws WeightsError where there are none, only pickles, not the wished variant, or where they are not sound.
 */
export async function openWeights(
  folder: ModelFiles | string,
  options: { name: string; variant?: string | undefined },
): Promise<TensorSet> {
  const { name } = options;
  const files = filesOf(folder);
  const present = await listOf(files, name);
  const file = chooseFile(present, options.variant, name || "the component's folder");
  const inFolder = (base: string) => (name === "" ? base : `${name}/${base}`);
  if (file.endsWith(".safetensors")) return openSafetensors(fileAt(files, file), { name: inFolder(file) });
  if (PICKLE.test(file)) return openTensorFile(fileAt(files, file), { name: inFolder(file) });
  return openShards(files, file, inFolder);
}

/**
 * The variants of the weights in a folder, sorted; "" stands for plain weights.
 * @param name the folder's name in messages
 * @throws WeightsError if there is no such folder
 */
export async function variantsIn(folder: ModelFiles, name: string): Promise<string[]> {
  return [...filesByVariant(await listOf(folder, name)).keys()].sort();
}

async function listOf(files: ModelFiles, name: string): Promise<readonly string[]> {
  try {
    return await files.list();
  } catch (error) {
    throw toWeightsError(error, name);
  }
}

/**
 * File names by variant. Single files come first, and in each kind the stems in order: the first found stands. Pickles count
 * if there is nothing else.
 */
export function filesByVariant(present: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const pattern of [SINGLE, INDEX])
    for (const stem of STEMS)
      for (const name of present) {
        const match = name.startsWith(`${stem}.`) ? pattern.exec(name) : null;
        if (match === null || (match[1] !== undefined && match[2] !== undefined)) continue;
        const variant = match[1] ?? match[2] ?? "";
        if (!found.has(variant)) found.set(variant, name);
      }
  if (found.size > 0) return found;
  for (const name of present) {
    const match = PICKLE.exec(name);
    if (match) found.set(match[1] ?? "", name);
  }
  return found;
}

/** Variants in words. */
export function variantNames(variants: Iterable<string>): string {
  return listed([...variants].sort().map((variant) => (variant === "" ? "plain weights" : quoted(variant))));
}

function chooseFile(present: readonly string[], wished: string | undefined, folder: string): string {
  const found = filesByVariant(present);
  const only = found.size === 1 ? found.values().next().value : undefined;
  const file = wished === undefined ? (found.get("") ?? found.get("fp16") ?? only) : found.get(wished);
  if (file !== undefined) return file;
  if (found.size > 0) {
    const there = variantNames(found.keys());
    const reason =
      wished === undefined
        ? `has no plain weights, only ${there}: choose one of them with --variant (setting and option: variant)`
        : `has no variant ${quoted(wished)}, only ${there}`;
    throw new WeightsError("weights-variant", reason, { file: folder });
  }
  const pickles = present.filter((name) => OTHER_PICKLE.test(name));
  if (pickles.length > 0)
    throw new WeightsError(
      "weights-pickle",
      `holds its weights only as pickles (${listed(
        pickles.map((pickle) => quoted(pickle)),
        3,
      )}), and none under a name that diffusers gives (pytorch_model.bin, diffusion_pytorch_model.bin)`,
      { file: folder },
    );
  const shards = present.filter((name) => SHARD.test(name));
  if (shards.length > 0)
    throw new WeightsError("weights-index", `holds shards (${listed(shards.map(quoted), 3)}), and no index of them`, {
      file: folder,
    });
  throw new WeightsError(
    "weights-not-found",
    `holds no weights: neither ${STEMS.map((stem) => `${stem}.safetensors`).join(" nor ")}, nor an index of shards`,
    { file: folder },
  );
}

const indexSchema = z.object({ weight_map: z.record(z.string(), z.string()) });

async function openShards(files: ModelFiles, index: string, inFolder: (base: string) => string): Promise<TensorSet> {
  const source = inFolder(index);
  const parsed = indexSchema.safeParse(await readJson(fileAt(files, index), source, LONGEST_INDEX));
  if (!parsed.success)
    throw new WeightsError("weights-index", "must have a weight_map from tensor names to file names", {
      file: source,
      cause: parsed.error,
    });
  const shardOf = new Map(Object.entries(parsed.data.weight_map));
  const names = new Set(shardOf.values());
  for (const [tensor, shard] of shardOf) checkShardName(shard, source, tensor);
  if (names.size > MOST_SHARDS)
    throw new WeightsError("weights-index", `names ${names.size} files, more than the ${MOST_SHARDS} allowed`, {
      file: source,
    });
  const shards: SafetensorsFile[] = [];
  try {
    for (const shard of names) shards.push(await openSafetensors(fileAt(files, shard), { name: inFolder(shard) }));
    const entries = new Map<string, TensorEntry>();
    for (const shard of shards) {
      for (const tensor of shard.names()) {
        const mapped = shardOf.get(tensor);
        if (mapped === undefined || inFolder(mapped) !== shard.source)
          throw new WeightsError(
            "weights-index",
            `is in this file, while the index ${mapped === undefined ? "does not name it" : `has it in ${quoted(mapped)}`}`,
            { file: shard.source, tensor },
          );
        entries.set(tensor, shard.get(tensor)!);
      }
    }
    for (const [tensor, shard] of shardOf)
      if (!entries.has(tensor))
        throw new WeightsError("weights-index", `is not in ${quoted(shard)}, where the index has it`, {
          file: source,
          tensor,
        });
    return {
      source,
      totalBytes: shards.reduce((sum, shard) => sum + shard.totalBytes, 0),
      names: () => entries.keys(),
      get: (name) => entries.get(name),
      close: () => closeAll(shards),
    };
  } catch (error) {
    await closeAll(shards);
    throw error;
  }
}

function checkShardName(shard: string, source: string, tensor: string): void {
  // ":" for Windows, where "C:model.safetensors" is a path. The rest of the name must be printable.
  if (!shard.endsWith(".safetensors") || !/^[^/\\:\p{Cc}]+$/u.test(shard))
    throw new WeightsError(
      "weights-index",
      `is said to be in ${quoted(shard)}, which is no name of a .safetensors file in the same folder`,
      { file: source, tensor },
    );
}

async function closeAll(shards: readonly SafetensorsFile[]): Promise<void> {
  await Promise.all(shards.map((shard) => shard.close()));
}
