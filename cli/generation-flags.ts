/**
 * The flags of `daguerre generate` that follow from the schema of a request. A new field of it is a flag, with its meaning,
 * its range and its type, unless `OTHER_WAYS` names it.
 */
import { type Command, Option } from "commander";
import type { z } from "zod";
import { type GenerationInput, generationFields } from "../src/engine/request.ts";
import { type Field, fieldsOf } from "../src/engine/request-fields.ts";
import { number } from "./flags.ts";

type Name = keyof GenerationInput;

/** Flags that are shorter than their field's name. */
const SHORT_NAMES: { readonly [name in Name]?: string } = {
  negative_prompt: "--negative",
  num_inference_steps: "--steps",
  guidance_scale: "--guidance",
  num_images: "--images",
};

/** Fields that `generate` takes in another way, by that way. */
const OTHER_WAYS: { readonly [name in Name]?: string } = {
  prompt: "the prompt",
  width: "--size",
  height: "--size",
  image_size: "--size",
  image: "--image",
  mask: "--mask",
  loras: "--lora",
  output_format: "--output",
};

/** Fields of clients on the other side of a wire; of those, `model` chooses among models that a server has. */
const WIRE_ONLY: ReadonlySet<string> = new Set([
  "image_url",
  "model",
  "mask_url",
  "mask_image_url",
  "control",
  "ip_adapter",
  "preview_max_fps",
  "preview_size",
  "preview_format",
  "preview_quality",
  "request_id",
  "input_id",
] satisfies Name[]);

/** How a person says a field on the command line: `--steps`; undefined if they cannot. */
export function flagOf(name: string): string | undefined {
  if (WIRE_ONLY.has(name)) return undefined;
  return OTHER_WAYS[name as Name] ?? SHORT_NAMES[name as Name] ?? `--${name.replaceAll("_", "-")}`;
}

/** Adds the flags of all fields that have one of their own. */
export function withGenerationFlags(command: Command, schema: z.ZodObject = generationFields): Command {
  for (const [, option] of optionsOf(schema)) command.addOption(option);
  return command;
}

/** The fields that were set by flags. */
export function fieldsInFlags(
  options: Readonly<Record<string, unknown>>,
  schema: z.ZodObject = generationFields,
): Partial<GenerationInput> {
  const fields = [...optionsOf(schema)].map(([name, option]) => [name, options[option.attributeName()]] as const);
  return Object.fromEntries(fields.filter(([, value]) => value !== undefined));
}

function optionsOf(schema: z.ZodObject): ReadonlyMap<string, Option> {
  const options = new Map<string, Option>();
  for (const [name, field] of fieldsOf(schema)) {
    const flag = flagOf(name);
    if (flag !== undefined && !(name in OTHER_WAYS)) options.set(name, optionOf(flag, field));
  }
  return options;
}

function optionOf(flag: string, { kind, meaning, range, choices, usual }: Field): Option {
  const help = [meaning.replaceAll("`", ""), range, kind !== "boolean" && usual && `default: ${usual}`];
  const text = help.filter(Boolean).join("; ");
  // One that is on unless it is switched off.
  if (kind === "boolean") return new Option(usual === "true" ? flag.replace("--", "--no-") : flag, text);
  const option = new Option(`${flag} <${choices?.join("|") ?? (kind === "number" ? "number" : "text")}>`, text);
  return kind === "number" ? option.argParser(number) : option;
}
