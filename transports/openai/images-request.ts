/**
 * A request to OpenAI's images API as a generation request.
 *
 * Format: https://platform.openai.com/docs/api-reference/images. Three things differ by nature and are mapped here:
 * sizes (theirs are fixed; a model has its own area), quality (theirs is a word; ours is a number of steps) and partial
 * images (theirs is how many; ours is how many steps lie between two). Fields of ours that theirs lacks (`seed`,
 * `num_inference_steps`, …) may be sent beside them.
 */
import { z } from "zod";
import { Base64Text, withoutPicture } from "../../src/engine/base64-text.ts";
import { refuseIssues } from "../../src/engine/errors.ts";
import { DEFAULT_STRENGTH, type GenerationRequest, LIMITS } from "../../src/engine/request.ts";
import { fieldsOf, fromText } from "../../src/engine/request-fields.ts";
import { parseRemoteGeneration } from "../../src/engine/request-parsing.ts";
import { requestIssues } from "../../src/faults/request-issues.ts";
import type { ChooseModel, ServedModel } from "../gate/model-choice.ts";
import type { FormField } from "../http/form.ts";

const shared = {
  prompt: z.string().max(LIMITS.promptCharacters),
  /** A served model, or any of OpenAI's own names, which then mean the default one. */
  model: z.string().max(256).optional(),
  /** A client that wants more than 10 asks several times. */
  n: z.int().min(1).max(LIMITS.images).default(1),
  /** `auto` is the model's own; a larger one is brought to the model's area, its shape kept. */
  size: z
    .string()
    .regex(/^(auto|[1-9]\d{0,4}x[1-9]\d{0,4})$/, "must be auto, or WIDTHxHEIGHT in pixels, as 1024x1024")
    .default("auto"),
  /** `low` halves the model's steps, `high` (or `hd`) doubles them; others are those of `auto`. */
  quality: z.string().max(64).default("auto"),
  stream: z.boolean().default(false),
  partial_images: z.int().min(0).max(3).default(0),
  output_format: z.enum(["png", "jpeg", "webp"]).default("png"),
  /** Quality of JPEG and WebP. */
  output_compression: z.int().min(0).max(100).default(95),
  /** `url` answers with a data URI: nothing is kept on the server to be fetched later. */
  response_format: z.enum(["b64_json", "url"]).default("b64_json"),
  /** Every picture is opaque, whatever it says. */
  background: z.string().max(64).default("auto"),
  /** Nothing is moderated, whatever it says. */
  moderation: z.string().max(64).default("auto"),
  // Ours. `parseRemoteGeneration` says what they may be.
  negative_prompt: z.string().optional(),
  num_inference_steps: z.number().optional(),
  guidance_scale: z.number().optional(),
  seed: z.union([z.number(), z.string()]).optional(),
  scheduler: z.string().optional(),
  embed_metadata: z.boolean().optional(),
};

/** The body of `POST /v1/images/generations`. Unknown fields (`user`, `style`) are ignored, and a warning says so. */
export const imageGenerationSchema = z.object(shared);

/** A picture of a form, or of JSON; what a text may be is the engine's to say. */
type PictureField = Uint8Array | Base64Text | string;
const NO_PICTURE = "must be a picture: a file of a form, or in JSON a data URI or its base64 alone";

/** The body of `POST /v1/images/edits`: a form, whose pictures may be called `image[]`, or JSON. */
export const imageEditSchema = z.object({
  ...shared,
  /** The picture to start from: JPEG, PNG or WebP. */
  image: z.custom<PictureField>(isPictureField, { error: NO_PICTURE }),
  /** Its transparent part is drawn anew, and it has the picture's size; without one, the picture's own transparency counts. */
  mask: z.custom<PictureField>(isPictureField, { error: NO_PICTURE }).optional(),
  strength: z.number().optional(),
});

