/**
 * A checkpoint of one file as the folder of a model that it would be: components, each with a configuration that follows
 * from shapes and tables, and with the file's tensors under the model's names. Families read it like any folder.
 */

import { memoryFiles } from "../../platform/memory-files.ts";
import type { FileAt, ModelFiles } from "../../platform/model-files.ts";
import { listed } from "../../platform/quoted.ts";
import { clipVocabulary } from "../../text/clip-vocabulary.ts";
import { WeightsError } from "../../weights/errors.ts";
import { mappedTensors, type TensorMap } from "../../weights/mapped-tensors.ts";
import type { ComponentKind } from "../../weights/model-classes.ts";
import type { Component, ModelDirectory } from "../../weights/model-directory.ts";
import { openTensorFile, type TensorFile } from "../../weights/tensor-file.ts";
import { type Config, clipConfig, type Shapes, unetConfig, vaeConfig } from "./configs.ts";
import { type CheckpointKind, checkpointKind } from "./kind.ts";
import { numbersIn, openClipNames, unetNames, vaeNames, withoutPrefix } from "./names.ts";
import { sampleSizeOf, schedulerOf, TRAITS } from "./tables.ts";

/** Values of configurations by component, in place of those that follow from the shapes: `{unet: {norm_num_groups: 8}}`. */
export type KnownConfigs = Readonly<Record<string, Config>>;

export interface CheckpointOptions {
  readonly configs?: KnownConfigs | undefined;
  /** The file needs no autoencoder of its own. */
  readonly hasVae?: boolean | undefined;
}

/** @throws WeightsError, ModelConfigError that says what the file is, and which part of a model it does not have */
export async function openCheckpoint(at: FileAt, options: CheckpointOptions = {}): Promise<ModelDirectory> {
  const file = await openTensorFile(at);
  try {
    const name = nameOf(at.path);
    const kind = await checkpointKind(file, name);
    return await new CheckpointReader(at, file, kind, name, options).directory();
  } finally {
    await file.close();
  }
}

/** A path's last part, without its ending. */
export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1).replace(/\.(?:safetensors|sft|ckpt|pth?|bin|gguf)$/i, "");
}

class CheckpointReader {
  readonly #at: FileAt;
  readonly #file: TensorFile;
  readonly #kind: CheckpointKind;
  readonly #name: string;
  readonly #options: CheckpointOptions;
  readonly #names: readonly string[];
  readonly #components = new Map<string, Component>();

  constructor(at: FileAt, file: TensorFile, kind: CheckpointKind, name: string, options: CheckpointOptions) {
    this.#at = at;
    this.#file = file;
    this.#kind = kind;
    this.#name = name;
    this.#options = options;
    this.#names = [...file.names()];
  }

  async directory(): Promise<ModelDirectory> {
    const { family, prefixes } = this.#kind;
    const traits = TRAITS[family];
    this.#unet();
    if (prefixes.vae !== undefined) this.#vae(prefixes.vae, traits.scalingFactor);
    await this.#texts();
    const scheduler = schedulerOf(this.#kind, this.#name);
    this.#plain("scheduler", "scheduler", scheduler.className, scheduler.config, NO_FILES);
    this.#checkParts();
    return {
      files: { ...NO_FILES, name: this.#name },
      pipelineClass: traits.pipelineClass,
      flags: { force_zeros_for_empty_prompt: traits.zerosForNoPrompt },
      components: this.#components,
      ignored: [],
      component: (name) => this.#components.get(name),
      description: this.#description(),
    };
  }

  #unet(): void {
    const { unet: prefix } = this.#kind.prefixes;
    const map = this.#mapped(unetNames(withoutPrefix(this.#names, prefix).filter(isUnetsOwn)), prefix);
    const config = { ...unetConfig(this.#shapes(map)), sample_size: sampleSizeOf(this.#kind, this.#name) };
    this.#add("unet", "denoiser", "UNet2DConditionModel", config, map);
  }

  #vae(prefix: string, scalingFactor: number): void {
    const map = this.#mapped(vaeNames(withoutPrefix(this.#names, prefix)), prefix);
    const config = { ...vaeConfig(this.#shapes(map)), scaling_factor: scalingFactor };
    this.#add("vae", "autoencoder", "AutoencoderKL", config, map);
  }

  /** The text encoders that the kind has, and their tokenizers. */
  async #texts(): Promise<void> {
    const { family, prefixes } = this.#kind;
    const openPlace = family === "sd2" ? "text_encoder" : "text_encoder_2";
    if (prefixes.clip !== undefined && family !== "sdxl-refiner") {
      const names = withoutPrefix(this.#names, prefixes.clip);
      const map = this.#mapped(new Map(names.map((name) => [name, name])), prefixes.clip);
      this.#encoder("text_encoder", map, { activation: "quick_gelu", withProjection: false });
      await this.#tokenizer("tokenizer", "<|endoftext|>");
    }
    if (prefixes.openClip === undefined) return;
    const prefix = prefixes.openClip;
    const names = withoutPrefix(this.#names, prefix);
    const layers = numbersIn(names, /^transformer\.resblocks\.(\d+)\./).length;
    const isWhole = family !== "sd2";
    const open = openClipNames(names, { layers: isWhole ? layers : layers - 1, withProjection: isWhole });
    const map = new Map([...open].map(([name, origin]) => [name, { ...origin, from: prefix + origin.from }]));
    this.#encoder(openPlace, map, { activation: "gelu", withProjection: isWhole });
    await this.#tokenizer(openPlace.replace("text_encoder", "tokenizer"), "!");
  }

  #encoder(place: string, map: TensorMap, traits: Parameters<typeof clipConfig>[2]): void {
    const config = clipConfig(place, this.#shapes(map), traits);
    const className = traits.withProjection ? "CLIPTextModelWithProjection" : "CLIPTextModel";
    this.#add(place, "text encoder", className, config, map);
  }

  async #tokenizer(place: string, padding: "<|endoftext|>" | "!"): Promise<void> {
    this.#plain(place, "tokenizer", "CLIPTokenizer", {}, await clipVocabulary(padding));
  }

  #mapped(names: ReadonlyMap<string, string>, prefix: string): TensorMap {
    return new Map([...names].map(([name, from]) => [name, { from: prefix + from }]));
  }

  #shapes(map: TensorMap): Shapes {
    const set = mappedTensors(this.#file, map);
    return new Map(Array.from(set.names(), (name) => [name, set.get(name)!.shape]));
  }

  #add(name: string, kind: ComponentKind, className: string, config: Config, map: TensorMap): void {
    const at = this.#at;
    this.#components.set(name, {
      name,
      className,
      kind,
      config: { ...config, ...this.#options.configs?.[name] },
      files: NO_FILES,
      weights: async () => mappedTensors(await openTensorFile(at), map),
    });
  }

  #plain(name: string, kind: "tokenizer" | "scheduler", className: string, config: Config, files: ModelFiles): void {
    const weights = async () => {
      throw new WeightsError("weights-not-found", `a ${kind} has no weights`, { file: name });
    };
    this.#components.set(name, { name, className, kind, config, files, weights });
  }

