/**
 * `GET /openapi.json`: the routes of this server, described (OpenAPI 3.1). Bodies are derived from the zod schemas that
 * check them, so that document and server cannot differ; answers are schemas too, which the tests hold the answers to.
 */
import { z } from "zod";
import { LIMITS } from "../../src/engine/request.ts";
import type { RouteDescription } from "../route.ts";
import type { Json, NamedSchema } from "./describe.ts";

export interface DocumentOptions {
  readonly version: string;
  /** True if credentials are asked for. */
  readonly secured: boolean;
  readonly routes: readonly RouteDescription[];
}

/** The document, as JSON. */
export function openapiDocument({ version, secured, routes }: DocumentOptions): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: operation(route, secured) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Daguerre",
      version,
      description: "Diffusion over HTTP: pictures while they form. Events and limits are told in the README.",
      license: { name: "MIT", identifier: "MIT" },
    },
    paths,
    components: {
      schemas: schemasOf(routes),
      ...(secured && {
        securitySchemes: { key: { type: "http", scheme: "bearer", description: "a key, or a token for browsers" } },
      }),
    },
  };
}

function operation({ about, scope }: RouteDescription, secured: boolean): Json {
  const { tag, summary, parameters, body, answers } = about;
  return {
    tags: [tag],
    summary,
    ...(parameters && { parameters }),
    ...(body && {
      requestBody: {
        required: body.optional !== true,
        content: { [body.type ?? "application/json"]: { schema: reference(body.schema) } },
      },
    }),
    responses: mapValues(answers, ({ description, schema, type = "application/json", or }) => ({
      description,
      ...((schema ?? (type !== "application/json" ? type : undefined)) !== undefined && {
        content: {
          [type]: { schema: schema === undefined ? { type: "string" } : reference(schema) },
          ...(or && { [or.type]: { schema: reference(or.schema) } }),
        },
      }),
    })),
    ...(secured && scope !== "open" && { security: [{ key: [] }] }),
  };
}

const reference = ({ name }: NamedSchema): Json => ({ $ref: `#/components/schemas/${name}` });

function mapValues<T extends object>(object: T, change: (value: T[keyof T]) => unknown): Json {
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value as T[keyof T])]));
}

/** Every schema that a route refers to: bodies first, then answers. */
function schemasOf(routes: readonly RouteDescription[]): Json {
  const schemas: Json = {};
  for (const { about } of routes)
    if (about.body !== undefined) schemas[about.body.schema.name] ??= bodyOf(about.body.schema);
  for (const { about } of routes) {
    for (const { schema, or } of Object.values(about.answers)) {
      for (const named of [schema, or?.schema]) {
        if (named !== undefined) schemas[named.name] ??= jsonSchema(named.schema, "output");
      }
    }
  }
  return schemas;
}

const ID: Json = {
  anyOf: [
    { type: "string", minLength: 1, maxLength: LIMITS.idCharacters, pattern: "^[\\w.:-]*$" },
    { type: "integer" },
  ],
};
/** Parts of our schemas that JSON Schema cannot express, written by hand: bytes, and numbers beyond 2^53. */
const BY_HAND: Readonly<Record<string, Json>> = {
  request_id: { ...ID, description: "the job's id; a number is its decimal text" },
  input_id: { ...ID, description: "carried through to every event" },
  seed: {
    anyOf: [
      { type: "integer", minimum: 0, maximum: Number.MAX_SAFE_INTEGER },
      { type: "string", pattern: "^\\d{1,20}$", description: `decimal, up to ${LIMITS.seed}` },
    ],
  },
  image: { type: "string" },
  image_url: { type: "string" },
  mask: { type: "string" },
  mask_url: { type: "string" },
  mask_image_url: { type: "string" },
};

function bodyOf({ schema, byHand }: NamedSchema): Json {
  const made = jsonSchema(schema, "input");
  const properties = made.properties as Json | undefined;
  for (const [name, instead] of Object.entries({ ...BY_HAND, ...byHand })) {
    const property = properties?.[name] as Json | undefined;
    if (property !== undefined) properties![name] = { description: property.description, ...instead };
  }
  return made;
}

function jsonSchema(schema: z.ZodType, io: "input" | "output"): Json {
  const made = z.toJSONSchema(schema, {
    io,
    unrepresentable: "any",
    override: ({ jsonSchema }) => forGenerators(jsonSchema, io),
  }) as Json;
  delete made.$schema;
  return made;
}

/**
 * Writes a schema so that generators of clients read it right. Some write code that does not parse for `const` beside
 * `additionalProperties`, and a list of one says the same. Others take a field with a `default` for one that is always
 * there, in requests as well, so a request's schema says its defaults in words.
 */
function forGenerators(schema: z.core.JSONSchema.BaseSchema, io: "input" | "output"): void {
  if (schema.const !== undefined) {
    schema.enum = [schema.const];
    delete schema.const;
  }
  if (schema.default === undefined || io === "output") return;
  schema.description = [schema.description, `left out: ${JSON.stringify(schema.default)}`].filter(Boolean).join("; ");
  delete schema.default;
}
