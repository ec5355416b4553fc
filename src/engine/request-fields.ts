/**
 * The fields of a schema, for those who have them as text: a query, a form, the flags of a command, a table of the docs.
 * The schema stays the only list; a new field of it needs no other.
 */
import { z } from "zod";

/** `other`: a list, an object, a choice of several types; text is left to the schema. */
export type FieldKind = "number" | "boolean" | "text" | "other";

export interface Field {
  readonly kind: FieldKind;
  /** From its description; empty if the schema has none. */
  readonly meaning: string;
  /** Numbers that are accepted, as `1 to 200`; empty if there is no bound. */
  readonly range: string;
  /** Values to choose from, if there are few. */
  readonly choices: readonly string[] | undefined;
  /** Its value if it is left out, in words: the schema's, or that at the end of its description (`…; default: the model's`). */
  readonly usual: string;
}

/** Each field by its name, in the order of the schema. */
export function fieldsOf(schema: z.ZodObject): ReadonlyMap<string, Field> {
  const { properties = {} } = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  return new Map(Object.entries(properties).map(([name, property]) => [name, fieldOf(property as JsonField)]));
}

type JsonField = Exclude<z.core.JSONSchema._JSONSchema, boolean>;

const KINDS: Readonly<Record<string, FieldKind>> = {
  integer: "number",
  number: "number",
  boolean: "boolean",
  string: "text",
};

function fieldOf(property: JsonField): Field {
  // A field that may be null is a choice between one type and null.
  const [only, ...others] = property.anyOf?.filter(({ type }) => type !== "null") ?? [];
  const bare = only !== undefined && others.length === 0 ? only : property;
  const [, meaning, usual] = /^(.*?)(?:; default: (.*))?$/s.exec(property.description ?? "")!;
  return {
    kind: KINDS[String(bare.type)] ?? "other",
    meaning: meaning!,
    range: rangeOf(bare),
    choices: bare.enum?.map(String),
    usual: usual ?? String(property.default ?? ""),
  };
}

function rangeOf({ type, minimum, exclusiveMinimum, maximum, multipleOf }: JsonField): string {
  if (type !== "integer" && type !== "number") return "";
  const least = exclusiveMinimum === undefined ? formatBound(minimum) : `above ${exclusiveMinimum}`;
  const most = formatBound(maximum);
  const bounds = least === undefined ? most && `at most ${most}` : most ? `${least} to ${most}` : `${least} or more`;
  return [bounds, multipleOf && `multiples of ${multipleOf}`].filter(Boolean).join(", ");
}

/** Undefined for the edge of what an integer can be in JavaScript, which every integer of a schema has. */
function formatBound(value: number | undefined): string | undefined {
  return value === undefined || Math.abs(value) === Number.MAX_SAFE_INTEGER ? undefined : String(value);
}

/** A text as a value of its kind, if it looks like one; others stay as they are, for the schema to refuse. */
export function fromText(text: string, kind: FieldKind | undefined): unknown {
  if (kind === "boolean" && (text === "true" || text === "false")) return text === "true";
  if (kind !== "number" || text.trim() === "") return text;
  const number = Number(text);
  return Number.isNaN(number) ? text : number;
}
