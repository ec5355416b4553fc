/**
 * `txt2img` and `img2img` of AUTOMATIC1111's web UI as requests of ours.
 *
 * Fields, defaults and their meaning are those of the web UI's API (https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/API).
 * As there, unknown fields are ignored, null is a field that was left out, prompts are weighted, and picture k of a request
 * has the k-th seed after the first (the k-th variation seed, if there is a variation), so each is a run of its own.
 */
import { randomInt } from "node:crypto";
import { z } from "zod";
import { Base64Text } from "../../src/engine/base64-text.ts";
import { RequestError, refuseIssues } from "../../src/engine/errors.ts";
import { type GenerationRequest, LIMITS } from "../../src/engine/request.ts";
import { fieldsOf } from "../../src/engine/request-fields.ts";
import { parseRemoteGeneration } from "../../src/engine/request-parsing.ts";
import { spacesLevels, spacingNamed } from "../../src/engine/schedulers.ts";
import { requestIssues } from "../../src/faults/request-issues.ts";
import type { PictureFormat } from "../../src/image/encode.ts";
import { knownFields } from "./lax.ts";
import { hasOtherVae, type Options } from "./options.ts";
import { refuseScripts } from "./scripts.ts";

const text = z.string().max(LIMITS.promptCharacters).default("");
/** -1: any. A text, where a number would lose its last digits. */
const seed = z.union([z.int().min(-1), z.string().regex(/^(-1|\d{0,20})$/)]).default(-1);
const side = z.int().min(LIMITS.minSide).max(LIMITS.maxSide).default(512);
const count = z.int().min(1).max(LIMITS.images).default(1);

const shared = {
  prompt: text,
  negative_prompt: text,
  /** There are no styles here: a warning says so. */
  styles: z.array(z.string().max(1024)).max(256).default([]),
  seed,
  subseed: seed,
  subseed_strength: z.number().min(0).max(1).default(0),
  seed_resize_from_h: z.int().min(-1).max(LIMITS.maxSide).default(-1),
  seed_resize_from_w: z.int().min(-1).max(LIMITS.maxSide).default(-1),
  sampler_name: z.string().max(64).optional(),
  /** An older name of `sampler_name`. */
  sampler_index: z.string().max(64).default("Euler"),
  scheduler: z.string().max(64).default("Automatic"),
  batch_size: count,
  n_iter: count,
  steps: z.int().min(1).max(LIMITS.steps).default(50),
  cfg_scale: z.number().min(0).max(LIMITS.guidanceScale).default(7),
  width: side,
  height: side,
  eta: z.number().min(0).max(1).optional(),
  restore_faces: z.boolean().default(false),
  tiling: z.boolean().default(false),
  enable_hr: z.boolean().default(false),
  refiner_checkpoint: z.string().max(1024).optional(),
  s_churn: z.number().default(0),
  script_name: z.string().max(1024).optional(),
  alwayson_scripts: z.record(z.string(), z.unknown()).default({}),
  override_settings: z.record(z.string(), z.unknown()).default({}),
  override_settings_restore_afterwards: z.boolean().default(true),
  send_images: z.boolean().default(true),
  /** Nothing is saved here, whatever it says. */
  save_images: z.boolean().default(false),
};

type PictureField = string | Base64Text;
const picture = z.custom<PictureField>((value) => typeof value === "string" || value instanceof Base64Text, {
  error: "must be a picture: a data URI, or its base64 alone",
});

/** The body of `POST /sdapi/v1/txt2img`. */
export const txt2imgSchema = z.object({ ...shared, denoising_strength: z.number().optional() });

/** The body of `POST /sdapi/v1/img2img`. */
export const img2imgSchema = z.object({
  ...shared,
  /** The first is used. */
  init_images: z.array(picture).min(1, "must hold a picture").max(LIMITS.images),
  denoising_strength: z.number().gt(0).max(1).default(0.75),
  /** 0: the picture is brought to the size as it is. */
  resize_mode: z.int().min(0).max(3).default(0),
  /** White is drawn anew. It has the size of the picture. */
  mask: picture.optional(),
  mask_blur: z.number().min(0).max(LIMITS.maskBlur).default(4),
  /** 1: black is drawn anew. */
  inpainting_mask_invert: z.int().min(0).max(1).default(0),
  /** Only the masked part is drawn, at the full size, and pasted back. */
  inpaint_full_res: z.boolean().default(true),
  inpaint_full_res_padding: z.int().min(0).max(LIMITS.cropPadding).default(0),
  /** 1: the picture under the mask is what the steps begin with. */
  inpainting_fill: z.int().min(0).max(3).default(0),
  include_init_images: z.boolean().default(false),
});

export type Fields = z.output<typeof txt2imgSchema> &
  Partial<Omit<z.output<typeof img2imgSchema>, keyof typeof shared>>;

/** A request to run, and how its answer is to look. */
export interface Processing {
  /** With every default, as the answer repeats them. */
  readonly fields: Fields;
  /** One request for each picture, in iterations that are run one after the other. */
  readonly iterations: readonly (readonly GenerationRequest[])[];
  readonly seeds: readonly bigint[];
  readonly subseeds: readonly bigint[];
  readonly look: { readonly format: PictureFormat; readonly quality: number };
  readonly options: Options;
  readonly warnings: readonly string[];
}

/** A seed that the web UI could have drawn. */
const randomSeed = () => BigInt(randomInt(2 ** 32 - 1));
const FORMATS = { png: "png", jpg: "jpeg", jpeg: "jpeg", webp: "webp" } as const;
const PICTURES: ReadonlySet<string> = new Set(["init_images", "mask"]);
const KINDS = {
  txt2img: { schema: txt2imgSchema, known: fieldsOf(txt2imgSchema) },
  img2img: { schema: img2imgSchema, known: fieldsOf(img2imgSchema) },
};

