/** The answers of the web UI's API, and how its routes are described. */
import { z } from "zod";
import type { Base64Text } from "../../src/engine/base64-text.ts";
import type { Answer, Description, NamedSchema } from "../openapi/describe.ts";
import { asciiJson } from "../wire/json-text.ts";
import { a1111ErrorSchema } from "./a1111-error.ts";
import type { Processing } from "./processing.ts";

const ERROR: NamedSchema = { name: "A1111Error", schema: a1111ErrorSchema };
const error = (description: string): Answer => ({ description, schema: ERROR });

export const REFUSALS: Readonly<Record<number, Answer>> = {
  401: error("no valid key or token: Basic, with a key as the password, or as on the other routes"),
  403: error("not with this key, or not from this page"),
  421: error("not under this name"),
};
export const READS: Readonly<Record<number, Answer>> = {
  ...REFUSALS,
  400: error("not JSON"),
  408: error("the body came too slowly while others needed the memory"),
  413: error("too long, or too many values"),
  415: error("compressed: send it without Content-Encoding"),
  422: error("fields at fault, each with its place"),
};
const STARTS: Readonly<Record<number, Answer>> = {
  ...READS,
  429: error("too many requests; Retry-After says when"),
  503: error("the line is full, or the server is restarting; Retry-After says when"),
  504: error("stopped at its deadline"),
};

const IMAGES: NamedSchema = {
  name: "A1111Images",
  schema: z.object({
    images: z.array(z.string()).describe("base64"),
    parameters: z.record(z.string(), z.unknown()).describe("the request with every default"),
    info: z.string().describe("JSON: seeds, prompts, the settings of each picture (`infotexts`)"),
    warnings: z.array(z.string()).optional(),
  }),
};

export function described(summary: string): Description {
  return { tag: "A1111", summary, answers: { 200: { description: "the pictures", schema: IMAGES }, ...STARTS } };
}

export function listed(summary: string, answer: NamedSchema): Description {
  return { tag: "A1111", summary, answers: { 200: { description: "as the web UI's", schema: answer }, ...REFUSALS } };
}

/** A picture of an answer, and its settings. */
export interface Made {
  readonly image: Base64Text;
  readonly infotext: string;
  /** Its place among those of the request. */
  readonly place: number;
}

/** The body of an answer. */
export function imagesAnswer(processing: Processing, made: readonly Made[], warnings: readonly string[]) {
  const { fields } = processing;
  const { init_images, mask, include_init_images, ...rest } = fields;
  const starts = include_init_images === true ? { init_images, mask } : { init_images: null, mask: null };
  const all = [...new Set([...processing.warnings, ...warnings])];
  return {
    images: fields.send_images ? made.map(({ image }) => image) : [],
    parameters: {
      ...rest,
      sampler_name: samplerOf(processing),
      ...(init_images !== undefined && { ...starts, include_init_images }),
    },
    info: infoOf(processing, made, all),
    ...(all.length > 0 && { warnings: all }),
  };
}

function samplerOf({ fields }: Processing): string {
  return fields.sampler_name || fields.sampler_index;
}

/** A number where it is one: seeds go beyond what a number holds. */
function asNumber(seed: bigint): number | bigint {
  return seed <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(seed) : seed;
}

/** JSON in JSON, as the web UI has it. */
function infoOf(processing: Processing, made: readonly Made[], warnings: readonly string[]): string {
  const { fields, options } = processing;
  const of = (seeds: readonly bigint[]) => made.map(({ place }) => asNumber(seeds[place]!));
  const [seeds, subseeds] = [of(processing.seeds), of(processing.subseeds)];
  return asciiJson({
    prompt: fields.prompt,
    all_prompts: made.map(() => fields.prompt),
    negative_prompt: fields.negative_prompt,
    all_negative_prompts: made.map(() => fields.negative_prompt),
    seed: seeds[0] ?? asNumber(processing.seeds[0]!),
    all_seeds: seeds,
    subseed: subseeds[0] ?? asNumber(processing.subseeds[0]!),
    all_subseeds: subseeds,
    subseed_strength: fields.subseed_strength,
    width: fields.width,
    height: fields.height,
    sampler_name: samplerOf(processing),
    cfg_scale: fields.cfg_scale,
    steps: fields.steps,
    batch_size: fields.batch_size,
    restore_faces: false,
    face_restoration_model: null,
    sd_model_name: options.sd_model_checkpoint,
    sd_model_hash: null,
    sd_vae_name: null,
    sd_vae_hash: null,
    seed_resize_from_w: fields.seed_resize_from_w,
    seed_resize_from_h: fields.seed_resize_from_h,
    denoising_strength: fields.denoising_strength ?? null,
    extra_generation_params: {},
    index_of_first_image: 0,
    infotexts: made.map(({ infotext }) => infotext),
    styles: fields.styles,
    job_timestamp: timestampOf(Date.now()),
    clip_skip: options.CLIP_stop_at_last_layers,
    is_using_inpainting_conditioning: false,
    ...(warnings.length > 0 && { warnings }),
  });
}

/** `20261127190500`, in UTC. */
export function timestampOf(ms: number): string {
  return new Date(ms).toISOString().replace(/\D/g, "").slice(0, 14);
}
