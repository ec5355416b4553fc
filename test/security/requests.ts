/**
 * Random requests, from the schema of requests itself: each field right, at the edge of what it may be, or wrong; names
 * right, misspelt or unheard of. Requests that would be right and dear (large pictures, many steps) are made small: how
 * long a software GPU draws is not what is attacked.
 */
import fc from "fast-check";
import { z } from "zod";
import { generationSchema } from "../../src/engine/request.ts";

type JsonSchema = {
  type?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  maxLength?: number;
  enum?: unknown[];
  anyOf?: JsonSchema[];
  items?: JsonSchema;
  properties?: Record<string, JsonSchema>;
};

const { properties = {} } = z.toJSONSchema(generationSchema, { io: "input", unrepresentable: "any" }) as JsonSchema;

/** The names of a request's fields. */
export const FIELDS = Object.keys(properties);

/** The most that a right request may cost. */
const CAPS: Readonly<Record<string, number>> = { width: 128, height: 128, num_inference_steps: 2, num_images: 2 };

const WRONG = fc.constantFrom<unknown>(
  null,
  "",
  " ",
  "x",
  "NaN",
  "../../../../etc/passwd",
  "http://169.254.169.254/",
  "data:image/png;base64,",
  "data:image/png;base64,AAAA",
  "data:text/html,<script>alert(1)</script>",
  "\u0000",
  "\ud800",
  "\u202e\u{1f600}".repeat(40),
  "x".repeat(20_000),
  0,
  -0,
  -1,
  0.5,
  1e308,
  -1e308,
  2 ** 53,
  true,
  false,
  [],
  [[]],
  {},
  { $ne: 1 },
  { toString: 1, valueOf: null },
  { length: 1e9 },
  Array.from({ length: 300 }, (_, index) => index),
  Array.from({ length: 30 }, () => ({ name: "x", path: "y" })),
);

function right(schema: JsonSchema): fc.Arbitrary<unknown> {
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  if (schema.anyOf !== undefined) return fc.oneof(...schema.anyOf.map(right));
  const { minimum, exclusiveMinimum, maximum } = schema;
  const low = minimum ?? exclusiveMinimum ?? 0;
  const high = maximum ?? 1_000;
  switch (schema.type) {
    case "integer":
      return fc.integer({ min: Math.max(low, -(2 ** 31)), max: Math.min(high, 2 ** 31) });
    case "number":
      return fc.double({ min: low, max: high, noNaN: true });
    case "string":
      return fc.string({ unit: "grapheme", maxLength: Math.min(schema.maxLength ?? 100, 300) });
    case "boolean":
      return fc.boolean();
    case "array":
      return fc.array(right(schema.items ?? {}), { maxLength: 10 });
    case "object":
      return fc.record(Object.fromEntries(Object.entries(schema.properties ?? {}).map(([at, of]) => [at, right(of)])));
    default:
      return WRONG;
  }
}

function edge({ minimum, exclusiveMinimum, maximum, maxLength, anyOf }: JsonSchema): fc.Arbitrary<unknown> {
  if (anyOf !== undefined) return fc.oneof(...anyOf.map(edge));
  const numbers = [minimum, exclusiveMinimum, maximum].filter((value) => value !== undefined);
  const around = numbers.flatMap((value) => [value - 1, value - 1e-9, value, value + 1e-9, value + 1, String(value)]);
  const texts =
    maxLength === undefined ? [] : ["a".repeat(maxLength), "a ".repeat(maxLength / 2), "灯".repeat(maxLength + 1)];
  const all = [...around, ...texts];
  return all.length === 0 ? WRONG : fc.constantFrom<unknown>(...all);
}

const field = fc.constantFrom(...FIELDS).chain((name) => {
  const schema = properties[name]!;
  const value = fc.oneof({ weight: 4, arbitrary: right(schema) }, { weight: 2, arbitrary: edge(schema) }, WRONG);
  return fc.tuple(fc.constant(name), value);
});

const camel = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
const misspelt = fc
  .constantFrom(...FIELDS)
  .chain((name) =>
    fc.constantFrom(
      camel(name),
      name.toUpperCase(),
      name.replaceAll("_", "-"),
      name.replaceAll("_", ""),
      `${name}_`,
      ` ${name}`,
      `${name}\u0000`,
      `${name}[]`,
      name.slice(1),
      "__proto__",
      "constructor",
      "toString",
      "hasOwnProperty",
      "",
      name.repeat(50),
    ),
  );

/** A request's fields with their values, as pairs: a name may come twice. */
export const pairs: fc.Arbitrary<[string, unknown][]> = fc
  .tuple(
    fc.array(field, { maxLength: 8 }),
    fc.oneof({ weight: 2, arbitrary: fc.constant([]) }, fc.array(fc.tuple(misspelt, WRONG), { maxLength: 4 })),
    fc.boolean(),
  )
  .map(([known, unknown, prompt]) => [
    ...(prompt ? ([["prompt", "a lake"]] as [string, unknown][]) : []),
    ...known.map(([name, value]): [string, unknown] => [name, cheap(name, value)]),
    ...unknown,
  ])
  .map((all) => [
    ...all,
    // Left out, they are the model's own.
    ...Object.entries(CAPS).flatMap(([name, value]): [string, unknown][] =>
      all.some(([known]) => known === name) ? [] : [[name, Math.min(value, 64)]],
    ),
  ]);

function cheap(name: string, value: unknown): unknown {
  const cap = CAPS[name];
  return cap !== undefined && typeof value === "number" && value > cap && value <= properties[name]!.maximum!
    ? cap
    : value;
}

/** As an object; of a name that comes twice the last counts. */
export const bodies: fc.Arbitrary<Record<string, unknown>> = pairs.map(objectOf);

export function objectOf(all: readonly (readonly [string, unknown])[]): Record<string, unknown> {
  // `fromEntries` defines what assignment would take for a prototype.
  return Object.fromEntries(all);
}

/** As JSON text that says every pair, the same name twice included. */
export function jsonOf(all: readonly (readonly [string, unknown])[]): string {
  return `{${all.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(",")}}`;
}

/** JSON text with something of it changed, cut or doubled. */
export const brokenJson: fc.Arbitrary<string> = fc
  .tuple(
    pairs.map(jsonOf),
    fc.nat(),
    fc.constantFrom("", '"', "{", "}", "[", "]", ",", ":", "\\", "\u0000", "1e", "\ufeff", "tru"),
  )
  .map(([text, at, put]) => {
    const place = at % (text.length + 1);
    return text.slice(0, place) + put + text.slice(place + (at % 3));
  });