/**
 * Checks the fields of a request.
 * @throws RequestError naming every field at fault
 */
export function fieldsFrom(raw: unknown, kind: "txt2img" | "img2img"): Fields {
  const { schema, known } = KINDS[kind];
  const parsed = schema.safeParse(knownFields(raw, known, PICTURES), { reportInput: true });
  if (!parsed.success) refuseIssues(requestIssues(parsed.error));
  const fields: Fields = parsed.data!;
  refuseScripts(fields);
  if (fields.batch_size * fields.n_iter > LIMITS.images) {
    throw new RequestError("n_iter", `batch_size times n_iter must be at most ${LIMITS.images}`);
  }
  return fields;
}

/** @throws RequestError */
export function processingOf(fields: Fields, options: Options): Processing {
  const { batch_size: size, n_iter } = fields;
  const places = Array.from({ length: size * n_iter }, (_, place) => BigInt(place));
  const isVaried = fields.subseed_strength > 0;
  const [first, firstSubseed] = [firstSeed(fields.seed), firstSeed(fields.subseed)];
  const seeds = places.map((place) => (isVaried ? first : first + place));
  const subseeds = places.map((place) => firstSubseed + place);
  const warnings: string[] = [];
  const shape = sizeOf(fields, warnings);
  const common = {
    prompt: fields.prompt,
    negative_prompt: fields.negative_prompt,
    prompt_syntax: "weighted",
    clip_skip: options.CLIP_stop_at_last_layers - 1,
    ...shape,
    num_inference_steps: fields.steps,
    guidance_scale: fields.cfg_scale,
    ...samplerOf(fields, warnings),
    eta: fields.eta,
    generator: options.randn_source === "CPU" ? "cpu" : "cuda",
    subseed_strength: fields.subseed_strength,
    ...resizedSeed(fields),
    ...startOf(fields, warnings),
    preview_every: Math.max(0, options.show_progress_every_n_steps),
    output_format: FORMATS[options.samples_format],
    embed_metadata: true,
    // Fields that are not here and would change the picture: the result warns of those that ask for something.
    ...unsupported(fields),
  };
  if (hasOtherVae(options)) warnings.push(`sd_vae was ignored: the model's own is taken.`);
  const requests = places.map((_, place) =>
    parseRemoteGeneration({
      ...common,
      seed: String(seeds[place]),
      ...(isVaried && { subseed: String(subseeds[place]) }),
    }),
  );
  return {
    fields: { ...fields, ...shape },
    iterations: Array.from({ length: n_iter }, (_, turn) => requests.slice(turn * size, (turn + 1) * size)),
    seeds,
    subseeds,
    look: { format: FORMATS[options.samples_format], quality: options.jpeg_quality },
    options,
    warnings,
  };
}

function firstSeed(value: Fields["seed"]): bigint {
  return value === -1 || value === "-1" || value === "" ? randomSeed() : BigInt(value);
}

/** Sides as the web UI cuts them: to whole latents. */
function sizeOf({ width, height }: Fields, warnings: string[]) {
  const cut = (pixels: number) => pixels - (pixels % LIMITS.sideMultiple);
  const size = { width: cut(width), height: cut(height) };
  if (size.width !== width || size.height !== height) {
    warnings.push(`The size ${width}x${height} was cut to ${size.width}x${size.height}: sides are multiples of 8.`);
  }
  return size;
}

function samplerOf({ sampler_name, sampler_index, scheduler }: Fields, warnings: string[]) {
  const name = sampler_name || sampler_index;
  const spacing = spacingNamed(scheduler);
  if (spacing === undefined) {
    throw new RequestError(
      "sigma_schedule",
      `'${scheduler}' is no scheduler of this server; /sdapi/v1/schedulers lists them`,
    );
  }
  if (spacing === "own" || spacesLevels(name))
    return { scheduler: name, ...(spacing !== "own" && { sigma_schedule: spacing }) };
  // So does the web UI.
  warnings.push(`The scheduler '${scheduler}' was ignored: ${name} has its own.`);
  return { scheduler: name };
}

function resizedSeed({ seed_resize_from_h: height, seed_resize_from_w: width }: Fields) {
  return height > 0 && width > 0 ? { seed_resize_from: [height, width] } : {};
}

function startOf(fields: Fields, warnings: string[]) {
  const { init_images, denoising_strength, mask } = fields;
  if (init_images === undefined) return {};
  if (init_images.length > 1) {
    warnings.push(`The first of ${init_images.length} init_images was used: several cannot be combined here.`);
  }
  return { image: init_images[0], strength: denoising_strength, ...(mask && maskOf(fields, warnings)) };
}

function maskOf(fields: Fields, warnings: string[]) {
  const { mask, mask_blur, inpainting_mask_invert, inpaint_full_res, inpaint_full_res_padding, inpainting_fill } =
    fields;
  if (inpainting_fill !== 1) {
    warnings.push(`inpainting_fill ${inpainting_fill} was ignored: it is 1 here, the picture itself under the mask.`);
  }
  return {
    mask,
    mask_blur,
    mask_invert: inpainting_mask_invert === 1,
    ...(inpaint_full_res && { padding_mask_crop: inpaint_full_res_padding }),
  };
}

function unsupported({ styles, restore_faces, tiling, enable_hr, refiner_checkpoint, s_churn, resize_mode }: Fields) {
  const refiner = refiner_checkpoint === "None" ? "" : refiner_checkpoint;
  return { styles, restore_faces, tiling, enable_hr, refiner_checkpoint: refiner, s_churn, resize_mode };
}
