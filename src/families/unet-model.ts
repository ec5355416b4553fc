/** A model whose network is a UNet, with CLIP text encoders and an autoencoder: Stable Diffusion 1, 2, XL, LCM. */

import type { PictureCoder } from "../diffusion/latents.ts";
import type { FamilyModel } from "../diffusion/model.ts";
import type { PipelineRequest } from "../diffusion/request.ts";
import { isSchedulerClass } from "../diffusion/schedulers/create-schedule.ts";
import { createRunSchedule } from "../diffusion/schedulers/run-schedule.ts";
import { Recorder } from "../graph/recorder.ts";
import type { ComponentSpec } from "../memory/component.ts";
import { type Autoencoder, autoencoder } from "../models/autoencoder.ts";
import { ModelConfigError } from "../models/config.ts";
import { parseUnetConfig, type UnetConfig } from "../models/unet-config.ts";
import type { Component, ModelDirectory } from "../weights/model-directory.ts";
import { openAutoencoder } from "./checkpoint/open-autoencoder.ts";
import {
  ClipText,
  type HiddenState,
  type PromptText,
  type Reading,
  required,
  type TextConditioning,
  zeroConditioning,
} from "./clip-text.ts";
import { openControl } from "./control/open-control.ts";
import { distilledRun, type UsualRun } from "./distilled.ts";
import type { OpenOptions } from "./family.ts";
import { type LatentRgb, latentRgbOf } from "./latent-rgb.ts";
import { LARGEST_SIDE, readModelFolder } from "./model-folder.ts";
import { isInpainting, type UnetConditioning, UnetStep } from "./unet-step.ts";

/** The differences between these families. */
export interface UnetTraits {
  readonly family: string;
  /** Places of its text encoders. */
  readonly textEncoders: readonly string[];
  /** Which of their states condition the UNet. */
  readonly hidden: HiddenState;
  /** An absent negative prompt means zeros rather than the empty prompt. */
  readonly zerosForNoPrompt: boolean;
  /** Values for requests that leave them out. `latentSide` is for a UNet that names no sample size. */
  readonly defaults: { readonly steps: number; readonly guidanceScale: number; readonly latentSide: number };
  /** The linear map of its usual autoencoder. */
  readonly latentRgb?: LatentRgb;
  /** Image-to-image with LCM's scheduler spaces all of its steps within the strength, as the reference's pipeline does. */
  readonly spacesStepsWithinStrength?: boolean;
}

/** @throws ModelConfigError, TokenizerError, SchedulerError, WeightsError naming the file at fault */
export async function openUnetModel(
  directory: ModelDirectory,
  { tinyAutoencoder }: OpenOptions,
  traits: UnetTraits,
): Promise<FamilyModel<UnetConditioning>> {
  const scheduler = required(directory, "scheduler");
  const config = parseUnetConfig(required(directory, "unet").config);
  const vae = coderOf("vae", required(directory, "vae"));
  const { latentChannels, downscale, scalingFactor } = vae.autoencoder;
  const tiny = tinyAutoencoder
    ? coderOf("tiny_vae", await openAutoencoder(tinyAutoencoder, { name: "tiny_vae", scalingFactor }))
    : undefined;
  checkTiny(tiny, latentChannels);
  checkInputs(config, latentChannels);
  if (latentChannels !== config.out_channels) {
    const reason = `is ${config.out_channels}, but the vae has ${latentChannels} latent channels`;
    throw new ModelConfigError("unet", "out_channels", reason);
  }
  const usual = { ...traits.defaults, ...distilledOf(directory, config), side: sideOf(config, traits, downscale) };
  const described = await readModelFolder(directory.files, traits.family, usual, scheduler.config);
  const text = await ClipText.open(directory, traits.textEncoders, { hidden: traits.hidden, words: described.words });
  checkWidths(config, text);
  const step = new UnetStep(config, text.tokens, text.pooledWidth, (request) => {
    const texts = request.guidanceScale > 1 ? [promptOf(request), negativeOf(request)] : [promptOf(request)];
    return text.chunkCount(texts, readingOf(request));
  });
  const linear = await latentRgbOf(directory.files, latentChannels, traits.latentRgb);
  // A configuration that cannot make the model's own schedule is refused here, not at the first request. A scheduler that
  // we do not have is no reason to refuse the model: a request may name another.
  const { spacesStepsWithinStrength, family } = traits;
  const aligned = family === "stable-diffusion-xl" ? "sdxl" : "sd";
  const schedule = createRunSchedule(scheduler, { spacesStepsWithinStrength, aligned });
  if (isSchedulerClass(scheduler.className)) schedule(described.facts.defaults, downscale);
  return {
    facts: { ...described.facts, ...(directory.description && { description: directory.description }) },
    fewStep: described.fewStep,
    large: described.large,
    components: [
      ...text.components,
      { id: "unet", parameters: step.parameters(), files: required(directory, "unet") },
      vae.spec,
      ...(tiny ? [tiny.spec] : []),
    ],
    latent: { channels: latentChannels, downscale },
    step,
    picture: { full: vae, tiny, linear },
    encoders: text.plans,
    resolve: { layersPerBlock: config.layers_per_block },
    schedule: (request) => schedule(request, downscale),
    openControl: (source, id, imageEncoders = []) =>
      openControl(source, id, { unet: config, latent: { channels: latentChannels, downscale }, imageEncoders }),
    async encode(request, shape, encoders) {
      const { branches, tokens } = shape;
      const chunks = (tokens as number) / text.tokens;
      const read = (words: PromptText, reading: Reading): Promise<TextConditioning> => {
        const make = async () => text.encode(words, reading, await encoders.plans(text.plansFor(reading)), chunks);
        return encoders.remember(conditioningKey(words, reading, chunks), make);
      };
      const positive = await read(promptOf(request), readingOf(request));
      const control = await step.controls.encode(request, shape, encoders);
      if (branches === 1) return { branches: [positive], request, control };
      const words = negativeOf(request);
      const isEmpty = words.prompt === "" && (words.second ?? "") === "";
      const isZero = isEmpty && (request.zeroNegativePrompt ?? traits.zerosForNoPrompt);
      const negative = isZero ? zeroConditioning(positive) : await read(words, negativeReadingOf(request));
      return { branches: [negative, positive], request, control };
    },
    countTokens: (prompt, syntax) => text.countTokens(prompt, syntax),
    promptWarnings: (prompt, kind, reading = {}) => text.warnings(prompt, kind, readingOf(reading)),
  };
}

