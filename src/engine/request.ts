/**
 * A request to generate a picture: which fields it has, what each may be, and what it is when left out.
 *
 * The zod schemas are the only definition; types and, through `z.toJSONSchema`, documents are derived from them. Field
 * names are the field's own (diffusers, fal). What a schema cannot know, such as the model's own size or the names of its
 * schedulers, is left out here and decided by the runtime.
 *
 * Three habits of clients shape it. They send `null` for "not given": null is absence. They send fields of other
 * servers (`sync_mode`, `enable_safety_checker`): what is unknown is ignored. And they misspell: a name that is one of
 * ours in another spelling (`guidanceScale`, `steps`) is refused, because ignoring it would silently give another picture.
 */
import { z } from "zod";
import { requestIssues } from "../faults/request-issues.ts";
import { Base64Text } from "./base64-text.ts";
import { RequestError, type RequestIssue } from "./errors.ts";
import { imageSizeSchema, sizeOf } from "./image-size.ts";

/** The edge of what anybody may ask. The runtime may allow less (a model's own sizes, the device's memory). */
export const LIMITS = {
  /** Characters. CLIP reads about 77 tokens a chunk, so this is far beyond what is seen. */
  promptCharacters: 10_000,
  /** Pixels of a side. Below 64 no latent is left at the UNet's lowest level. */
  minSide: 64,
  maxSide: 2048,
  /** Pixels of the whole picture: SDXL's 1024 × 1024 four times over. */
  maxPixels: 2048 * 2048,
  /** Every autoencoder we load makes 8 × 8 pixels from one latent. */
  sideMultiple: 8,
  steps: 200,
  guidanceScale: 100,
  /** OpenAI's bound of `n`. */
  images: 10,
  loras: 8,
  /** Multiples of the trained strength; beyond it there is only noise. */
  loraScale: 10,
  /** Bytes of an encoded starting picture. */
  imageBytes: 20 * 1024 * 1024,
  /** 2^64 − 1, the largest seed that `torch.Generator.manual_seed` takes. */
  seed: 18446744073709551615n,
  idCharacters: 128,
  previewFps: 60,
  minPreviewSize: 16,
} as const;

/** Steps between two previews when the client does not say. */
export const DEFAULT_PREVIEW_EVERY = 5;
/** How much of a starting picture is drawn anew, when the client does not say: diffusers' default. */
export const DEFAULT_STRENGTH = 0.8;

const side = z.int().min(LIMITS.minSide).max(LIMITS.maxSide).multipleOf(LIMITS.sideMultiple);

/** Ids travel in headers, so they are of plain visible characters. A number is its decimal text. */
const idText = z
  .string()
  .min(1)
  // The pattern of a long one would be looked for in all of it.
  .max(LIMITS.idCharacters, { abort: true })
  .regex(/^[\w.:-]*$/, "may hold letters, digits and . _ : -");
const id = z
  .union([z.string(), z.number(), z.bigint()], { error: "must be a text, or a whole number" })
  .transform((value, ctx): string => {
    // A larger one has lost its last digits on the way, and would be another client's.
    if (typeof value === "number" && Math.abs(value) > Number.MAX_SAFE_INTEGER)
      ctx.addIssue({ code: "custom", message: "must be sent as text if it is a number beyond 2^53 - 1" });
    return String(value);
  })
  .pipe(idText);

const SEED_MESSAGE = "must be a whole number from 0 to 2^53 - 1, or a decimal string up to 2^64 - 1";
const seed = z
  .union([z.int().min(0), z.bigint().min(0n).max(LIMITS.seed), z.string().regex(/^\d{1,20}$/)], { error: SEED_MESSAGE })
  .transform((value, ctx): number | bigint => {
    if (typeof value === "number") return value;
    const exact = BigInt(value);
    if (exact > LIMITS.seed) ctx.addIssue({ code: "custom", message: SEED_MESSAGE });
    return exact <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(exact) : exact;
  });

const IMAGE_MESSAGE =
  "must be a data URI (data:image/png;base64,…) or base64 without that head; addresses are not fetched";
