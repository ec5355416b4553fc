/**
 * The kind of model in a checkpoint of one file, told by the names and shapes of its tensors, and by its own name where
 * those do not say it.
 */

import { quoted } from "../../platform/quoted.ts";
import { isFloatType, toFloat32 } from "../../weights/element-types.ts";
import { WeightsError } from "../../weights/errors.ts";
import type { TensorFile } from "../../weights/tensor-file.ts";
import { kindOfTensors } from "../../weights/tensor-kind.ts";
import type { TensorEntry } from "../../weights/tensor-set.ts";
import { withoutPrefix } from "./names.ts";

export type CheckpointFamily = "sd1" | "sd2" | "sdxl" | "sdxl-refiner";

/** Where the parts of a checkpoint begin in its names; undefined for one that it does not have. */
export interface Prefixes {
  readonly unet: string;
  readonly vae: string | undefined;
  /** In transformers' layout. */
  readonly clip: string | undefined;
  readonly openClip: string | undefined;
}

export interface CheckpointKind {
  readonly family: CheckpointFamily;
  readonly prefixes: Prefixes;
  readonly predictsVelocity: boolean;
  /** Its noise reaches a signal of zero (the marker `ztsnr`). */
  readonly hasZeroSignal: boolean;
}

const UNET_PREFIXES = ["model.diffusion_model.", "unet.", "diffusion_model.", ""];
const VAE_PREFIXES = ["first_stage_model.", "vae."];
const CLIP_PREFIXES = [
  "conditioner.embedders.0.transformer.",
  "cond_stage_model.transformer.",
  "cond_stage_model.",
  "text_encoder.",
];
const OPEN_CLIP_PREFIXES = [
  "conditioner.embedders.1.model.",
  "conditioner.embedders.0.model.",
  "cond_stage_model.model.",
];

/** Networks of other families, by a part of their names. */
const OTHERS: readonly (readonly [RegExp, string])[] = [
  [/(?:^|\.)double_blocks\.0\..*distilled|(?:^|\.)distilled_guidance_layer\./, "a Chroma checkpoint"],
  [/(?:^|\.)double_blocks\.0\./, "a FLUX checkpoint"],
  [/(?:^|\.)joint_blocks\.0\./, "a Stable Diffusion 3 checkpoint"],
  [/(?:^|\.)(?:context_refiner|noise_refiner)\.0\./, "a Z-Image or Lumina checkpoint"],
  [/(?:^|\.)transformer_blocks\.0\.(?:txt|img)_mod\./, "a Qwen-Image checkpoint"],
  [/(?:^|\.)blocks\.0\.cross_attn\./, "a PixArt or Wan checkpoint"],
  [/^(?:down_blocks\.0\.0|previewer|effnet)\./, "a Stable Cascade checkpoint"],
  [/(?:^|\.)temporal_|motion_modules\./, "a video checkpoint"],
];

/** Markers of Playground 2.5, whose latents have a mean and a deviation. */
const EDM_MARKERS = ["edm_mean", "edm_std", "edm_vpred.sigma_max"];

/** Names that tell an autoencoder by itself, a text encoder by itself. */
const ALONE: Readonly<Record<string, string>> = {
  LoRA: "is a LoRA, not a model: give it with --lora or put it into lora_dir, beside a model",
  embedding: "is a textual-inversion embedding, not a model",
  "an autoencoder": "is an autoencoder, not a model: give it with --vae, beside a model",
  "a ControlNet": "is a ControlNet, not a model",
  "a text encoder": "is a text encoder, not a model",
};

/**
 * @param name of the file, without its ending
 * @throws WeightsError "model-class" that says what the file is, if it is no such checkpoint
 */
export async function checkpointKind(file: TensorFile, name: string): Promise<CheckpointKind> {
  const names = [...file.names()];
  const refused = (reason: string) => new WeightsError("model-class", reason, { file: file.source });
  const marker = EDM_MARKERS.find((one) => names.includes(one));
  if (marker !== undefined)
    throw refused(`is a checkpoint of Playground 2.5's kind (it has ${quoted(marker)}), which is not supported`);
  const other = OTHERS.find(([pattern]) => names.some((one) => pattern.test(one)));
  if (other !== undefined) throw refused(`is ${other[1]}, which is not supported`);
  const unet = UNET_PREFIXES.find((prefix) => {
    return ["input_blocks.0.0.weight", "conv_in.weight"].some((input) => names.includes(prefix + input));
  });
  const isUnet = unet !== undefined && names.some((one) => /^(?:input|down)_blocks\./.test(one.slice(unet.length)));
  if (!isUnet) {
    const alone = kindOfTensors(names);
    throw refused(
      (alone !== undefined && ALONE[alone]) ||
        `has no UNet of Stable Diffusion: it holds ${alone ?? "weights of an unknown kind"} (its first tensor is ${quoted(names[0] ?? "none")})`,
    );
  }
  const prefixes: Prefixes = {
    unet: unet!,
    vae: VAE_PREFIXES.find((prefix) => withoutPrefix(names, `${prefix}decoder.`).length > 0),
    clip: CLIP_PREFIXES.find((prefix) => {
      return names.some((one) => one.startsWith(prefix) && one.endsWith("embeddings.token_embedding.weight"));
    }),
    openClip: OPEN_CLIP_PREFIXES.find((prefix) => names.includes(`${prefix}token_embedding.weight`)),
  };
  const family = familyOf(file, prefixes);
  return {
    family,
    prefixes,
    predictsVelocity: await predictsVelocity(file, names, family, name),
    hasZeroSignal: names.includes("ztsnr"),
  };
}

