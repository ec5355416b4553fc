import { Command } from "commander";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { generationFields } from "../src/engine/request.ts";
import { fieldsOf } from "../src/engine/request-fields.ts";
import { parseGeneration } from "../src/engine/request-parsing.ts";
import { inFlags } from "./checks.ts";
import { fieldsInFlags, flagOf, withGenerationFlags } from "./generation-flags.ts";

const PROMPT = { prompt: "a lake", image: new Uint8Array(1) };

/** Fields that are lists, as a flag has them. */
const LISTS: Readonly<Record<string, { readonly text: string; readonly value: object }>> = {
  sigmas: { text: "14.6,2,0", value: [14.6, 2, 0] },
  timesteps: { text: "999,500", value: [999, 500] },
  original_size: { text: "1024x768", value: [1024, 768] },
  crops_coords_top_left: { text: "0,64", value: [0, 64] },
  target_size: { text: "512, 512", value: [512, 512] },
  outpaint: { text: "8,0,16,24", value: { left: 8, top: 0, right: 16, bottom: 24 } },
  seed_resize_from: { text: "512,768", value: [512, 768] },
};

/** The fields that a command line sets. */
function fieldsFrom(args: readonly string[], schema?: z.ZodObject) {
  const command = withGenerationFlags(new Command(), schema)
    .exitOverride()
    .configureOutput({ writeErr() {} });
  return fieldsInFlags({ ...command.parse([...args], { from: "user" }).opts() }, schema);
}

describe("flags of a request's fields", () => {
  it("a field has a flag of its own, is said in another way, or is only for the wire", () => {
    const flags = withGenerationFlags(new Command()).options.map(({ long }) => long);
    const others = Object.keys(generationFields.shape).filter((name) => !flags.includes(flagOf(name)));
    expect(Object.fromEntries(others.map((name) => [name, flagOf(name)]))).toEqual({
      prompt: "the prompt",
      width: "--size",
      height: "--size",
      image_size: "--size",
      image: "--image",
      image_url: undefined,
      mask: "--mask",
      mask_url: undefined,
      mask_image_url: undefined,
      loras: "--lora",
      preview_max_fps: undefined,
      preview_size: undefined,
      preview_format: undefined,
      preview_quality: undefined,
      output_format: "--output",
      request_id: undefined,
      input_id: undefined,
    });
    expect(flags).toHaveLength(Object.keys(generationFields.shape).length - others.length);
    expect(new Set(flags).size).toBe(flags.length);
  });

  it("each takes the field's own values to the field", () => {
    const values = [...fieldsOf(generationFields)].flatMap(([name, { kind, choices, range }]): [string, unknown][] => {
      if (kind === "number") return [[name, Number(/ to (.*)/.exec(range)![1])]];
      return [[name, kind === "boolean" ? true : (choices?.at(-1) ?? LISTS[name]?.text ?? "7")]];
    });
    const known = withGenerationFlags(new Command()).options.map(({ long }) => long);
    const said = values.filter(([name]) => known.includes(flagOf(name)));
    const args = said.flatMap(([name, value]) => (value === true ? [flagOf(name)!] : [flagOf(name)!, String(value)]));
    const fields = fieldsFrom(args);
    expect(fields).toEqual(Object.fromEntries(said));
    const lists = Object.fromEntries(Object.entries(LISTS).map(([name, { value }]) => [name, value]));
    expect(parseGeneration({ ...PROMPT, ...fields })).toMatchObject({ ...fields, ...lists, seed: 7, subseed: 7 });
  });

  it("a new field is a flag with its meaning, its range and its type", () => {
    const schema = generationFields.extend({
      tile_size: z.int().min(8).max(512).multipleOf(8).default(64).describe("pixels of a `tile`"),
      spacing: z.enum(["wide", "narrow"]).optional().describe("distance of tiles; default: the model's"),
      grain: z.number().gt(0).max(1).optional().describe("noise of a step"),
      mirrored: z.boolean().default(false).describe("mirror the picture"),
      smooth: z.boolean().default(true).describe("without seams"),
      label: z.string().optional().describe("a text in the corner"),
    });
    const help = withGenerationFlags(new Command(), schema).options.slice(-6);
    expect(help.map(({ flags, description }) => `${flags}: ${description}`)).toEqual([
      "--tile-size <number>: pixels of a tile; 8 to 512, multiples of 8; default: 64",
      "--spacing <wide|narrow>: distance of tiles; default: the model's",
      "--grain <number>: noise of a step; above 0 to 1",
      "--mirrored: mirror the picture",
      "--no-smooth: without seams",
      "--label <text>: a text in the corner",
    ]);
    const args = "--tile-size 16 --spacing wide --grain 0.5 --mirrored --no-smooth --label x --steps 3".split(" ");
    const fields = { tile_size: 16, spacing: "wide", grain: 0.5, mirrored: true, smooth: false, label: "x" };
    expect(fieldsFrom(args, schema)).toEqual({ ...fields, num_inference_steps: 3 });
    expect(() => fieldsFrom(["--tile-size", "large"], schema)).toThrow(/must be a number/);
  });

  it("a complaint about a field names its flag", () => {
    const complaintOf = (fields: object): string => {
      try {
        parseGeneration({ ...PROMPT, ...fields });
      } catch (error) {
        return (inFlags(error) as Error).message;
      }
      return "";
    };
    expect(complaintOf({ num_inference_steps: 0 })).toMatch(/^--steps should be greater than or equal to 1$/);
    expect(complaintOf({ generator: "gpu" })).toMatch(/^--generator should be one of 'cpu', 'cuda'$/);
    expect(complaintOf({ width: 7, height: 7 })).toMatch(/^--size should be greater than or equal to 64\n--size /);
    for (const [name, { kind }] of fieldsOf(generationFields)) {
      const flag = flagOf(name);
      if (kind === "number" && flag !== undefined) expect(complaintOf({ [name]: -5 })).toContain(`${flag} should be `);
    }
  });
});
