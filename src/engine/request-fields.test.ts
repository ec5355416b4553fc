import { describe, expect, it } from "vitest";
import { z } from "zod";
import { generationFields } from "./request.ts";
import { fieldsOf, fromText } from "./request-fields.ts";

describe("fields of a schema", () => {
  it("are known by kind, whatever is around their type", () => {
    const schema = z.object({
      steps: z.int().min(1).optional(),
      scale: z.number().default(1).nullable(),
      tiled: z.boolean().default(false),
      name: z.string().optional(),
      format: z.enum(["a", "b"]),
      seed: z.union([z.int(), z.string()]),
      loras: z.array(z.string()).default([]),
      bytes: z.custom<Uint8Array>((value) => value instanceof Uint8Array).optional(),
    });
    expect(Object.fromEntries([...fieldsOf(schema)].map(([name, { kind }]) => [name, kind]))).toEqual({
      steps: "number",
      scale: "number",
      tiled: "boolean",
      name: "text",
      format: "text",
      seed: "other",
      loras: "other",
      bytes: "other",
    });
  });

  it("say what is accepted", () => {
    const schema = z.object({
      steps: z.int().min(1).max(200),
      side: z.int().min(64).max(128).multipleOf(8),
      strength: z.number().gt(0).max(1).default(0.8).describe("how much"),
      scheduler: z.string().optional().describe("a name; of many; default: the model's"),
      most: z.number().max(3),
      least: z.int().min(2).nullable(),
      any: z.int(),
      format: z.enum(["a", "b"]).optional(),
    });
    const fields = fieldsOf(schema);
    expect(Object.fromEntries([...fields].map(([name, { range }]) => [name, range]))).toEqual({
      steps: "1 to 200",
      side: "64 to 128, multiples of 8",
      strength: "above 0 to 1",
      scheduler: "",
      most: "at most 3",
      least: "2 or more",
      any: "",
      format: "",
    });
    expect(fields.get("format")?.choices).toEqual(["a", "b"]);
    expect(fields.get("strength")).toMatchObject({ meaning: "how much", usual: "0.8" });
    expect(fields.get("scheduler")).toMatchObject({ meaning: "a name; of many", usual: "the model's" });
  });

  it("of a request all have a meaning, and what is accepted at an edge is the schema's", () => {
    for (const [name, { kind, meaning, range }] of fieldsOf(generationFields)) {
      expect(meaning, name).not.toBe("");
      if (kind !== "number") continue;
      const [least, most] = /^(above )?(-?[\d.]+) to ([\d.]+)/.exec(range)!.slice(2).map(Number) as [number, number];
      const field = generationFields.shape[name as keyof typeof generationFields.shape];
      expect(field.safeParse(most).success, name).toBe(true);
      expect(field.safeParse(most + 1).success, name).toBe(false);
      expect(field.safeParse(least).success, name).toBe(!range.startsWith("above"));
      expect(field.safeParse(least - 1).success, name).toBe(false);
    }
  });
});

describe("a text", () => {
  it("becomes a value where it looks like one of its kind", () => {
    expect(fromText("12", "number")).toBe(12);
    expect(fromText("true", "boolean")).toBe(true);
    expect(fromText("false", "boolean")).toBe(false);
    expect(fromText("12", "text")).toBe("12");
    expect(fromText("12", "other")).toBe("12");
    expect(fromText("12", undefined)).toBe("12");
  });

  it("stays as it is otherwise, so that the schema says what is wrong", () => {
    for (const text of ["", " ", "twelve", "1,5"]) expect(fromText(text, "number")).toBe(text);
    for (const text of ["", "1", "yes", "TRUE"]) expect(fromText(text, "boolean")).toBe(text);
  });
});