const DATA_URI = /^data:image\/[\w.+-]{1,40};base64,/;
const BASE64 = /^[A-Za-z0-9+/\s]+={0,2}\s*$/;
const picture = z
  .union([z.instanceof(Uint8Array), z.string(), z.instanceof(Base64Text)], { error: IMAGE_MESSAGE })
  .transform((value, ctx): Uint8Array => {
    const refuse = (message: string) => {
      ctx.addIssue({ code: "custom", message });
      return new Uint8Array();
    };
    const tooLarge = `must be at most ${LIMITS.imageBytes} bytes`;
    if (typeof value !== "string") {
      const { head, bytes } = value instanceof Base64Text ? value : { head: "", bytes: value };
      if (head !== "" && !DATA_URI.test(head)) return refuse(IMAGE_MESSAGE);
      return bytes.byteLength > LIMITS.imageBytes ? refuse(tooLarge) : bytes;
    }
    const head = DATA_URI.exec(value.slice(0, 80))?.[0] ?? "";
    if (head === "" && !BASE64.test(value.slice(0, 1024))) return refuse(IMAGE_MESSAGE);
    // Four characters of base64 carry three bytes: refuse before decoding.
    if ((value.length - head.length) * 0.75 > LIMITS.imageBytes + 2) return refuse(tooLarge);
    const bytes = Buffer.from(value.slice(head.length), "base64");
    return bytes.byteLength > LIMITS.imageBytes ? refuse(tooLarge) : bytes;
  });
/** Fields that take a picture. */
const PICTURES = new Set(["image", "image_url"]);

const lora = z
  .object({
    /** A file of the server's LoRA folder, without its ending. */
    name: z.string().min(1).max(LIMITS.idCharacters).optional(),
    /** A file on this machine (a program's own request), or fal's word for `name` (a remote one). */
    path: z.string().min(1).max(4096).optional(),
    scale: z.number().min(-LIMITS.loraScale).max(LIMITS.loraScale).default(1),
  })
  .refine((value) => (value.name === undefined) !== (value.path === undefined), {
    error: "must have either a name or a path",
  });

/** Every field by itself. */
export const generationFields = z.object({
  prompt: z.string().max(LIMITS.promptCharacters),
  negative_prompt: z.string().max(LIMITS.promptCharacters).default(""),
  /** Pixels. Left out: the model's own. */
  width: side.optional(),
  height: side.optional(),
  image_size: imageSizeSchema(side, LIMITS)
    .optional()
    .describe("fal's word for width and height, which win where they are sent as well"),
  /** Left out: the model's own. */
  num_inference_steps: z.int().min(1).max(LIMITS.steps).optional(),
  /** Classifier-free guidance; 1 or less means none. Left out: the model's own. */
  guidance_scale: z.number().min(0).max(LIMITS.guidanceScale).optional(),
  /** Left out: a random one, told in the result. */
  seed: seed.optional().describe("left out, or -1: any"),
  /** Whose noise a seed means: PyTorch's on the CPU, or on CUDA. */
  generator: z.enum(["cpu", "cuda"]).default("cpu"),
  num_images: z.int().min(1).max(LIMITS.images).default(1),
  /** A diffusers class name or its short form. Left out: the model's own. */
  scheduler: z.string().min(1).max(64).optional(),
  /** Steps between two previews; 0: none. */
  preview_every: z.int().min(0).max(LIMITS.steps).default(DEFAULT_PREVIEW_EVERY),
  preview_decoder: z.enum(["auto", "linear", "tiny", "full"]).default("auto"),
  /** Previews a second, at most. Left out: as many as are made and the connection carries. */
  preview_max_fps: z.number().gt(0).max(LIMITS.previewFps).optional(),
  /** Pixels of a preview's longer side, at most; larger ones are shrunk. Left out: as they are. */
  preview_size: z.int().min(LIMITS.minPreviewSize).max(LIMITS.maxSide).optional(),
  preview_format: z.enum(["jpeg", "png", "webp"]).optional(),
  /** Quality of JPEG and WebP. Left out: 70. */
  preview_quality: z.int().min(1).max(100).optional(),
  /** With the model's few-step variant, where it has one: a picture in a quarter of the time, of a little less variety. */
  few_step: z.boolean().default(false),
  loras: z.array(lora).max(LIMITS.loras).default([]),
  /** The picture to start from, which makes it image-to-image: encoded bytes, or a data URI. */
  image: picture.optional(),
  /** fal's name for `image`. */
  image_url: picture.optional(),
  /** 0..1: how much of the starting picture is drawn anew. */
  strength: z.number().gt(0).max(1).default(DEFAULT_STRENGTH),
  output_format: z.enum(["jpeg", "png", "webp"]).default("jpeg"),
  /** The job's id; left out: the transport makes one. */
  request_id: id.optional(),
  /** Carried through to every event, so that the client knows which of its inputs an output belongs to. */
  input_id: id.optional(),
});