  /** @throws WeightsError that names the parts of a model that the file does not have */
  #checkParts(): void {
    const { family } = this.#kind;
    const wanted: readonly (readonly [string, string])[] = [
      ...(family === "sdxl-refiner" ? [] : [["text_encoder", "a text encoder"] as const]),
      ...(family.startsWith("sdxl") ? [["text_encoder_2", "the second text encoder"] as const] : []),
      ...(this.#options.hasVae ? [] : [["vae", "a VAE"] as const]),
    ];
    const missing = wanted.filter(([place]) => !this.#components.has(place));
    if (missing.length === 0) return;
    const isVaeAlone = missing.length === 1 && missing[0]![0] === "vae";
    const reason = `is ${this.#description()}, without ${listed(missing.map(([, words]) => words))}`;
    const advice = isVaeAlone
      ? "; give the VAE's file with --vae (setting and option: vae)"
      : "; get the checkpoint that has them, or the model in diffusers layout";
    throw new WeightsError("model-class", reason + advice, { file: this.#file.source });
  }

  /** `Stable Diffusion XL, one file (safetensors, F16), VAE in it` */
  #description(): string {
    const { family, predictsVelocity, prefixes } = this.#kind;
    const inputs = INPUTS[this.#components.get("unet")!.config.in_channels as number];
    const facts = [
      TRAITS[family].title,
      ...(inputs === undefined ? [] : [inputs]),
      ...(predictsVelocity ? ["v-prediction"] : []),
      `one file (${this.#file.format}, ${this.#types()})`,
      ...(prefixes.vae === undefined ? [] : ["VAE in it"]),
    ];
    return facts.join(", ");
  }

  /** The types of the UNet's tensors, the most frequent first. */
  #types(): string {
    const counts = new Map<string, number>();
    for (const name of this.#names) {
      if (!name.startsWith(this.#kind.prefixes.unet)) continue;
      const { storedAs, dtype, byteLength } = this.#file.get(name)!;
      counts.set(storedAs ?? dtype, (counts.get(storedAs ?? dtype) ?? 0) + byteLength);
    }
    return [...counts]
      .sort((a, b) => b[1] - a[1])
      .slice(0, 2)
      .map(([type]) => type)
      .join(" and ");
  }
}

/** Channels that a UNet reads where latents have four. */
const INPUTS: Readonly<Record<number, string>> = { 5: "depth", 7: "upscaler", 8: "InstructPix2Pix", 9: "inpainting" };

/** A UNet without a prefix stands among the other parts of its file. */
function isUnetsOwn(name: string): boolean {
  return !/^(?:first_stage_model|vae|cond_stage_model|conditioner|text_encoders?|model_ema|denoiser)\b/.test(name);
}

const NO_FILES = memoryFiles({}, "checkpoint");
