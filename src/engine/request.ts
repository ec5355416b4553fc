/**
 * A request to generate a picture: which fields it has, what each may be, and what it is when left out.
 *
 * The zod schemas are the only definition; types and, through `z.toJSONSchema`, documents are derived from them. Field
 * names are the field's own (diffusers, fal). Facts that a schema cannot know, such as the model's own size or the
 * names of its schedulers, is left out here and decided by the runtime.
 *
 * Three habits of clients shape it. They send `null` for "not given": null is absence. They send fields of other
 * servers (`sync_mode`, `enable_safety_checker`): what is unknown is ignored. And they misspell: a name that is one of
 * ours in another spelling (`guidanceScale`, `steps`) is refused, because ignoring it would silently give another picture.
 */
import { z } from "zod";
import { SIGMA_SCHEDULES } from "../diffusion/schedulers/sigma-schedules.ts";
import { TIMESTEP_SPACINGS } from "../diffusion/schedulers/timesteps.ts";
import { PROMPT_SYNTAXES } from "../text/prompt-syntax.ts";
import { controlFields } from "./control-fields.ts";
import { id, margins, numbers, picture, seed, side, sizes } from "./field-types.ts";
import { imageSizeSchema, sizeOf } from "./image-size.ts";
import { LIMITS } from "./limits.ts";
import { loraSchema } from "./lora-request.ts";

export { LIMITS };

/** Steps between two previews when the client does not say. */
export const DEFAULT_PREVIEW_EVERY = 5;
/** How much of a starting picture is drawn anew, when the client does not say: diffusers' default. */
export const DEFAULT_STRENGTH = 0.8;

/**
 * Every field by itself. The descriptions are the README's, those of `/openapi.json`, and the help of `daguerre generate`.
 */