type Words = Partial<PipelineRequest>;

function promptOf({ prompt = "", prompt2 }: Words): PromptText {
  return { prompt, second: prompt2 };
}

function negativeOf({ negativePrompt = "", negativePrompt2 }: Words): PromptText {
  return { prompt: negativePrompt, second: negativePrompt2 };
}

function readingOf({ promptSyntax = "plain", clipSkip = 0, embeddings = [] }: Words): Reading {
  return { syntax: promptSyntax, clipSkip, embeddings };
}

/** diffusers leaves the negative prompt's layers alone; the web UI, whose syntax the weighted one is, does not. */
function negativeReadingOf(request: Words): Reading {
  const reading = readingOf(request);
  return reading.syntax === "plain" ? { ...reading, clipSkip: 0 } : reading;
}

/** All that a prompt's conditioning depends on beside the weights. */
function conditioningKey({ prompt, second }: PromptText, reading: Reading, chunks: number): (string | number)[] {
  const { syntax, clipSkip, embeddings } = reading;
  const isUsual = second === undefined && syntax === "plain" && clipSkip === 0 && embeddings.length === 0;
  if (isUsual) return [prompt];
  return [
    prompt,
    second ?? prompt,
    syntax,
    clipSkip,
    chunks,
    ...embeddings.map(({ name, digest }) => `${name} ${digest}`),
  ];
}

/** The usual run of a checkpoint of few steps, if it is one. */
function distilledOf(directory: ModelDirectory, config: UnetConfig): UsualRun | undefined {
  const [scheduler, unet] = [required(directory, "scheduler"), required(directory, "unet")];
  const names = [directory.files.name, directory.nameOrPath, unet.config._name_or_path].filter(isText);
  return distilledRun({ names, scheduler, embedsGuidance: Boolean(config.time_cond_proj_dim) });
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

/** @throws ModelConfigError for a tiny autoencoder of other latents */
function checkTiny(tiny: LoadableCoder | undefined, latentChannels: number): void {
  const channels = tiny?.autoencoder.latentChannels ?? latentChannels;
  if (channels === latentChannels) return;
  throw new ModelConfigError(
    "tiny_vae",
    "latent_channels",
    `is ${channels}, and the model's latents have ${latentChannels}`,
  );
}

interface LoadableCoder extends PictureCoder {
  readonly spec: ComponentSpec;
}

function coderOf(id: string, files: Component): LoadableCoder {
  const coder = autoencoder(files);
  return { component: id, autoencoder: coder, spec: { id, parameters: coderParameters(coder), files } };
}

/** An autoencoder's parameters do not depend on the picture's size. */
function coderParameters(coder: Autoencoder) {
  const g = new Recorder();
  coder.decode(g, g.input("latents", [1, 8, 8, coder.latentChannels]));
  coder.encode(g, g.input("picture", [1, 8 * coder.downscale, 8 * coder.downscale, 3]));
  return [...g.parameters.values()];
}

/** Pixels of the side of the pictures that the UNet was made for. */
function sideOf({ sample_size: size }: UnetConfig, { defaults }: UnetTraits, downscale: number): number {
  const side = (typeof size === "number" ? size : defaults.latentSide) * downscale;
  if (side <= LARGEST_SIDE) return side;
  const reason = `makes pictures of ${side} pixels a side, and ${LARGEST_SIDE} is the most`;
  throw new ModelConfigError("unet", "sample_size", reason);
}

/** Kinds of UNets that read more than the latents, by the channels beside them, where latents have 4. */
const FURTHER_INPUTS: Readonly<Record<number, string>> = {
  1: "a depth UNet (latents and a depth map)",
  3: "an upscaler's UNet (latents and a small picture)",
  4: "an InstructPix2Pix UNet (latents and those of the picture to edit)",
};

/** @throws ModelConfigError for a UNet that reads more than latents, which its pipeline class is not made for */
function checkInputs(config: UnetConfig, latentChannels: number): void {
  const { in_channels: inputs } = config;
  if (inputs === latentChannels || isInpainting(config)) return;
  const kind = latentChannels === 4 ? FURTHER_INPUTS[inputs - latentChannels] : undefined;
  const which = kind === undefined ? "" : `: ${kind}, which is not supported`;
  const reason = `is ${inputs}, and the vae has ${latentChannels} latent channels${which}`;
  throw new ModelConfigError("unet", "in_channels", reason);
}

function checkWidths(config: UnetConfig, text: ClipText): void {
  if (text.width !== config.cross_attention_dim) {
    const reason = `is ${config.cross_attention_dim}, but the text encoders give ${text.width}`;
    throw new ModelConfigError("unet", "cross_attention_dim", reason);
  }
}
