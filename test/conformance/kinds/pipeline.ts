/**
 * Whole runs: the product's own pipeline on the case's requests, and everything that the reference tells of them, from token
 * ids to uint8 pixels. Values that the pipeline does not give away are read from its plans (`watched-model.ts`).
 */

import { join } from "node:path";
import { recordDecoder, writeDecoderScale } from "../../../src/diffusion/latents.ts";
import { cpuGenerator } from "../../../src/diffusion/noise.ts";
import type { PipelineRequest, SchedulerChoice } from "../../../src/diffusion/request.ts";
import { generate } from "../../../src/diffusion/run.ts";
import { createSchedule, img2imgStart } from "../../../src/diffusion/schedulers/create-schedule.ts";
import { loadModel } from "../../../src/engine/load-model.ts";
import type { TextConditioning } from "../../../src/families/clip-text.ts";
import { compile } from "../../../src/graph/plan.ts";
import { parseUnetConfig, type UnetConfig } from "../../../src/models/unet-config.ts";
import { timestepSinusoids } from "../../../src/models/unet-time.ts";
import { openModelDirectory } from "../../../src/weights/model-directory.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { channelsFirst, channelsLast } from "../tensors.ts";
import { type Watched, watch } from "../watched-model.ts";
import { controlsOf } from "./control.ts";
import { referencesOf } from "./ip-adapter.ts";
import { type Described, pipelineRequest, type RunFacts } from "./pipeline-request.ts";

export const pipelineKind: Kind = {
  name: "pipeline",
  recognises: ({ facts, expected }) =>
    typeof facts.runs === "object" && [...expected.keys()].some((name) => name.endsWith("latents_after_step")),
  async run(run) {
    const runs = run.folder.facts.runs as Record<string, RunFacts>;
    const models = new Map<string, WatchedFolder>();
    try {
      for (const [name, facts] of Object.entries(runs)) {
        await run.group(name, async () => {
          const folder = join(run.folder.path, facts.model ?? modelOf(run.folder.facts) ?? ".");
          const known = models.get(folder);
          const watched = known ?? (await openWatched(run, folder));
          models.set(folder, watched);
          watched.clear();
          await compareRun(run, watched, name, facts);
        });
      }
    } finally {
      for (const { model } of models.values()) model.memory.destroy();
    }
  },
};

/** The model that a case's runs share, where it is another case's. */
function modelOf({ model, base }: Readonly<Record<string, unknown>>): string | undefined {
  return (model ?? base) as string | undefined;
}

/** A model, and what its folder says of its UNet and scheduler. */
interface WatchedFolder extends Watched {
  readonly unet: UnetConfig;
  readonly scheduler: Required<Pick<SchedulerChoice, "className" | "config">>;
}

async function openWatched({ bench }: CaseRun, folder: string): Promise<WatchedFolder> {
  const { storage, activations } = bench;
  const directory = await openModelDirectory(folder);
  const { className, config } = directory.component("scheduler")!;
  const watched = watch(await loadModel(bench.gpu, folder, { precision: storage, activations, choose: bench.choose }));
  const unet = parseUnetConfig(directory.component("unet")!.config);
  return Object.assign(watched, { unet, scheduler: { className, config } });
}

/** Latents of one picture or more. */
interface LatentShape {
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

interface StepResult {
  /** `[n, c, h, w]` each; the model's output has a part for each branch of guidance. */
  readonly latents: Float64Array;
  readonly model: Float64Array;
  readonly denoised: Float64Array;
}

async function compareRun(run: CaseRun, watched: WatchedFolder, name: string, facts: RunFacts): Promise<void> {
  // Tensors of the run `main` have no prefix; where a run has none of its own (the start picture), all share one.
  const inner = run.folder.expected.has(`${name}.run.latents_after_step`) ? `${name}.run.` : `${name}.`;
  const prefix = name === "main" ? "" : inner;
  const described: Described = {
    init: run.optional("init_image_u8"),
    noise: run.optional(`${prefix}init_noise`),
    drawn: run.optional(`${prefix}draw0`) ?? (facts.seed === undefined ? run.optional(`${prefix}noise`) : undefined),
  };
  const request = {
    ...pipelineRequest(await withScheduler(run, facts), described),
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
  stepTensors(finished);
  await picture(finished);
}

/** A scheduler that is named by a folder of the case, read. */
async function withScheduler({ folder }: CaseRun, facts: RunFacts): Promise<RunFacts> {
  const { scheduler } = facts;
  if (typeof scheduler !== "string" || !scheduler.endsWith("/")) return facts;
  const text = await folder.readText(`${scheduler}scheduler_config.json`);
  return { ...facts, scheduler: JSON.parse(text) as Record<string, unknown> };
}

async function readStep(watched: Watched, shape: LatentShape, latents: Float32Array): Promise<StepResult> {
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
  const { initNoiseSigma } = scheduleOf(watched, request);
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

function scheduleOf({ scheduler }: WatchedFolder, request: PipelineRequest) {
  const { className, config = scheduler.config } = request.scheduler ?? scheduler;
  return createSchedule(className, config, { steps: request.steps, eta: request.eta });
}

/** The timesteps that were run, as the schedule has them and as the UNet was told them. */
function timesteps({ run, watched, name, request, has, check, input }: Finished): void {
  const whole = scheduleOf(watched, request);
  const schedule = request.image ? whole.from(img2imgStart(whole, request.strength ?? 1)) : whole;
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
  const [first] = steps;
  check("unet_input0", () => {
    const [row] = watched.writes("unet", "rows");
    const scaled = nchw(watched.start).map((value) => value * row![0]!);
    return Array.from({ length: first!.model.length / scaled.length }, () => scaled).flat();
  });
  check("step_noises", () => watched.writes("unet", "noise").flatMap(nchw), "noise");
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
