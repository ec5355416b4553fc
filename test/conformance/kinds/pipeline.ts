/**
 * Whole runs: the product's own pipeline on the case's requests, and everything that the reference tells of them, from token
 * ids to uint8 pixels. Values that the pipeline does not give away are read from its plans (`watched-model.ts`).
 */

import { join } from "node:path";
import { type EncoderPicture, recordDecoder, signedRows, writeDecoderScale } from "../../../src/diffusion/latents.ts";
import { latentMask, withoutMasked } from "../../../src/diffusion/mask.ts";
import { cpuGenerator } from "../../../src/diffusion/noise.ts";
import type { PipelineRequest, SchedulerChoice } from "../../../src/diffusion/request.ts";
import { generate } from "../../../src/diffusion/run.ts";
import { loadModel } from "../../../src/engine/load-model.ts";
import type { TextConditioning } from "../../../src/families/clip-text.ts";
import { compile } from "../../../src/graph/plan.ts";
import { parseUnetConfig, type UnetConfig } from "../../../src/models/unet-config.ts";
import { timestepSinusoids } from "../../../src/models/unet-time.ts";
import { folderFiles } from "../../../src/platform/folder-files.ts";
import type { ModelFiles } from "../../../src/platform/model-files.ts";
import { atOnce } from "../../../src/platform/turns.ts";
import { openModelDirectory } from "../../../src/weights/model-directory.ts";
import type { CaseFolder } from "../case-folder.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { channelsFirst, channelsLast, type Tensor } from "../tensors.ts";
import { type Watched, watch } from "../watched-model.ts";
import { controlsOf } from "./control.ts";
import { referencesOf } from "./ip-adapter.ts";
import { type Described, pipelineRequest, type RunFacts, schedulerInWords } from "./pipeline-request.ts";
import { isPromptSchedule } from "./prompt-schedule.ts";

export const pipelineKind: Kind = {
  name: "pipeline",
  recognises: (folder) =>
    typeof folder.facts.runs === "object" &&
    !isPromptSchedule(folder) &&
    [...folder.expected.keys()].some((name) => name.endsWith("latents_after_step")),
  async run(run) {
    const runs = run.folder.facts.runs as Record<string, RunFacts>;
    const models = new Map<string, WatchedFolder>();
    /** The last latents of each run, which others may begin with. */
    const latents: LastLatents = new Map();
    try {
      for (const [name, facts] of Object.entries(runs)) {
        await run.group(name, async () => {
          const files = modelOf(run.folder, facts);
          const known = models.get(files.name);
          const watched = known ?? (await openWatched(run, files));
          models.set(files.name, watched);
          watched.clear();
          const last = await compareRun(run, watched, name, facts, latents);
          latents.set(name, last);
        });
      }
    } finally {
      for (const { model } of models.values()) model.memory.destroy();
    }
  },
};

/**
 * The model of a run: the case's own, another case's, or another case's with the components that this one has in their
 * places. If two share a schedule, the first is the other case's as it is.
 */
export function modelOf(
  { path, components, facts }: CaseFolder,
  run: Pick<RunFacts, "model" | "denoising_end"> = {},
): ModelFiles {
  const other = (run.model ?? facts.model ?? facts.base) as string | undefined;
  if (other === undefined) return folderFiles(path);
  const base = folderFiles(join(path, other));
  const hasOwn = run.model === undefined && components.some(({ name, hasWeights }) => name === "unet" && hasWeights);
  return hasOwn && run.denoising_end === undefined ? over(base, folderFiles(path), components) : base;
}

function over(base: ModelFiles, own: ModelFiles, components: CaseFolder["components"]): ModelFiles {
  const isOwn = (file: string) => components.some(({ name }) => file === name || file.startsWith(`${name}/`));
  return {
    name: own.name,
    list: (folder) => (folder !== undefined && isOwn(folder) ? own : base).list(folder),
    async open(file) {
      if (isOwn(file)) return own.open(file);
      return file === "model_index.json" ? own.open(file).catch(() => base.open(file)) : base.open(file);
    },
  };
}

type LastLatents = Map<string, Tensor>;

/** A model, and what its folder says of its UNet and scheduler. */
export interface WatchedFolder extends Watched {
  readonly unet: UnetConfig;
  readonly scheduler: Required<Pick<SchedulerChoice, "className" | "config">>;
}

export async function openWatched({ bench }: CaseRun, folder: ModelFiles): Promise<WatchedFolder> {
  const { storage, activations } = bench;
  const directory = await openModelDirectory(folder);
  const { className, config } = directory.component("scheduler")!;
  const watched = watch(await loadModel(bench.gpu, folder, { precision: storage, activations, choose: bench.choose }));
  const unet = parseUnetConfig(directory.component("unet")!.config);
  return Object.assign(watched, { unet, scheduler: { className, config } });
}