export const generationFields = z.object({
  prompt: z.string().max(LIMITS.promptCharacters).describe("what the picture should show"),
  negative_prompt: z.string().max(LIMITS.promptCharacters).default("").describe("what the picture should not show"),
  prompt_2: z
    .string()
    .max(LIMITS.promptCharacters)
    .optional()
    .describe("the prompt of a second text encoder (SDXL); default: `prompt`"),
  negative_prompt_2: z
    .string()
    .max(LIMITS.promptCharacters)
    .optional()
    .describe("the negative prompt of a second text encoder (SDXL); default: `negative_prompt`"),
  prompt_syntax: z
    .enum(PROMPT_SYNTAXES)
    .optional()
    .describe(
      "`plain`: parentheses are text, and a prompt that is too long loses its end; `weighted`: `(word:1.3)`, `[word]`, `BREAK`, `<lora:name:0.8>`, and as many chunks as a long prompt needs; default: the server's, mostly `plain`",
    ),
  clip_skip: z
    .int()
    .min(0)
    .max(LIMITS.clipSkip)
    .optional()
    .describe("layers of the text encoders to leave out, as diffusers counts them: one less than in A1111; default: 0"),
  width: side.optional().describe("pixels across; default: the model's, or with `image` by its proportions"),
  height: side.optional().describe("pixels down; default: the model's, or with `image` by its proportions"),
  image_size: imageSizeSchema(side, LIMITS)
    .optional()
    .describe(
      'fal\'s word for `width` and `height`, which win if they are sent as well: `{"width": 512, "height": 384}`, or `square_hd`, `square`, `portrait_4_3`, `portrait_16_9`, `landscape_4_3`, `landscape_16_9`',
    ),
  num_inference_steps: z.int().min(1).max(LIMITS.steps).optional().describe("denoising steps; default: the model's"),
  guidance_scale: z
    .number()
    .min(0)
    .max(LIMITS.guidanceScale)
    .optional()
    .describe("how closely to follow the prompt; at 1 or less, guidance is off; default: the model's"),
  scheduler: z
    .string()
    .min(1)
    .max(64)
    .optional()
    .describe(
      "a sampler by any of its names: `DPM++ 2M Karras`, `euler_a`, `dpmpp_2m_sde`, `EulerDiscreteScheduler`; `GET /schedulers` lists them; default: the model's",
    ),
  timestep_spacing: z
    .enum(TIMESTEP_SPACINGS)
    .optional()
    .describe("which timesteps the scheduler visits; few-step models want trailing; default: the model's"),
  sigma_schedule: z
    .enum(SIGMA_SCHEDULES)
    .optional()
    .describe(
      "how the noise levels are spaced; a name such as `DPM++ 2M Karras` says it too; default: the scheduler's",
    ),
  sigmas: numbers(LIMITS.sigma, LIMITS.steps + 1)
    .optional()
    .describe("noise levels, one a step and the one to end at, mostly 0, instead of a number of steps and a spacing"),
  timesteps: numbers(LIMITS.timestep, LIMITS.steps)
    .optional()
    .describe("timesteps, one a step, instead of a number of steps and a spacing"),
  eta: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe(
      "noise added in each step of DDIM and TCD, as a share of the most; other schedulers ignore it; default: 0",
    ),
  guidance_rescale: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe(
      "how much of the contrast that guidance adds is taken back; models with zero terminal SNR want 0.7; default: 0",
    ),
  seed: seed
    .optional()
    .describe(
      "a whole number to 2^53 - 1, or a decimal string to 2^64 - 1; -1: random; the same seed gives the same picture; default: random; the result has it",
    ),
  subseed: seed
    .optional()
    .describe("another seed whose noise is mixed into the start; default: random, if `subseed_strength` is above 0"),
  subseed_strength: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe("how much of the noise is the other seed's: small values give variations of a picture; default: 0"),
  seed_resize_from: sizes(LIMITS.maxSide)
    .optional()
    .describe(
      "height and width of a picture that the seed is known from: its noise stands in the middle of this one's",
    ),
  generator: z
    .enum(["cpu", "cuda"])
    .default("cpu")
    .describe("the noise of a seed: as PyTorch draws it on the CPU, or on CUDA"),
  num_images: z.int().min(1).max(LIMITS.images).default(1).describe("number of pictures"),
  image: picture
    .optional()
    .describe(
      "a picture to start from (image-to-image): a data URI, or its base64 alone; bytes in msgpack; addresses are not fetched",
    ),
  image_url: picture.optional().describe("fal's name for `image`"),
  strength: z.number().gt(0).max(1).default(DEFAULT_STRENGTH).describe("how much of `image` to draw anew"),
  mask: picture
    .optional()
    .describe(
      "the part of `image` to draw anew (inpainting): a picture of its size, white where to draw; the rest stays as it is, to the bit; the result has the size of `image`",
    ),
  mask_url: picture.optional().describe("fal's name for `mask`"),
  mask_image_url: picture.optional().describe("another name of fal's for `mask`"),
  mask_channel: z
    .enum(["luminance", "alpha"])
    .optional()
    .describe(
      "what the mask is read from; alpha: transparent is drawn anew, as OpenAI has it, and without `mask` the transparency of `image` counts, if there is any; default: luminance",
    ),
  mask_invert: z.boolean().optional().describe("draw anew what is black in `mask`, not what is white; default: false"),
  mask_blur: z
    .number()
    .min(0)
    .max(LIMITS.maskBlur)
    .optional()
    .describe(
      "pixels (σ) over which the edge of the mask fades, on both sides; it reaches three times as far; default: 0",
    ),
  mask_padding: z
    .int()
    .min(0)
    .max(LIMITS.maskPadding)
    .optional()
    .describe("pixels by which the mask grows on all sides, before it is blurred; default: 0"),
  padding_mask_crop: z
    .int()
    .min(0)
    .max(LIMITS.cropPadding)
    .optional()
    .describe(
      "draw only the masked part and so many pixels around it, at the full size of the run, and paste it back; default: all of `image` is drawn",
    ),
  outpaint: margins
    .optional()
    .describe(
      'pixels by which the picture grows, drawn like what is masked: `{"left": 128, "right": 128}`, or `left,top,right,bottom`',
    ),
  denoising_start: z
    .number()
    .gt(0)
    .max(1)
    .optional()
    .describe(
      "SDXL's refiner: the part of the noise levels that is left out at the beginning, instead of a strength, as 0.8 after a base that has ended there; needs `image`",
    ),
  denoising_end: z
    .number()
    .gt(0)
    .max(1)
    .optional()
    .describe("SDXL's base before a refiner: the part of the noise levels to run; it leaves noise in the picture"),
  loras: z
    .array(loraSchema(LIMITS))
    .max(LIMITS.loras)
    .default([])
    .describe(
      'LoRAs of the server, as `[{"name": "ink", "scale": 0.8}]`; `unet`, `text_encoder`, `text_encoder_2` are scales of one component, `blocks` of parts of the UNet: `{"down": 0.5, "up": {"block_1": [0, 1, 1]}}`',
    ),
  ...controlFields(picture),
  few_step: z
    .boolean()
    .default(false)
    .describe(
      "use the model's few-step variant, if it has one: a picture in a quarter of the time, a little less varied",
    ),
  zero_negative_prompt: z
    .boolean()
    .optional()
    .describe("whether zeros stand for an empty negative prompt; default: as the model was trained"),
  original_size: sizes(LIMITS.conditionSide)
    .optional()
    .describe("SDXL: height and width that the picture is said to come from; default: its own"),
  crops_coords_top_left: sizes(LIMITS.conditionSide)
    .optional()
    .describe("SDXL: pixels that are said to be cut off above and on the left; default: 0, 0"),
  target_size: sizes(LIMITS.conditionSide)
    .optional()
    .describe("SDXL: height and width that the picture is said to have; default: its own"),
  aesthetic_score: z
    .number()
    .min(0)
    .max(LIMITS.aestheticScore)
    .optional()
    .describe("SDXL's refiner: how beautiful the picture is said to be; default: 6"),
  negative_aesthetic_score: z
    .number()
    .min(0)
    .max(LIMITS.aestheticScore)
    .optional()
    .describe("SDXL's refiner: the same for the negative prompt; default: 2.5"),
  preview_every: z
    .int()
    .min(0)
    .max(LIMITS.steps)
    .default(DEFAULT_PREVIEW_EVERY)
    .describe("steps between two previews; 0 turns them off"),
  preview_decoder: z
    .enum(["auto", "linear", "tiny", "full"])
    .default("auto")
    .describe(
      "how a preview is decoded; from `linear` to `full` it is slower and truer; auto: `tiny` if the model has one, else `linear`",
    ),
  preview_max_fps: z
    .number()
    .gt(0)
    .max(LIMITS.previewFps)
    .optional()
    .describe("previews a second, at most; default: as many as the connection carries"),
  preview_size: z
    .int()
    .min(LIMITS.minPreviewSize)
    .max(LIMITS.maxSide)
    .optional()
    .describe("pixels of a preview's longer side, at most; default: the picture's own"),
  preview_format: z.enum(["jpeg", "png", "webp"]).optional().describe("format of previews; default: jpeg"),
  preview_quality: z.int().min(1).max(100).optional().describe("quality of JPEG and WebP previews; default: 70"),
  output_format: z.enum(["jpeg", "png", "webp"]).default("jpeg").describe("format of the result"),
  lossless: z.boolean().optional().describe("WebP without loss; PNG always is; default: false"),
  embed_metadata: z
    .boolean()
    .optional()
    .describe(
      "write the settings into the result's pictures as AUTOMATIC1111's web UI does, and into the result as `infotexts`; default: false",
    ),
  model: z
    .string()
    .min(1)
    .max(LIMITS.modelCharacters)
    .optional()
    .describe("the model that draws; `GET /models` lists them; default: the server's"),
  request_id: id
    .optional()
    .describe("the client's name for the request, in every event; a number is its decimal text; default: a random one"),
  input_id: id.optional().describe("a second name, in every event too, such as the input that the client sent"),
});

