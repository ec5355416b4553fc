/** From the files of a ControlNet or T2I-Adapter to a part of a UNet's step, if it is made for that UNet. */

import type { ControlNetwork } from "../../diffusion/control.ts";
import { controlDownscale, parseControlNetConfig } from "../../models/controlnet.ts";
import { featureChannels, parseT2iAdapterConfig, type T2iAdapterConfig } from "../../models/t2i-adapter.ts";
import type { UnetConfig } from "../../models/unet-config.ts";
import type { FileAt, ModelFiles } from "../../platform/model-files.ts";
import { WeightsError } from "../../weights/errors.ts";
import { type ControlFile, IP_ADAPTER, openControlFile, T2I_ADAPTER, UNION } from "./control-file.ts";
import type { ControlledModel } from "./controlled-model.ts";
import { ControlNetPart } from "./controlnet-part.ts";
import { openIpAdapter } from "./ip-adapter-file.ts";
import { T2iAdapterPart } from "./t2i-part.ts";

/** Models by the width of the text that their UNet reads. */
const MODELS: Readonly<Record<number, string>> = {
  768: "Stable Diffusion 1",
  1024: "Stable Diffusion 2",
  1280: "SDXL's refiner",
  2048: "Stable Diffusion XL",
};

/**
 * @param id names the network among all that are opened
 * @throws WeightsError, ModelConfigError: it is no such network, or one for another kind of model
 */
export async function openControl(
  source: ModelFiles | FileAt | string,
  id: string,
  model: ControlledModel,
): Promise<ControlNetwork> {
  const file = await openControlFile(source, model.unet);
  if (file.className === IP_ADAPTER) return openIpAdapter(file, id, model);
  if (file.className === T2I_ADAPTER) {
    const config = parseT2iAdapterConfig(file.name, file.config);
    checkAdapter(file, config, model);
    return new T2iAdapterPart(id, config, file);
  }
  const config = parseControlNetConfig(file.name, file.config, file.className === UNION);
  checkCopy(file, config.unet, model);
  if (controlDownscale(config) !== model.latent.downscale) {
    throw unfit(
      file,
      `reads ${controlDownscale(config)} pixels a side for one latent, and this model has ${model.latent.downscale}`,
    );
  }
  return new ControlNetPart(id, config, file);
}

/** The fields in which a ControlNet must be like the UNet that it adds to. */
const ALIKE = [
  "cross_attention_dim",
  "block_out_channels",
  "layers_per_block",
  "mid_block_type",
  "addition_embed_type",
  "addition_time_embed_dim",
  "projection_class_embeddings_input_dim",
  "flip_sin_to_cos",
  "freq_shift",
] as const satisfies readonly (keyof UnetConfig)[];

function checkCopy(file: ControlFile, own: UnetConfig, { unet, latent }: ControlledModel): void {
  if (own.in_channels !== latent.channels) {
    throw unfit(file, `reads ${own.in_channels} channels, and this model's latents have ${latent.channels}`);
  }
  for (const field of ALIKE) {
    if (JSON.stringify(own[field] ?? null) === JSON.stringify(unet[field] ?? null)) continue;
    const [mine, model] = [MODELS[own.cross_attention_dim], MODELS[unet.cross_attention_dim]];
    if (mine !== undefined && model !== undefined && mine !== model) {
      throw unfit(file, `is a ControlNet for ${mine}, and this model is ${model}`);
    }
    const [is, wanted] = [own[field], unet[field]].map((value) => JSON.stringify(value ?? null));
    throw unfit(
      file,
      `is a ControlNet for another kind of model: its ${field} is ${is}, and this model's is ${wanted}`,
    );
  }
}

function checkAdapter(file: ControlFile, config: T2iAdapterConfig, { unet, latent }: ControlledModel): void {
  const channels = featureChannels(config);
  const levels = unet.block_out_channels;
  const isXl = config.adapter_type === "full_adapter_xl";
  const wanted = isXl ? [...levels, levels.at(-1)!] : levels;
  const fits = channels.length === wanted.length && channels.every((count, level) => count === wanted[level]);
  const factor = isXl ? latent.downscale * 2 : latent.downscale;
  if (fits && config.downscale_factor === factor) return;
  const reason = `is a T2I-Adapter for another kind of model: its features have ${channels.join(", ")} channels from ${config.downscale_factor} pixels on`;
  throw unfit(file, `${reason}, and this model's levels ${levels.join(", ")} from ${latent.downscale} on`);
}

function unfit({ name }: ControlFile, reason: string): WeightsError {
  return new WeightsError("model-class", reason, { file: name });
}
