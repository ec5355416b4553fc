/**
 * What the fields of a schema are, for those who have them as text: a query, a form, the flags of a command. The schema
 * stays the only list; a new field of it needs no other.
 */
import { z } from "zod";

/** `other`: a list, an object, a choice of several types; text is left to the schema. */
export type FieldKind = "number" | "boolean" | "text" | "other";

/** The kind of each field. */
export function fieldsOf(schema: z.ZodObject): ReadonlyMap<string, FieldKind> {
  return new Map(Object.entries(schema.shape).map(([name, field]) => [name, kindOf(field)]));
}

function kindOf(field: z.core.$ZodType): FieldKind {
  if (field instanceof z.ZodOptional || field instanceof z.ZodDefault || field instanceof z.ZodNullable) {
    return kindOf(field.unwrap());
  }
  if (field instanceof z.ZodNumber) return "number";
  if (field instanceof z.ZodBoolean) return "boolean";
  return field instanceof z.ZodString || field instanceof z.ZodEnum ? "text" : "other";
}

/** A text as a value of its kind, if it looks like one; others stay as they are, for the schema to refuse. */
export function fromText(text: string, kind: FieldKind | undefined): unknown {
  if (kind === "boolean" && (text === "true" || text === "false")) return text === "true";
  if (kind !== "number" || text.trim() === "") return text;
  const number = Number(text);
  return Number.isNaN(number) ? text : number;
}