/** Fields that take a picture. */
export const PICTURE_FIELDS: ReadonlySet<string> = new Set(
  Object.entries(generationFields.shape).flatMap(([name, field]) =>
    field instanceof z.ZodOptional && field.unwrap() === picture ? [name] : [],
  ),
);

/** The request schema: parsing gives every default its value and leaves what the model decides undefined. */
export const generationSchema = generationFields
  .transform(
    ({
      image_url,
      image = image_url,
      image_size,
      mask_url,
      mask_image_url,
      mask = mask_url ?? mask_image_url,
      ...rest
    }) => ({
      ...(image_size !== undefined && sizeOf(image_size)),
      ...rest,
      ...(image !== undefined && { image }),
      ...(mask !== undefined && { mask }),
    }),
  )
  .refine(({ width = 0, height = 0 }) => width * height <= LIMITS.maxPixels, {
    path: ["width"],
    error: `width times height must be at most ${LIMITS.maxPixels} pixels`,
  })
  .superRefine(({ image, ...fields }, ctx) => {
    if (image !== undefined) return;
    for (const field of ["mask", "outpaint", "denoising_start"] as const) {
      if (fields[field] !== undefined)
        ctx.addIssue({ code: "custom", path: [field], message: "needs an image as well" });
    }
  });

/** A request as a caller may write it. */
export type GenerationInput = z.input<typeof generationSchema>;
/** A request as the engine runs it: checked, with defaults. */
export type GenerationRequest = Omit<
  z.output<typeof generationFields>,
  "image_url" | "image_size" | "mask_url" | "mask_image_url"
> & {
  /** Fields of other servers that the request had, and that would change the picture if this one had them. */
  readonly ignored_fields?: readonly string[];
};
/** A request with nothing but words. */
export type TextToImageInput = Omit<GenerationInput, "image" | "image_url" | "strength">;
/** A request that starts from a picture. */
export type ImageToImageInput = Omit<GenerationInput, "image_url" | "image"> & { image: Uint8Array | string };

/** The fields that may change while a request runs. */
export const updateSchema = generationFields
  .pick({ prompt: true, negative_prompt: true, guidance_scale: true })
  .partial()
  // Without this, a default would be laid over what the run began with.
  .extend({ negative_prompt: z.string().max(LIMITS.promptCharacters).optional() });

/** A change to a run under way, from its next step on. */
export type GenerationUpdate = z.output<typeof updateSchema>;

/**
 * Other spellings that mean one of our fields. Anything that equals a field once case, `_` and `-` are gone is caught
 * without being listed.
 */
export const OTHER_NAMES: Readonly<Record<string, keyof GenerationInput>> = {
  steps: "num_inference_steps",
  numsteps: "num_inference_steps",
  inferencesteps: "num_inference_steps",
  guidance: "guidance_scale",
  cfg: "guidance_scale",
  cfgscale: "guidance_scale",
  n: "num_images",
  batchsize: "num_images",
  numimagesperprompt: "num_images",
  sampler: "scheduler",
  samplername: "scheduler",
  lora: "loras",
  negative: "negative_prompt",
  initimage: "image",
  maskimage: "mask",
  maskb64: "mask",
  inpaintmask: "mask",
  invertmask: "mask_invert",
  denoisingstrength: "strength",
  format: "output_format",
};
