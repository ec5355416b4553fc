/**
 * What a client of OpenAI's images API asks for, as a generation request.
 *
 * Format: https://platform.openai.com/docs/api-reference/images. Three things differ by nature and are mapped here:
 * sizes (theirs are fixed; a model has its own area), quality (theirs is a word; ours is a number of steps) and partial
 * images (theirs is how many; ours is how many steps lie between two). Fields of ours that theirs lacks (`seed`,
 * `num_inference_steps`, …) may be sent beside them.
 */
import { z } from "zod";
import { Base64Text } from "../../src/engine/base64-text.ts";
import { RequestError } from "../../src/engine/errors.ts";
import { DEFAULT_STRENGTH, type GenerationRequest, LIMITS } from "../../src/engine/request.ts";
import { fieldsOf, fromText } from "../../src/engine/request-fields.ts";
import { parseRemoteGeneration } from "../../src/engine/request-parsing.ts";
import type { FormField } from "../http/form.ts";

/** What mapping needs to know of the model that serves. Pixels and steps. */
export interface ServedModel {
  readonly name: string;
  readonly defaultWidth: number;
  readonly defaultHeight: number;
  readonly defaultSteps: number;
}

const shared = {
  prompt: z.string().max(LIMITS.promptCharacters),
  /** The served model, or any of OpenAI's own names, which then mean it. */
  model: z.string().max(256).optional(),
  n: z.int().min(1).max(LIMITS.images).default(1),
  /** `auto` is the model's own; a larger one is brought to the model's area, its shape kept. */
  size: z
    .string()
    .regex(/^(auto|[1-9]\d{0,4}x[1-9]\d{0,4})$/, "must be auto, or WIDTHxHEIGHT in pixels, as 1024x1024")
    .default("auto"),
  /** `low` halves the model's steps, `high` doubles them. */
  quality: z.enum(["auto", "low", "medium", "high", "standard", "hd"]).default("auto"),
  stream: z.boolean().default(false),
  partial_images: z.int().min(0).max(3).default(0),
  output_format: z.enum(["png", "jpeg", "webp"]).default("png"),
  /** Quality of JPEG and WebP. */
  output_compression: z.int().min(0).max(100).default(95),
  /** `url` answers with a data URI: nothing is kept on the server to be fetched later. */
  response_format: z.enum(["b64_json", "url"]).default("b64_json"),
  background: z
    .enum(["auto", "opaque"], { error: "must be auto or opaque; no picture is transparent here" })
    .default("auto"),
  // Ours. `parseRemoteGeneration` says what they may be.
  negative_prompt: z.string().optional(),
  num_inference_steps: z.number().optional(),
  guidance_scale: z.number().optional(),
  seed: z.union([z.number(), z.string()]).optional(),
  scheduler: z.string().optional(),
};

/** The body of `POST /v1/images/generations`. Unknown fields (`user`, `moderation`, `style`) are ignored. */
export const imageGenerationSchema = z.object(shared);

/** The form of `POST /v1/images/edits`; `image` may also be called `image[]`. */
export const imageEditSchema = z.object({
  ...shared,
  /** The picture to start from: JPEG, PNG or WebP. */
  image: z.instanceof(Uint8Array, { error: "must be one picture file" }),
  strength: z.number().optional(),
});

type Asked = z.output<typeof imageGenerationSchema> & { image?: Uint8Array; strength?: number };

/** A request to run, and how its answer is to look. */
export interface ImagesRequest {
  readonly generation: GenerationRequest;
  readonly stream: boolean;
  /** Partial images, at most. */
  readonly partialImages: number;
  readonly quality: "auto" | "low" | "medium" | "high";
  readonly compression: number;
  readonly responseFormat: "b64_json" | "url";
}

/**
 * Checks what a client sent and maps it.
 *
 * @param raw a JSON value, or a form's fields with their types restored (`fieldsOfForm`)
 * @throws ZodError, RequestError
 */
