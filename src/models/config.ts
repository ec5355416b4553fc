/** A component's `config.json`, checked: an option we do not build is refused by name rather than ignored. */

import { z } from "zod";
import { quoted } from "../platform/quoted.ts";

/** A model's configuration is wrong, or asks for something that is not supported. Safe to show to a client. */
export class ModelConfigError extends Error {
  override readonly name = "ModelConfigError";
  readonly code = "model-config";
  readonly component: string;
  readonly field: string;

  constructor(component: string, field: string, reason: string) {
    const file = component.endsWith(".json") ? component : `${component}/config.json`;
    super(`${file}: ${field}: ${reason}`);
    this.component = component;
    this.field = field;
  }
}

/**
 * Sizes in a config, with bounds far beyond any model there is: a folder is untrusted, and a billion layers would be
 * recorded for ever.
 */
export const size = {
  channels: z.number().int().positive().max(65_536),
  vocabulary: z.number().int().positive().max(4_000_000),
  /** Layers of a text encoder, or of a transformer in a UNet: published ones have up to 48. */
  layers: z.number().int().positive().max(256),
  /** Layers of a level of a UNet or autoencoder: published ones have 1 to 3. */
  layersOfLevel: z.number().int().positive().max(32),
  /** Residual blocks of a level, which may have none. */
  blocks: z.number().int().nonnegative().max(32),
  /** Levels of resolution: beyond this the latents of no picture could be halved so often. */
  levels: <T extends z.ZodType>(entry: T) => z.array(entry).min(1).max(12),
};

/** Other numbers in a config, which would otherwise show as pictures of NaN. */
export const number = {
  /** The number that a normalisation adds to a variance: 1e-5 or 1e-6. Smaller ones are no normal numbers in f32. */
  eps: z.number().min(1e-30).max(1),
  /** Latents are multiplied or divided by it: 0.13 to 1. */
  scale: z.number().min(1e-4).max(1e4),
  /** A shift of latents, or of colours: 0 to 1. */
  shift: z.number().min(-1e4).max(1e4),
};

/** Adds an issue where group norms of `groups` groups do not fit all of these channels. */
export function checkGroups(
  config: { readonly block_out_channels: readonly number[]; readonly norm_num_groups: number },
  context: z.RefinementCtx,
): void {
  const { block_out_channels: levels, norm_num_groups: groups } = config;
  const odd = levels.find((channels) => channels % groups !== 0);
  if (odd === undefined) return;
  const message = `${odd} channels do not divide into ${groups} groups`;
  context.addIssue({ code: "custom", path: ["norm_num_groups"], message });
}

/** `config` as `schema` describes it. Throws `ModelConfigError` naming the first field at fault. */
export function parseConfig<T extends z.ZodType>(component: string, schema: T, config: unknown): z.infer<T> {
  const parsed = schema.safeParse(config);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new ModelConfigError(component, issue!.path.join(".") || "(root)", wordsOf(issue!, config));
}

/** A finding of zod in a sentence's words: the file's value, and what is supported. */
function wordsOf(issue: z.core.$ZodIssue, config: unknown): string {
  const value = issue.path.reduce<unknown>((inside, part) => (inside as Record<PropertyKey, unknown>)?.[part], config);
  const found = value === undefined ? "is missing" : `is ${quote(value)}`;
  switch (issue.code) {
    case "invalid_value":
      return `${found}, which is not supported; supported: ${issue.values.map((one) => String(one)).join(", ")}`;
    case "invalid_type": {
      const isNone = issue.expected === "null";
      return isNone
        ? `${found}, which is not supported; leave it out`
        : `${found}, where ${nouns[issue.expected] ?? issue.expected} is expected`;
    }
    case "too_small":
      if (issue.inclusive === false) return `${found}, and must be above ${issue.minimum}`;
      return `${found}, and ${issue.minimum} is the least that is supported`;
    case "too_big":
      return `${found}, and ${issue.maximum} is the most that is supported`;
    case "invalid_union":
      return `${found}, which is not supported`;
    default:
      return issue.message;
  }
}

const nouns: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  string: "a text",
  boolean: "true or false",
  array: "a list",
};

/** A value of the file's own, cut short: a file may hold a megabyte of text. */
function quote(value: unknown): string {
  const text = typeof value === "string" ? quoted(value) : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
