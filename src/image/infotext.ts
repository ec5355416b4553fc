/**
 * The settings of a picture as text, in the format of AUTOMATIC1111's web UI, which most programs of the field read:
 *
 *     a lake at dawn
 *     Negative prompt: people
 *     Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x512, Model: landscapes
 *
 * A value that holds a comma, a colon or a line break stands as a JSON string. Pure, so that the page reads pictures with it.
 */

/** Characters of a text that is read; a prompt has 10,000 at most. */
export const MAX_INFOTEXT = 64 * 1024;
/** Names of one text that are read, and the characters of one. */
const MAX_FIELDS = 128;
const MAX_NAME = 64;

export interface Infotext {
  readonly prompt: string;
  readonly negativePrompt: string;
  /** The last line, in its order: `Steps` → `20`. */
  readonly fields: ReadonlyMap<string, string>;
}

/** A value that is undefined is left out. */
export type InfotextFields = Readonly<Record<string, string | number | bigint | undefined>>;

export function writeInfotext(prompt: string, negativePrompt: string, fields: InfotextFields): string {
  const line = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${quotedIfNeeded(String(value))}`)
    .join(", ");
  const negative = negativePrompt === "" ? "" : `\nNegative prompt: ${negativePrompt}`;
  return `${prompt}${negative}\n${line}`.trim();
}

function quotedIfNeeded(value: string): string {
  return /[,:\n]/.test(value) || value.startsWith('"') ? JSON.stringify(value) : value;
}

const NEGATIVE = "Negative prompt:";
/** Names on the last line without which it is a part of the prompt. */
const LEAST_FIELDS = 3;

/** Reads what any program has written. A text without settings is a prompt alone. */
export function readInfotext(text: string): Infotext {
  const lines = text.slice(0, MAX_INFOTEXT).trim().split("\n");
  const fields = readFields(lines.at(-1)!);
  if (fields.size >= LEAST_FIELDS) lines.pop();
  const begin = lines.findIndex((line) => line.trimStart().startsWith(NEGATIVE));
  const positive = begin < 0 ? lines : lines.slice(0, begin);
  const negative = begin < 0 ? [] : [lines[begin]!.trimStart().slice(NEGATIVE.length), ...lines.slice(begin + 1)];
  return {
    prompt: joined(positive),
    negativePrompt: joined(negative),
    fields: fields.size >= LEAST_FIELDS ? fields : new Map(),
  };
}

function joined(lines: readonly string[]): string {
  return lines
    .map((line) => line.trim())
    .join("\n")
    .trim();
}

/** `Steps: 20, Sampler: "a, b"`. Read sign by sign: a pattern could be made to take long by a hostile line. */
function readFields(line: string): Map<string, string> {
  const fields = new Map<string, string>();
  let at = 0;
  while (at < line.length && fields.size < MAX_FIELDS) {
    const colon = line.indexOf(":", at);
    if (colon < 0) break;
    const name = line.slice(at, colon).trim();
    const isName = name.length <= MAX_NAME && /^\w[\w \-/]+$/.test(name);
    if (isName) {
      const value = readValue(line, colon + 1);
      fields.set(name, value.text);
      at = value.end;
    } else at = nextField(line, at);
  }
  return fields;
}

/** The place behind the next comma. */
function nextField(line: string, from: number): number {
  const comma = line.indexOf(",", from);
  return comma < 0 ? line.length : comma + 1;
}

function readValue(line: string, from: number): { readonly text: string; readonly end: number } {
  const begin = from + /^\s*/.exec(line.slice(from, from + MAX_NAME))![0].length;
  const quote = line[begin] === '"' ? closingQuote(line, begin) : -1;
  if (quote > 0) {
    const text = parsedString(line.slice(begin, quote + 1));
    if (text !== undefined) return { text, end: nextField(line, quote) };
  }
  const end = nextField(line, begin);
  return { text: line.slice(begin, end).replace(/,$/, "").trim(), end };
}

function closingQuote(line: string, begin: number): number {
  for (let at = begin + 1; at < line.length; at++) {
    if (line[at] === "\\") at++;
    else if (line[at] === '"') return at;
  }
  return -1;
}

function parsedString(text: string): string | undefined {
  try {
    return String(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** A request's fields, by the names of the request, as far as a text tells them. */
export interface SettingsInPicture {
  readonly prompt: string;
  readonly negative_prompt?: string;
  readonly num_inference_steps?: number;
  readonly guidance_scale?: number;
  readonly scheduler?: string;
  readonly sigma_schedule?: string;
  /** Decimal: a seed may be larger than a number holds. */
  readonly seed?: string;
  readonly width?: number;
  readonly height?: number;
  readonly strength?: number;
  readonly clip_skip?: number;
  readonly subseed?: string;
  readonly subseed_strength?: number;
  readonly eta?: number;
  readonly guidance_rescale?: number;
  readonly generator?: "cpu" | "cuda";
  readonly prompt_syntax?: "plain" | "weighted";
  readonly timestep_spacing?: string;
  readonly few_step?: true;
  readonly loras?: readonly { readonly name: string; readonly scale: number }[];
  readonly seed_resize_from?: readonly [height: number, width: number];
}

/** Spacings of the web UI that mean the sampler's own. */
const OWN_SPACINGS: ReadonlySet<string> = new Set(["automatic", "uniform", "normal"]);

/** The request that makes such a picture. Values that are none are left out; the server checks the rest. */
export function settingsOf({ prompt, negativePrompt, fields }: Infotext): SettingsInPicture {
  const number = (name: string): number | undefined => {
    const text = fields.get(name);
    return text !== undefined && /^-?\d{1,9}(\.\d{1,17})?$/.test(text) ? Number(text) : undefined;
  };
  const seed = (name: string) => /^\d{1,20}$/.exec(fields.get(name) ?? "")?.[0];
  const [width, height] = sizeIn(fields.get("Size"));
  const [resizedWidth, resizedHeight] = sizeIn(fields.get("Seed resize from"));
  const skip = number("Clip skip");
  const spacing = fields.get("Schedule type")?.toLowerCase().replace(/\s+/g, "_");
  const ours = fields.get("Prompt syntax");
  const settings = {
    prompt,
    negative_prompt: negativePrompt === "" ? undefined : negativePrompt,
    num_inference_steps: number("Steps"),
    guidance_scale: number("CFG scale"),
    scheduler: (fields.get("Scheduler") ?? fields.get("Sampler"))?.slice(0, MAX_NAME),
    sigma_schedule: spacing === undefined || OWN_SPACINGS.has(spacing) ? undefined : spacing,
    seed: seed("Seed"),
    width,
    height,
    strength: number("Denoising strength"),
    // The web UI counts the last layer, too.
    clip_skip: skip === undefined || skip < 2 ? undefined : skip - 1,
    subseed: seed("Variation seed"),
    subseed_strength: number("Variation seed strength"),
    eta: number("Eta"),
    guidance_rescale: number("CFG rescale"),
    // Without a word of it the web UI has drawn the noise on the GPU. A text of no program says nothing.
    generator: fields.size === 0 ? undefined : fields.get("RNG") === "CPU" ? ("cpu" as const) : ("cuda" as const),
    prompt_syntax: fields.size === 0 ? undefined : ours === "plain" ? ("plain" as const) : ("weighted" as const),
    timestep_spacing: fields.get("Timestep spacing")?.slice(0, MAX_NAME),
    few_step: fields.get("Few step") === "true" ? (true as const) : undefined,
    loras: lorasIn(fields.get("LoRAs")),
    seed_resize_from:
      resizedHeight === undefined || resizedWidth === undefined ? undefined : ([resizedHeight, resizedWidth] as const),
  };
  return Object.fromEntries(
    Object.entries(settings).filter(([, value]) => value !== undefined),
  ) as unknown as SettingsInPicture;
}

/** `512x768` */
function sizeIn(text: string = ""): [width?: number, height?: number] {
  const sides = /^(\d{1,5})x(\d{1,5})$/.exec(text);
  return sides === null ? [] : [Number(sides[1]), Number(sides[2])];
}

/** LoRAs of one text that are read. */
const MAX_LORAS = 8;

/** `ink:0.8, styles/dots:1` */
function lorasIn(text: string = ""): SettingsInPicture["loras"] {
  const loras = text.split(", ", MAX_LORAS).flatMap((part) => {
    const [, name, scale] = /^(.{1,1024}):(-?\d{1,3}(?:\.\d{1,17})?)$/.exec(part) ?? [];
    return name === undefined ? [] : [{ name, scale: Number(scale) }];
  });
  return loras.length === 0 ? undefined : loras;
}
