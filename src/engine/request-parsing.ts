/**
 * From what a client sends to a request that is checked, by the schemas of `request.ts`: absent fields, misspelt ones, and
 * the LoRAs that a client may name.
 */
import { requestIssues } from "../faults/request-issues.ts";
import { withoutPicture } from "./base64-text.ts";
import { RequestError, type RequestIssue, refuseIssues } from "./errors.ts";
import { ignoredFields, isIgnoredField, MOST_IGNORED } from "./ignored-fields.ts";
import {
  type GenerationRequest,
  type GenerationUpdate,
  generationFields,
  generationSchema,
  OTHER_NAMES,
  PICTURE_FIELDS,
  updateSchema,
} from "./request.ts";

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
    if (meant === undefined || input[meant] !== undefined || input[name] === "") continue;
    issues.push({ path: [name], message: `Unknown field; did you mean ${meant}?`, type: "extra_forbidden" });
  }
  return issues;
}

/**
 * Levels of a request: itself, `loras`, one LoRA, its blocks, a side of them. Deeper is nobody's field, and recursion must end
 * somewhere.
 */
const REQUEST_DEPTH = 5;

/** Objects without fields that are left out by null, by a seed of -1, or by an empty mask; as deep as a request goes. Bytes are left alone. */
function withoutLeftOut(value: unknown, depth: number = REQUEST_DEPTH): unknown {
  if (depth === 0) return value;
  if (Array.isArray(value)) return value.map((item) => withoutLeftOut(item, depth - 1));
  if (!isPlainObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(
        ([name, field]) =>
          field !== null &&
          field !== undefined &&
          !((name === "seed" || name === "subseed") && isAnySeed(field)) &&
          !(MASK_FIELDS.has(name) && field === ""),
      )
      .map(([name, field]) => [
        name,
        withoutLeftOut(PICTURE_FIELDS.has(name) ? field : withoutPicture(field), depth - 1),
      ]),
  );
}

/** Pages with a mask send it empty if nothing was painted. */
const MASK_FIELDS: ReadonlySet<string> = new Set(["mask", "mask_url", "mask_image_url"]);

/** Other programs of the field write -1 for any seed. */
function isAnySeed(value: unknown): boolean {
  return value === -1 || value === "-1";
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
  const fields = withoutLeftOut(input);
  const parsed = generationSchema.safeParse(fields, { reportInput: true });
  const issues = parsed.success ? [] : requestIssues(parsed.error);
  if (isPlainObject(fields)) issues.push(...nearMisses(fields));
  refuseIssues(issues);
  return withIgnored(parsed.data as GenerationRequest, fields as Record<string, unknown>);
}

/** The request with the names of the fields that it had and that are ignored, or had when it was parsed before. */
function withIgnored(request: GenerationRequest, fields: Readonly<Record<string, unknown>>): GenerationRequest {
  const { ignored_fields: before } = fields;
  const names = Array.isArray(before) ? before.filter(isIgnoredField).slice(0, MOST_IGNORED) : ignoredFields(fields);
  return names.length > 0 ? { ...request, ignored_fields: names } : request;
}

/** Other names of `image`. */
const PICTURE_NAMES: Readonly<Record<string, "image">> = { image_bytes: "image" };

/**
 * Checks fields that are to lie under later requests, and keeps those alone that a request has; pictures as bytes.
 *
 * @throws RequestError naming every field at fault
 */
export function parseDefaults(input: unknown): Readonly<Record<string, unknown>> {
  const fields = withoutLeftOut(input);
  if (!isPlainObject(fields)) throw new RequestError("", "must be a map of fields");
  const known: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    const field = PICTURE_NAMES[name] ?? name;
    if (Object.hasOwn(generationFields.shape, field)) known[field] = value;
  }
  const parsed = generationFields.partial().safeParse(known, { reportInput: true });
  const issues = parsed.success ? nearMisses(fields) : [...requestIssues(parsed.error), ...nearMisses(fields)];
  refuseIssues(issues);
  // A field that was left out stays so: its default is for the request to choose.
  return Object.fromEntries(Object.keys(known).map((name) => [name, parsed.data?.[name as keyof typeof parsed.data]]));
}

/** Fields that say the same in other words: a request's own take the place of such defaults. */
const SYNONYMS: Readonly<Record<string, readonly string[]>> = {
  image_size: ["width", "height"],
  image_url: ["image"],
  image: ["image_url"],
  image_bytes: ["image", "image_url"],
  mask: ["mask_url", "mask_image_url"],
  mask_url: ["mask", "mask_image_url"],
  mask_image_url: ["mask", "mask_url"],
};

/** A request over the fields of `parseDefaults` that lie under it. */
export function withDefaults(
  defaults: Readonly<Record<string, unknown>>,
  own: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  const replaced = new Set(Object.keys(own).flatMap((name) => (own[name] == null ? [] : (SYNONYMS[name] ?? []))));
  return { ...Object.fromEntries(Object.entries(defaults).filter(([name]) => !replaced.has(name))), ...own };
}

/**
 * Checks a change to a running request. Fields that cannot change any more are refused, unknown ones ignored.
 *
 * @throws RequestError naming every field at fault
 */
export function parseUpdate(input: unknown): GenerationUpdate {
  const fields = withoutLeftOut(input);
  const parsed = updateSchema.safeParse(fields, { reportInput: true });
  const issues = parsed.success ? [] : requestIssues(parsed.error);
  if (isPlainObject(fields)) {
    issues.push(...nearMisses(fields));
    for (const name of Object.keys(fields)) {
      if (Object.hasOwn(updateSchema.shape, name) || !Object.hasOwn(generationFields.shape, name) || IDS.has(name))
        continue;
      issues.push({ path: [name], message: "Cannot be changed while the run is under way", type: "value_error" });
    }
  }
  refuseIssues(issues);
  return parsed.data as GenerationUpdate;
}

const IDS = new Set(["request_id", "input_id"]);

/**
 * Texts that no LoRA of a server is named: absolute paths, hidden files and folders above, backslashes. Others are looked up
 * among the files that there are (`lora-files.ts`), and never become a path.
 */
const NO_LORA_NAME = /^\/|\\|\0|(?:^|\/)\./;

/**
 * As `parseGeneration`, for a request from another machine: a LoRA is a name in the server's folder, never a path.
 *
 * @throws RequestError naming every field at fault
 */
export function parseRemoteGeneration(input: unknown): GenerationRequest {
  const request = parseGeneration(input);
  const loras = request.loras.map(({ name, path, ...scales }, index) => {
    const loraName = (name ?? path) as string;
    if (NO_LORA_NAME.test(loraName)) {
      throw new RequestError(
        `loras.${index}.${name === undefined ? "path" : "name"}`,
        "must be the name of a LoRA that the server offers",
      );
    }
    return { name: loraName, ...scales };
  });
  return { ...request, loras };
}