/** The request schema: parsing gives every default its value and leaves what the model decides undefined. */
export const generationSchema = generationFields
  .transform(({ image_url, image = image_url, image_size, ...rest }) => ({
    ...(image_size !== undefined && sizeOf(image_size)),
    ...rest,
    ...(image !== undefined && { image }),
  }))
  .refine(({ width = 0, height = 0 }) => width * height <= LIMITS.maxPixels, {
    path: ["width"],
    error: `width times height must be at most ${LIMITS.maxPixels} pixels`,
  });

/** What a caller may write. */
export type GenerationInput = z.input<typeof generationSchema>;
/** What the engine works with: checked, with defaults. */
export type GenerationRequest = Omit<z.output<typeof generationFields>, "image_url" | "image_size">;
/** A request with nothing but words. */
export type TextToImageInput = Omit<GenerationInput, "image" | "image_url" | "strength">;
/** A request that starts from a picture. */
export type ImageToImageInput = Omit<GenerationInput, "image_url" | "image"> & { image: Uint8Array | string };

/**
 * Other spellings that mean one of our fields. Anything that equals a field once case, `_` and `-` are gone is caught
 * without being listed.
 */
const OTHER_NAMES: Readonly<Record<string, keyof GenerationInput>> = {
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
  denoisingstrength: "strength",
  format: "output_format",
};

const plain = (name: string) => name.toLowerCase().replace(/[_-]/g, "");
const BY_PLAIN_NAME = new Map<string, string>([
  ...Object.entries(OTHER_NAMES),
  ...Object.keys(generationFields.shape).map((name) => [plain(name), name] as const),
]);

/** Unknown fields that can only be a known one misspelt. */
function nearMisses(input: Record<string, unknown>): RequestIssue[] {
  const issues: RequestIssue[] = [];
  for (const name of Object.keys(input)) {
    if (Object.hasOwn(generationFields.shape, name)) continue;
    const meant = BY_PLAIN_NAME.get(plain(name));
    // Somebody who also sends the right name has written for several servers at once.
    if (meant === undefined || input[meant] !== undefined) continue;
    issues.push({ path: [name], message: `Unknown field; did you mean ${meant}?`, type: "extra_forbidden" });
  }
  return issues;
}

/** Levels of a request: itself, `loras`, one LoRA. Deeper is nobody's field, and recursion must end somewhere. */
const REQUEST_DEPTH = 3;

/** Objects without fields that are left out by null, or by a seed of -1; as deep as a request goes. Bytes are left alone. */
function withoutLeftOut(value: unknown, depth: number = REQUEST_DEPTH): unknown {
  if (depth === 0) return value;
  if (Array.isArray(value)) return value.map((item) => withoutLeftOut(item, depth - 1));
  if (!isPlainObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name, field]) => field !== null && field !== undefined && !(name === "seed" && isAnySeed(field)))
      .map(([name, field]) => [name, withoutLeftOut(asText(name, field), depth - 1)]),
  );
}

/** Other programs of the field write -1 for any seed. */
function isAnySeed(value: unknown): boolean {
  return value === -1 || value === "-1";
}