/** Latents of one picture or more. */
export interface LatentShape {
  readonly images: number;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

/** The results of one run, and how to compare them. */
interface Finished {
  readonly run: CaseRun;
  readonly watched: WatchedFolder;
  readonly name: string;
  readonly request: PipelineRequest;
  readonly shape: LatentShape;
  readonly steps: readonly StepResult[];
  /** RGB, one picture after the other. */
  readonly pictures: readonly number[];
  /** True if the case has this tensor. */
  has(field: string): boolean;
  /** Compares a tensor of the run where the case has it. */
  check(field: string, actual: () => ArrayLike<number>, tolerance?: keyof CaseRun["tolerances"]): void;
  input(field: string): Float64Array;
}

export interface StepResult {
  /** `[n, c, h, w]` each; the model's output has a part for each branch of guidance. */
  readonly latents: Float64Array;
  readonly model: Float64Array;
  readonly denoised: Float64Array;
}

/** @returns the last latents */
async function compareRun(
  run: CaseRun,
  watched: WatchedFolder,
  name: string,
  facts: RunFacts,
  earlier: LastLatents,
): Promise<Tensor> {
  // Tensors of the run `main` have no prefix; where a run has none of its own (the start picture), all share one.
  const inner = run.folder.expected.has(`${name}.run.latents_after_step`) ? `${name}.run.` : `${name}.`;
  const prefix = name === "main" ? "" : inner;
  const draws = [...run.folder.expected.keys()].filter((key) => /^draw\d+$/.test(key.slice(prefix.length)));
  const drawn = draws.filter((key) => key.startsWith(prefix)).map((key) => run.input(key));
  const noise = facts.seed === undefined && drawn.length === 0 ? run.optional(`${prefix}noise`) : undefined;
  if (noise) drawn.push(noise);
  const described: Described = {
    init: run.optional("init_image_u8") ?? run.optional("image_u8"),
    noise: run.optional(`${prefix}init_noise`),
    draws: drawn,
    mask: run.optional("mask_u8"),
    latents: facts.input === undefined ? undefined : earlier.get(/`(\w+)`/.exec(facts.input)![1]!),
  };
  const request = {
    ...pipelineRequest(await withScheduler(run, watched, facts), described),
    controls:
      (await controlsOf(run, watched.model, name, facts)) ??
      (await referencesOf(run, watched.model, watched.unet, name, facts)),
  };
  const vae = watched.model.family.picture.full.autoencoder;
  const shape: LatentShape = {
    images: request.images ?? 1,
    channels: vae.latentChannels,
    height: request.height / vae.downscale,
    width: request.width / vae.downscale,
  };
  const steps: StepResult[] = [];
  let pictures: number[] = [];
  for await (const event of generate(watched.model, request)) {
    if (event.type === "step") steps.push(await readStep(watched, shape, await event.latents()));
    if (event.type === "result")
      pictures = event.pictures.flatMap(({ rgba }) => [...rgba.filter((_, i) => i % 4 !== 3)]);
  }
  const finished: Finished = {
    run,
    watched,
    name,
    request,
    shape,
    steps,
    pictures,
    has: (field) => run.folder.expected.has(prefix + field),
    check(field, actual, tolerance = "pipeline") {
      if (run.folder.expected.has(prefix + field)) {
        run.compare(prefix + field, actual(), run.tolerances[tolerance], { group: name });
      }
    },
    input: (field) => run.input(prefix + field).values,
  };
  textConditions(finished);
  addedConditions(finished);
  await startLatents(finished);
  timesteps(finished);
  masks(finished);
  stepTensors(finished);
  await picture(finished);
  const { images, channels, height, width } = shape;
  return { shape: [images, channels, height, width], values: steps.at(-1)!.latents };
}

/** The mask as the latents and the encoder have it, which all runs of a case share. */
function masks({ run, watched, request }: Finished): void {
  const { image, mask } = request;
  if (!image || !mask) return;
  const shared = (name: string, actual: () => ArrayLike<number>) => {
    if (run.folder.expected.has(name)) run.compare(name, actual(), run.tolerances.network);
  };
  const masked = withoutMasked(image, mask);
  const nchw = (pixels: EncoderPicture) =>
    channelsFirst([1, image.height, image.width, 3], atOnce(signedRows(pixels, 0, image.height)));
  shared("image_pre", () => nchw(image));
  shared("mask_pre", () => masked.without!);
  shared("masked_image", () => nchw(masked));
  shared("mask_latent", () => latentMask(mask, watched.model.family.latent.downscale));
}

/** A scheduler that is named by a folder, read; one that is named by its class and some fields, in words. */
async function withScheduler({ folder }: CaseRun, watched: WatchedFolder, facts: RunFacts): Promise<RunFacts> {
  const { scheduler } = facts;
  if (typeof scheduler !== "string") return facts;
  const [, path] = /^([\w./-]*\/[\w./-]*?)\/?(?: \(.*)?$/.exec(scheduler) ?? [];
  if (path !== undefined) {
    const text = await folder.readText(`${path}/scheduler_config.json`);
    return { ...facts, scheduler: JSON.parse(text) as Record<string, unknown> };
  }
  return { ...facts, scheduler: schedulerInWords(scheduler, watched.scheduler.config) };
}

export async function readStep(watched: Watched, shape: LatentShape, latents: Float32Array): Promise<StepResult> {
  const plan = watched.plan("unet");
  const read = async (name: string) => {
    const values = await plan.read(name);
    const images = (values.length / (shape.height * shape.width * shape.channels)) | 0;
    return channelsFirst([images, shape.height, shape.width, shape.channels], values);
  };
  return { latents: Float64Array.from(latents), model: await read("model"), denoised: await read("denoised") };
}

/** Ids and states of the prompts: as the UNet was given them, negative first. */
function textConditions({ watched, request, check, has }: Finished): void {
  const { prompts } = watched.model.memory.weightSets.base;
  const read = (prompt: string) => prompts.get(JSON.stringify([prompt])) as TextConditioning;
  const suffixes = ["", "_2"];
  for (const [i, suffix] of suffixes.entries()) {
    check(`prompt_ids${suffix}`, () => read(request.prompt).ids[i]!, "exact");
    check(`negative_ids${suffix}`, () => read(request.negativePrompt ?? "").ids[i]!, "exact");
  }
  const rows = watched.rows("unet", "text");
  const half = rows.length / 2;
  const joined = (some: readonly ArrayLike<number>[]) => some.flatMap((row) => Array.from(row));
  const guided = has("negative_embeds");
  check("prompt_embeds", () => joined(guided ? rows.slice(half) : rows));
  check("negative_embeds", () => joined(rows.slice(0, half)));
}

/** The guidance scale's embedding of LCM, the pooled text and sizes of SDXL. */
function addedConditions({ run, watched, name, check, has, input }: Finished): void {
  const config = watched.unet;
  check("guidance_embedding", () => watched.writes("unet", "guidance")[0]!);
  const rows = watched.rows("unet", "added");
  if (rows.length === 0) return;
  const width = config.projection_class_embeddings_input_dim!;
  const sizes = 6 * config.addition_time_embed_dim!;
  const pooled = rows.map((row) => row.subarray(0, width - sizes));
  check("unet_text_embeds", () => pooled.flatMap((row) => [...row]));
  check("pooled", () => pooled.at(-1)!);
  check("negative_pooled", () => pooled[0]!);
  for (const field of ["time_ids", "unet_time_ids"]) {
    if (!has(field)) continue;
    // The pipeline gives the UNet the sinusoids of the sizes, not the sizes.
    const wanted = timestepSinusoids(input(field), config.addition_time_embed_dim!);
    const actual = rows.slice(0, wanted.length / sizes).flatMap((row) => [...row.subarray(width - sizes)]);
    run.equal(name, `${field} (as sinusoids)`, actual, wanted, run.tolerances.network);
  }
}

/** Where the latents begin: noise, or a picture with noise added. */
async function startLatents({ run, watched, request, shape, check, has }: Finished): Promise<void> {
  const start = channelsFirst([shape.images, shape.height, shape.width, shape.channels], watched.start);
  const { initNoiseSigma } = watched.model.family.schedule(request);
  check("init_noise", () => start.map((value) => value / initNoiseSigma), "noise");
  check("noisy_latents", () => start);
  if (!request.image) return;

  const vae = watched.model.family.picture.full.autoencoder;
  const generator = cpuGenerator(request.seed);
  const posterior = generator.randn(shape.channels * shape.height * shape.width);
  check("posterior_noise", () => posterior, "noise");
  const noise = generator.randn(start.length);
  check("noise", () => noise, "noise");
  const { width, height, rgba } = request.image;
  if (has("init_image_u8")) check("init_image_u8", () => rgba.filter((_, i) => i % 4 !== 3), "exact");
  const [pictureWritten] = watched.writes("vae encoder", "picture");
  check("init_image", () => channelsFirst([1, height, width, 3], pictureWritten!));
  const encoded = channelsFirst(
    [1, shape.height, shape.width, 2 * vae.latentChannels],
    await watched.plan("vae encoder").read("encoded"),
  );
  const mean = encoded.subarray(0, encoded.length / 2);
  const logVariance = encoded.slice(encoded.length / 2).map((value) => Math.min(Math.max(value, -30), 20));
  check("vae_mean", () => mean);
  check("vae_logvar", () => logVariance);
  check("init_latents", () =>
    mean.map(
      (value, i) => (value + Math.exp(0.5 * logVariance[i]!) * posterior[i]! - vae.shiftFactor) * vae.scalingFactor,
    ),
  );
  run.optional("init_image_u8");
}

/** The timesteps that were run, as the schedule has them and as the UNet was told them. */
function timesteps({ run, watched, name, request, has, check, input }: Finished): void {
  const schedule = watched.model.family.schedule(request);
  const integers = schedule.timesteps.every(Number.isInteger);
  check("timesteps", () => schedule.timesteps, integers ? "exact" : "scheduler");
  if (!has("timesteps")) return;
  const config = watched.unet;
  const width = config.block_out_channels[0]!;
  const options = { flip: config.flip_sin_to_cos, freqShift: config.freq_shift };
  // Sinusoids are written for many steps at once, beginning with the one that counts as 0; each step says which is its own.
  let written = -1;
  const told = watched.writes("unet", "step").flatMap(([index]) => {
    if (index === 0) written++;
    return [...watched.writes("unet", "timesteps")[written]!.subarray(index! * width, (index! + 1) * width)];
  });
  const wanted = timestepSinusoids(input("timesteps"), width, options);
  run.equal(name, "timesteps (as sinusoids)", told, wanted, run.tolerances.network);
}

function stepTensors({ watched, shape, steps, check }: Finished): void {
  const { images, channels, height, width } = shape;
  const nchw = (values: Float32Array | Uint32Array) => [...channelsFirst([images, height, width, channels], values)];
  check("latents_after_step", () => steps.flatMap((step) => [...step.latents]));
  check("unet_output", () => steps.flatMap((step) => [...step.model]));
  check("denoised_after_step", () => steps.flatMap((step) => [...step.denoised]));
  check("step_noises", () => watched.writes("unet", "noise").flatMap(nchw), "noise");
  check("unet_input0", () => {
    const start = channelsFirst([images, height, width, channels], watched.start);
    const scale = watched.writes("unet", "rows")[0]![0]!;
    const extra = watched.rows("unet", "masked picture");
    const rows = steps[0]!.model.length / start.length;
    return Array.from({ length: rows }, (_, row) => [
      ...start.map((value) => value * scale),
      ...(extra[row] ? nchwOf(extra[row], shape, 1 + channels) : []),
    ]).flat();
  });
  check("unet_input", () => {
    const start = nchw(watched.start);
    const rows = watched.writes("unet", "rows");
    return steps.flatMap((step, index) => {
      const before = index === 0 ? start : [...steps[index - 1]!.latents];
      const scaled = before.map((value) => value * rows[index]![0]!);
      return Array.from({ length: step.model.length / before.length }, () => scaled).flat();
    });
  });
}

function nchwOf(values: Float32Array | Uint32Array, { height, width }: LatentShape, channels: number): Float64Array {
  return channelsFirst([1, height, width, channels], values);
}

async function picture({ run, watched, shape, steps, pictures, check, has }: Finished): Promise<void> {
  const { picture, memory } = { ...watched.model.family, ...watched.model };
  const { autoencoder: vae, component } = picture.full;
  const { images, channels, height, width } = shape;
  const final = steps.at(-1)!.latents;
  check("decoder_input", () => final.map((value) => value / vae.scalingFactor + vae.shiftFactor));
  check("image_u8", () => pictures, "picture");
  if (!has("image_raw") && !has("image")) return;
  const storage = vae.forceUpcast ? "f32" : memory.activations;
  const parameters = memory.weightSets.base.weights(component);
  const recorder = recordDecoder(vae, { height, width, channels }, { keepPicture: true });
  const plan = await compile(run.bench.gpu, recorder, {
    label: "raw decoder",
    storage,
    parameters,
    choose: run.bench.choose,
  });
  writeDecoderScale(plan, vae);
  try {
    const raw: number[] = [];
    const size = final.length / images;
    for (let image = 0; image < images; image++) {
      const values = final.subarray(image * size, (image + 1) * size);
      plan.write("latents", channelsLast({ shape: [1, channels, height, width], values }).values);
      plan.run();
      raw.push(...channelsFirst([1, height * vae.downscale, width * vae.downscale, 3], await plan.read("picture")));
    }
    check("image_raw", () => raw);
    check("image", () => raw.map((value) => Math.min(Math.max(value / 2 + 0.5, 0), 1)));
  } finally {
    plan.destroy();
  }
}