function isPictureField(value: unknown): boolean {
  return typeof value === "string" || value instanceof Uint8Array || value instanceof Base64Text;
}

type ImageFields = z.output<typeof imageGenerationSchema> & Partial<z.output<typeof imageEditSchema>>;

/** A request to run, and how its answer is to look. */
export interface ImagesRequest {
  readonly generation: GenerationRequest;
  readonly stream: boolean;
  /** Partial images, at most. */
  readonly partialImages: number;
  readonly quality: "auto" | "low" | "medium" | "high";
  readonly compression: number;
  readonly responseFormat: "b64_json" | "url";
  /** Warnings of fields that have no effect. */
  readonly warnings: readonly string[];
}

/**
 * Checks an edit and maps it.
 *
 * @throws RequestError
 */
export function parseEdit({ fields, pictures }: ReturnType<typeof fieldsOfJson>, choose: ChooseModel): ImagesRequest {
  const request = parseImagesRequest(fields, imageEditSchema, choose);
  if (pictures < 2) return request;
  const warning = `the first of ${pictures} pictures was used; several cannot be combined here`;
  return { ...request, warnings: [...request.warnings, warning] };
}

/**
 * Checks what a client sent and maps it.
 *
 * @param raw a JSON value, or the fields of an edit (`fieldsOfForm`, `fieldsOfJson`)
 * @throws RequestError
 */
export function parseImagesRequest(
  raw: unknown,
  schema: typeof imageGenerationSchema | typeof imageEditSchema,
  choose: ChooseModel,
): ImagesRequest {
  const sent = withoutNulls(raw);
  const asked = checked(schema, sent);
  const served = choose(modelMeant(asked.model));
  const steps = asked.num_inference_steps ?? stepsOf(asked.quality, served.defaultSteps);
  // Image-to-image leaves out the first steps, so that previews have less room.
  const strength = asked.image === undefined ? 1 : (asked.strength ?? DEFAULT_STRENGTH);
  const stepsRun = Math.max(1, Math.floor(steps * strength));
  const partialImages = asked.stream ? asked.partial_images : 0;
  const generation = parseRemoteGeneration({
    model: served.name,
    prompt: asked.prompt,
    negative_prompt: asked.negative_prompt,
    // A part of a picture is drawn in the picture's proportions.
    ...(asked.mask === undefined || asked.size !== "auto" ? sizeOf(asked.size, served) : {}),
    num_inference_steps: steps,
    guidance_scale: asked.guidance_scale,
    seed: asked.seed,
    scheduler: asked.scheduler,
    num_images: asked.n,
    image: asked.image,
    ...(asked.image !== undefined && { mask: asked.mask, mask_channel: "alpha" }),
    strength: asked.image === undefined ? undefined : strength,
    preview_every: partialImages === 0 ? 0 : Math.max(1, Math.floor(stepsRun / (partialImages + 1))),
    output_format: asked.output_format,
    embed_metadata: asked.embed_metadata,
  });
  return {
    generation,
    stream: asked.stream,
    partialImages,
    quality: QUALITIES.get(asked.quality) ?? "auto",
    compression: Math.max(1, asked.output_compression),
    responseFormat: asked.response_format,
    warnings: warningsOf(
      asked,
      Object.keys(sent as object).filter((name) => !Object.hasOwn(schema.shape, name)),
    ),
  };
}

/** Zod's own error is not thrown: whoever reads its message has all inputs at fault turned into JSON. @throws RequestError */
function checked(schema: typeof imageGenerationSchema | typeof imageEditSchema, sent: unknown): ImageFields {
  const parsed = schema.safeParse(sent, { reportInput: true });
  if (!parsed.success) refuseIssues(requestIssues(parsed.error));
  return parsed.data!;
}

/** The words of all of OpenAI's models, in those of the newest. */
const QUALITIES = new Map<string, ImagesRequest["quality"]>([
  ["auto", "auto"],
  ["low", "low"],
  ["medium", "medium"],
  ["standard", "medium"],
  ["high", "high"],
  ["hd", "high"],
]);