export function parseImagesRequest(
  raw: unknown,
  schema: typeof imageGenerationSchema | typeof imageEditSchema,
  served: ServedModel,
): ImagesRequest {
  const asked: Asked = schema.parse(withoutNulls(raw), { reportInput: true });
  refuseOtherModel(asked.model, served);
  const steps = asked.num_inference_steps ?? stepsOf(asked.quality, served.defaultSteps);
  // Image-to-image leaves out the first steps, so that previews have less room.
  const strength = asked.image === undefined ? 1 : (asked.strength ?? DEFAULT_STRENGTH);
  const stepsRun = Math.max(1, Math.floor(steps * strength));
  const partialImages = asked.stream ? asked.partial_images : 0;
  const generation = parseRemoteGeneration({
    prompt: asked.prompt,
    negative_prompt: asked.negative_prompt,
    ...sizeOf(asked.size, served),
    num_inference_steps: steps,
    guidance_scale: asked.guidance_scale,
    seed: asked.seed,
    scheduler: asked.scheduler,
    num_images: asked.n,
    image: asked.image,
    strength: asked.image === undefined ? undefined : strength,
    preview_every: partialImages === 0 ? 0 : Math.max(1, Math.floor(stepsRun / (partialImages + 1))),
    output_format: asked.output_format,
  });
  return {
    generation,
    stream: asked.stream,
    partialImages,
    quality: asked.quality === "standard" ? "medium" : asked.quality === "hd" ? "high" : asked.quality,
    compression: Math.max(1, asked.output_compression),
    responseFormat: asked.response_format,
  };
}

/** Clients have these built in; refusing them would refuse the clients. */
const OPENAI_MODELS = /^(gpt-image-|dall-e-|chatgpt-image-)/;

function refuseOtherModel(model: string | undefined, served: ServedModel): void {
  if (model === undefined || model === served.name || OPENAI_MODELS.test(model)) return;
  throw new RequestError("model", `The model '${model}' is not served here; '${served.name}' is`, [
    {
      path: ["model"],
      message: `The model '${model}' is not served here; '${served.name}' is`,
      type: "model_not_found",
    },
  ]);
}

function stepsOf(quality: Asked["quality"], usual: number): number {
  if (quality === "low") return Math.ceil(usual / 2);
  if (quality === "high" || quality === "hd") return Math.min(usual * 2, LIMITS.steps);
  return usual;
}

/**
 * The size to draw for a size asked for, in pixels. One that the model can draw is taken as it is; others keep their
 * shape and get the model's area, on a grid as coarse as the UNet's lowest level (an eighth of the model's side, 64 at
 * most), because off it the edges of pictures suffer first.
 */
export function sizeOf(size: string, served: ServedModel): { width: number; height: number } {
  const { defaultWidth, defaultHeight } = served;
  if (size === "auto") return { width: defaultWidth, height: defaultHeight };
  const [width, height] = size.split("x").map(Number) as [number, number];
  const area = defaultWidth * defaultHeight;
  const grid = Math.min(64, Math.max(LIMITS.sideMultiple, 8 * Math.floor(Math.min(defaultWidth, defaultHeight) / 64)));
  const fits = (side: number) => side % grid === 0 && side >= LIMITS.minSide && side <= LIMITS.maxSide;
  if (fits(width) && fits(height) && width * height <= area) return { width, height };
  const scale = Math.sqrt(area / (width * height));
  const onGrid = (side: number) =>
    Math.min(LIMITS.maxSide, Math.max(LIMITS.minSide, grid * Math.max(1, Math.round((side * scale) / grid))));
  return { width: onGrid(width), height: onGrid(height) };
}

const KINDS = fieldsOf(imageEditSchema);

/**
 * A form's fields with the types that JSON would have given them: a form holds only strings and files.
 *
 * @throws RequestError for more pictures than one, and for a mask
 */
export function fieldsOfForm(form: readonly FormField[]): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  const pictures: Uint8Array[] = [];
  for (const [name, value] of form) {
    if (typeof value !== "string") {
      if (name === "image" || /^image\[\d*\]$/.test(name)) pictures.push(value);
      else if (name === "mask")
        throw new RequestError("mask", "masks are not supported; leave it out to redraw the whole");
    } else if (name !== "__proto__") fields[name] = fromText(value, KINDS.get(name));
  }
  if (pictures.length > 1) throw new RequestError("image", "must be one picture; several cannot be combined here");
  if (pictures[0] !== undefined) fields.image = pictures[0];
  return fields;
}

function withoutNulls(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, field]) => field !== null)
      // No text may be so long; of what it says, its length alone counts.
      .map(([name, field]) => [name, field instanceof Base64Text ? "x".repeat(field.length) : field]),
  );
}