/** By the text encoders in the file; without any by the width of the text that the UNet reads. */
function familyOf(file: TensorFile, { unet, clip, openClip }: Prefixes): CheckpointFamily {
  if (openClip === "conditioner.embedders.0.model.") return "sdxl-refiner";
  if (clip === "conditioner.embedders.0.transformer." || openClip === "conditioner.embedders.1.model.") return "sdxl";
  if (openClip !== undefined) return "sd2";
  if (clip !== undefined) return "sd1";
  const keys = [...file.names()].find((name) => name.startsWith(unet) && name.endsWith(".attn2.to_k.weight"));
  const width = keys === undefined ? undefined : file.get(keys)!.shape[1];
  const hasSizes = ["label_emb.0.0.weight", "add_embedding.linear_1.weight"].some((name) => file.get(unet + name));
  if (hasSizes) return width === REFINER_WIDTH ? "sdxl-refiner" : "sdxl";
  return width === SD2_WIDTH ? "sd2" : "sd1";
}

/** Numbers of a token's embedding: OpenCLIP ViT-H's, and ViT-bigG's alone. */
const SD2_WIDTH = 1024;
const REFINER_WIDTH = 1280;

/** Steps of training of `512-base-ema.ckpt`, by which diffusers tells it. */
const SD2_BASE_STEPS = 875_000;
/** Channels of the first level of all published ones, on which the next rule was tried. */
const MODEL_CHANNELS = 320;
/** The standard deviation of the last attention's first bias above which ComfyUI takes Stable Diffusion 2 for a v-model. */
const VELOCITY_DEVIATION = 0.09;

/**
 * No shape says whether the UNet predicts velocities. In this order: the file's own metadata, the marker `v_pred`, its name, and for
 * Stable Diffusion 2, of which both are published, the steps of its training and the spread of a bias.
 */
async function predictsVelocity(
  file: TensorFile,
  names: readonly string[],
  family: CheckpointFamily,
  name: string,
): Promise<boolean> {
  const stated = file.metadata.get("modelspec.predict_key") ?? file.metadata.get("modelspec.prediction_type");
  if (stated !== undefined) return /^v/i.test(stated);
  if (names.includes("v_pred")) return true;
  if (/(?:^|[^a-z])v[-_ ]?pred(?:iction)?(?![a-z])/i.test(name)) return true;
  if (/(?:^|[^a-z])eps(?:ilon)?[-_ ]?pred/i.test(name)) return false;
  if (family !== "sd2") return false;
  if (/512|base|turbo/i.test(name)) return false;
  if (/768/.test(name)) return true;
  const steps = file.get("global_step");
  if (steps !== undefined && (await numberIn(steps)) === SD2_BASE_STEPS) return false;
  const input = file.get("model.diffusion_model.input_blocks.0.0.weight");
  const bias = file.get("model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias");
  if (input?.shape[0] !== MODEL_CHANNELS || bias === undefined || !isFloatType(bias.dtype)) return true;
  const bytes = new Uint8Array(bias.byteLength);
  await bias.read(bytes);
  return deviation(toFloat32(bytes, bias.dtype)) > VELOCITY_DEVIATION;
}

function deviation(values: Float32Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

/** The single number of a tensor; undefined if it has more, or is of another type. */
async function numberIn(entry: TensorEntry): Promise<number | undefined> {
  const bytes = new Uint8Array(Math.min(entry.byteLength, 8));
  if (entry.byteLength > bytes.byteLength) return undefined;
  await entry.read(bytes);
  const view = new DataView(bytes.buffer);
  if (entry.dtype === "I64") return Number(view.getBigInt64(0, true));
  if (entry.dtype === "I32") return view.getInt32(0, true);
  return isFloatType(entry.dtype) ? toFloat32(bytes, entry.dtype)[0] : undefined;
}