/** Only a picture may come as bytes. Where none is meant, the text is longer than any may be: its length alone counts. */
function asText(name: string, field: unknown): unknown {
  return field instanceof Base64Text && !PICTURES.has(name) ? "x".repeat(field.length) : field;
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/**
 * Checks a request and fills in its defaults. Parsing what was parsed changes nothing.
 *
 * @throws RequestError naming every field at fault
 */
export function parseGeneration(input: unknown): GenerationRequest {
  const given = withoutLeftOut(input);
  const parsed = generationSchema.safeParse(given, { reportInput: true });
  const issues = parsed.success ? [] : requestIssues(parsed.error);
  if (isPlainObject(given)) issues.push(...nearMisses(given));
  const first = issues[0];
  if (first !== undefined) throw new RequestError(first.path.join("."), first.message, issues);
  return parsed.data as GenerationRequest;
}

/** Other names of `image`. */
const PICTURE_NAMES: Readonly<Record<string, "image">> = { image_bytes: "image" };

/**
 * Checks fields that are to lie under later requests, and keeps those alone that a request has; pictures as bytes.
 *
 * @throws RequestError naming every field at fault
 */
export function parseDefaults(input: unknown): Readonly<Record<string, unknown>> {
  const given = withoutLeftOut(input);
  if (!isPlainObject(given)) throw new RequestError("", "must be a map of fields");
  const known: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    const field = PICTURE_NAMES[name] ?? name;
    if (Object.hasOwn(generationFields.shape, field)) known[field] = value;
  }
  const parsed = generationFields.partial().safeParse(known, { reportInput: true });
  const issues = parsed.success ? nearMisses(given) : [...requestIssues(parsed.error), ...nearMisses(given)];
  const first = issues[0];
  if (first !== undefined) throw new RequestError(first.path.join("."), first.message, issues);
  // What was left out stays so: its default is for the request to choose.
  return Object.fromEntries(Object.keys(known).map((name) => [name, parsed.data?.[name as keyof typeof parsed.data]]));
}

/** What may change while a request runs. */
export const updateSchema = generationFields
  .pick({ prompt: true, negative_prompt: true, guidance_scale: true })
  .partial()
  // Without this, a default would be laid over what the run began with.
  .extend({ negative_prompt: z.string().max(LIMITS.promptCharacters).optional() });

/** What may be changed while a run is under way, from its next step on. */
export type GenerationUpdate = z.output<typeof updateSchema>;

/**
 * Checks a change to a running request. Fields that cannot change any more are refused, unknown ones ignored.
 *
 * @throws RequestError naming every field at fault
 */
export function parseUpdate(input: unknown): GenerationUpdate {
  const given = withoutLeftOut(input);
  const parsed = updateSchema.safeParse(given, { reportInput: true });
  const issues = parsed.success ? [] : requestIssues(parsed.error);
  if (isPlainObject(given)) {
    issues.push(...nearMisses(given));
    for (const name of Object.keys(given)) {
      if (Object.hasOwn(updateSchema.shape, name) || !Object.hasOwn(generationFields.shape, name) || IDS.has(name))
        continue;
      issues.push({ path: [name], message: "Cannot be changed while the run is under way", type: "value_error" });
    }
  }
  const first = issues[0];
  if (first !== undefined) throw new RequestError(first.path.join("."), first.message, issues);
  return parsed.data as GenerationUpdate;
}

const IDS = new Set(["request_id", "input_id"]);

/** A LoRA's name in the server's folder: no separators, no leading dot, so that it cannot leave the folder. */
const LORA_NAME = /^[A-Za-z0-9][\w. -]*$/;

/**
 * As `parseGeneration`, for a request from another machine: a LoRA is a name in the server's folder, never a path.
 *
 * @throws RequestError naming every field at fault
 */
export function parseRemoteGeneration(input: unknown): GenerationRequest {
  const request = parseGeneration(input);
  const loras = request.loras.map(({ name, path, scale }, index) => {
    const asked = (name ?? path) as string;
    if (!LORA_NAME.test(asked)) {
      throw new RequestError(
        `loras.${index}.${name === undefined ? "path" : "name"}`,
        "must be the name of a LoRA that the server offers",
      );
    }
    return { name: asked, scale };
  });
  return { ...request, loras };
}