/** Unknown fields that a warning names, and the characters of a name that it repeats. */
const MAX_NAMED = 8;
const MAX_NAME = 64;

function warningsOf({ quality, background, moderation }: ImageFields, unknown: readonly string[]): string[] {
  const warnings: string[] = [];
  if (!QUALITIES.has(quality)) warnings.push(`quality '${quality}' is not known here; it was taken as auto`);
  if (background !== "auto" && background !== "opaque") {
    warnings.push(`background '${background}' has no effect: every picture here is opaque`);
  }
  if (moderation !== "auto") warnings.push("moderation has no effect: nothing is moderated here");
  const names = unknown.slice(0, MAX_NAMED).map((name) => name.slice(0, MAX_NAME));
  if (names.length > 0) warnings.push(`no effect, since they are not known here: ${names.join(", ")}`);
  return warnings;
}

/** Clients have these built in; refusing them would refuse the clients. */
const OPENAI_MODELS = /^(gpt-image-|dall-e-|chatgpt-image-)/;

/** The name of a model; undefined for OpenAI's own, which mean the default one. */
export function modelMeant(model: string | undefined): string | undefined {
  return model !== undefined && OPENAI_MODELS.test(model) ? undefined : model;
}

function stepsOf(quality: string, usual: number): number {
  const known = QUALITIES.get(quality);
  if (known === "low") return Math.ceil(usual / 2);
  return known === "high" ? Math.min(usual * 2, LIMITS.steps) : usual;
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

const FIELDS = fieldsOf(imageEditSchema);

/** The fields of an edit, and whether there were more pictures than the one that is used. */
export interface EditFields {
  readonly fields: Readonly<Record<string, unknown>>;
  readonly pictures: number;
}

/**
 * A form's fields with the types that JSON would have given them: a form holds only strings and files.
 */
export function fieldsOfForm(form: readonly FormField[]): EditFields {
  const fields: Record<string, unknown> = {};
  const pictures: unknown[] = [];
  for (const [name, value] of form) {
    if (name === "mask") {
      // A form of a page has a file without bytes where none was chosen.
      if (value.length > 0) fields.mask = value;
    } else if (name === "image" || /^image\[\d*\]$/.test(name)) pictures.push(value);
    else if (typeof value === "string" && name !== "__proto__") fields[name] = fromText(value, FIELDS.get(name)?.kind);
  }
  return withPictures(fields, pictures);
}

/**
 * The fields of an edit that came as JSON: a picture, or a list of them, as `image`, or in OpenAI's own way as
 * `images: [{image_url}]`; a mask as a picture, or `{image_url}`.
 */
export function fieldsOfJson(body: unknown): EditFields | { readonly fields: unknown; readonly pictures: 0 } {
  if (typeof body !== "object" || body === null || Array.isArray(body)) return { fields: body, pictures: 0 };
  const { image, images, mask, ...fields } = body as Record<string, unknown>;
  const listed = [image, images].flatMap((value) => (Array.isArray(value) ? value : [value]));
  const pictures = listed.map((value) => (isRecord(value) ? value.image_url : value));
  return withPictures(
    { ...fields, ...(mask !== undefined && mask !== null && { mask: isRecord(mask) ? mask.image_url : mask }) },
    pictures.filter((value) => value !== undefined && value !== null),
  );
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !(value instanceof Base64Text || value instanceof Uint8Array);
}

function withPictures(fields: Readonly<Record<string, unknown>>, pictures: readonly unknown[]): EditFields {
  return { fields: pictures.length === 0 ? fields : { ...fields, image: pictures[0] }, pictures: pictures.length };
}

function withoutNulls(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, field]) => field !== null)
      .map(([name, field]) => [name, name === "image" || name === "mask" ? field : withoutPicture(field)]),
  );
}
