/**
 * An autoencoder by itself: a folder with a configuration, or a file in any layout. A file of a whole checkpoint gives its
 * own; TAESD's come as two files, an encoder and a decoder, of which either may be named.
 */

import { fileOf, folderFiles } from "../../platform/folder-files.ts";
import { memoryFiles } from "../../platform/memory-files.ts";
import { type FileAt, fileAt, type ModelFiles } from "../../platform/model-files.ts";
import { pathKind } from "../../platform/path-kind.ts";
import { quoted } from "../../platform/quoted.ts";
import { WeightsError } from "../../weights/errors.ts";
import { mappedTensors, type TensorMap } from "../../weights/mapped-tensors.ts";
import { type Component, openComponentFolder } from "../../weights/model-directory.ts";
import { hasRegularFile } from "../../weights/regular-file.ts";
import { openTensorFile } from "../../weights/tensor-file.ts";
import { kindOfTensors } from "../../weights/tensor-kind.ts";
import { joinedSets, type TensorSet } from "../../weights/tensor-set.ts";
import { type Config, type Shapes, tinyConfig, vaeConfig } from "./configs.ts";
import { tinyNames, vaeNames, withoutPrefix } from "./names.ts";
import { nameOf } from "./open-checkpoint.ts";

export interface AutoencoderOptions {
  /** The component's name: `vae`. */
  readonly name: string;
  /** That of the model, for a file that does not say its own. */
  readonly scalingFactor: number;
  readonly configs?: Config | undefined;
}

const FILE = /\.(?:safetensors|sft|ckpt|pth?|bin|gguf)$/i;
const PREFIXES = ["first_stage_model.", "vae.", ""];
const HALVES = { encoder: "decoder", decoder: "encoder" } as const;
type Half = keyof typeof HALVES;

/**
 * @param source a folder's files, a file, or the path of either
 * @throws WeightsError, ModelConfigError that names the file
 */
export async function openAutoencoder(
  source: ModelFiles | FileAt | string,
  options: AutoencoderOptions,
): Promise<Component> {
  if (typeof source !== "string") return "path" in source ? fromFile(source, options) : fromFolder(source, options);
  if ((await pathKind(source)) === "file") return fromFile(fileOf(source), options);
  return fromFolder(folderFiles(source), options);
}

async function fromFolder(files: ModelFiles, options: AutoencoderOptions): Promise<Component> {
  const found = await files.list().catch(() => undefined);
  if (found === undefined)
    throw new WeightsError("weights-not-found", "there is no such file or folder", { file: files.name });
  const single = found.filter((name) => FILE.test(name));
  const decoder = single.find((name) => /decoder/i.test(name));
  if (found.includes("config.json") || single.length === 0) return openComponentFolder(files);
  if (single.length === 1 || decoder !== undefined) return fromFile(fileAt(files, decoder ?? single[0]!), options);
  const reason = `has ${single.length} files and no config.json; name one of its files`;
  throw new WeightsError("weights-not-found", reason, { file: files.name });
}

async function fromFile(at: FileAt, { name, scalingFactor, configs }: AutoencoderOptions): Promise<Component> {
  const file = await openTensorFile(at);
  const names = [...file.names()];
  await file.close();
  const prefix = PREFIXES.find((one) => names.includes(`${one}decoder.conv_in.weight`));
  if (prefix !== undefined) {
    const map = new Map(
      [...vaeNames(withoutPrefix(names, prefix).filter(isVaesOwn))].map(([own, from]) => [
        own,
        { from: prefix + from },
      ]),
    );
    const open = async () => mappedTensors(await openTensorFile(at), map);
    const config = { ...vaeConfig(await shapesOf(open)), scaling_factor: scalingFactor, ...configs };
    return { name, className: "AutoencoderKL", kind: "autoencoder", config, files: nothing(at), weights: open };
  }
  if (!names.some((one) => /(?:^|\.)\d+\.conv\.0\.weight$/.test(one))) {
    const kind = kindOfTensors(names);
    const reason = `is no autoencoder: it holds ${kind ?? "weights of an unknown kind"} (its first tensor is ${quoted(names[0] ?? "none")})`;
    throw new WeightsError("model-class", reason, { file: file.source });
  }
  const open = await tinyHalves(at, names);
  const config = { ...tinyConfig(await shapesOf(open)), ...configs };
  return { name, className: "AutoencoderTiny", kind: "autoencoder", config, files: nothing(at), weights: open };
}

/** A VAE without a prefix may stand in a file with others. */
function isVaesOwn(name: string): boolean {
  return /^(?:encoder|decoder|quant_conv|post_quant_conv)\./.test(name);
}

/** How to open both halves of a tiny autoencoder as one set. @throws WeightsError if one of them is not there */
async function tinyHalves(at: FileAt, names: readonly string[]): Promise<() => Promise<TensorSet>> {
  const isWhole =
    names.some((one) => /^(?:taesd_)?encoder\./.test(one)) && names.some((one) => /^(?:taesd_)?decoder\./.test(one));
  if (isWhole) return () => mappedFile(at, names);
  // The first layer of the encoder reads a picture; that of the decoder has no weights.
  const half: Half =
    names.includes("0.weight") || names.some((one) => /^(?:taesd_)?encoder\./.test(one)) ? "encoder" : "decoder";
  const other = fileAt(at.files, at.path.replace(new RegExp(`${half}(?!.*${half})`, "i"), HALVES[half]));
  if (other.path === at.path || !(await hasRegularFile(other, other.path))) {
    const reason = `is the ${half} of a tiny autoencoder; its ${HALVES[half]} must lie beside it, under the same name with "${HALVES[half]}" in it`;
    throw new WeightsError("weights-not-found", reason, { file: at.path });
  }
  const otherFile = await openTensorFile(other);
  const otherNames = [...otherFile.names()];
  await otherFile.close();
  return async () => joinedSets([await mappedFile(at, names, half), await mappedFile(other, otherNames, HALVES[half])]);
}

async function mappedFile(at: FileAt, names: readonly string[], half?: Half): Promise<TensorSet> {
  const map: TensorMap = new Map([...tinyNames(names, half)].map(([own, from]) => [own, { from }]));
  return mappedTensors(await openTensorFile(at), map);
}

async function shapesOf(open: () => Promise<TensorSet>): Promise<Shapes> {
  const set = await open();
  try {
    return new Map(Array.from(set.names(), (name) => [name, set.get(name)!.shape]));
  } finally {
    await set.close();
  }
}

function nothing({ path }: FileAt): ModelFiles {
  return memoryFiles({}, nameOf(path));
}
