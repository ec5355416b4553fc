/** The kind of thing that a file of tensors is, told by their names: for messages about files in the wrong place. */

import { parseLoraKey } from "./lora-names.ts";

export type TensorKind =
  | "embedding"
  | "LoRA"
  | "a whole checkpoint"
  | "a ControlNet"
  | "an autoencoder"
  | "a text encoder"
  | "a denoiser";

/** Names of a textual-inversion file: AUTOMATIC1111's, diffusers' (the token itself), SDXL's pair. */
const EMBEDDING = /^(?:emb_params|string_to_(?:param|token)\b.*|<[^<>]+>|clip_[lg]|t5xxl)$/;

const KINDS: readonly (readonly [RegExp, TensorKind])[] = [
  [/^(?:control_model|controlnet_\w+|input_hint_block)\./, "a ControlNet"],
  [/^(?:model\.diffusion_model|first_stage_model|cond_stage_model|conditioner|model_ema)\./, "a whole checkpoint"],
  [/^(?:encoder|decoder|quant_conv|post_quant_conv)\./, "an autoencoder"],
  [/(?:^|\.)text_model\.|^(?:embeddings\.token_embedding|encoder\.layers)\./, "a text encoder"],
  [
    /^(?:down_blocks|up_blocks|mid_block|time_embedding|conv_in|input_blocks|middle_block|double_blocks|transformer_blocks)\./,
    "a denoiser",
  ],
];

/** Names of a file that are looked at. */
const MOST_NAMES = 2000;

/** The kind of a file with tensors of these names; undefined if none of them says it. */
export function kindOfTensors(names: Iterable<string>): TensorKind | undefined {
  const some: string[] = [];
  for (const name of names) {
    if (some.length === MOST_NAMES) break;
    some.push(name);
  }
  if (some.length > 0 && some.every((name) => EMBEDDING.test(name))) return "embedding";
  if (some.some((name) => /lora|\.hada_|\.lokr_/.test(name) && parseLoraKey(name) !== undefined)) return "LoRA";
  return KINDS.find(([pattern]) => some.some((name) => pattern.test(name)))?.[1];
}
