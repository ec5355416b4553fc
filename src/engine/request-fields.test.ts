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
    });
    expect(Object.fromEntries(fieldsOf(schema))).toEqual({
      steps: "number",
      scale: "number",
      tiled: "boolean",
      name: "text",
      format: "text",
      seed: "other",
      loras: "other",
    });
  });

  it("leave no number or boolean of a request unknown", () => {
    const kinds = fieldsOf(generationFields);
    const properties = z.toJSONSchema(generationFields, { io: "input", unrepresentable: "any" }).properties ?? {};
    for (const [name, { type }] of Object.entries(properties) as [string, { type?: string }][]) {
      const isNumber = type === "number" || type === "integer";
      expect(kinds.get(name) === "number", name).toBe(isNumber);
      expect(kinds.get(name) === "boolean", name).toBe(type === "boolean");
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
