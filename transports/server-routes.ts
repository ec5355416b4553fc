/** A server's account of itself: its page, its health, its figures, its routes. */
import type { Context, Handler } from "hono";
import { z } from "zod";
import type { ModelState } from "../src/engine/contract.ts";
import { listSchedulers } from "../src/engine/schedulers.ts";
import type { ServedModel } from "./gate/model-choice.ts";
import { baseAddress } from "./http/address.ts";
import { FixedFile } from "./http/fixed-file.ts";
import type { Metrics } from "./observe/metrics.ts";
import { COMMON, CREDENTIAL, type NamedSchema } from "./openapi/describe.ts";
import { openapiDocument } from "./openapi/document.ts";
import { docsPage } from "./openapi/page.ts";
import { playgroundHandlers } from "./playground.ts";
import type { Route, RouteDescription } from "./route.ts";
import { asciiJson } from "./wire/json-text.ts";

export interface ServerRoutesOptions {
  readonly health: () => Record<string, unknown>;
  /** Why no work is taken at this moment; undefined when it is. */
  readonly unready: () => string | undefined;
  /** Names of the LoRAs that a request may use. */
  readonly loras: () => Promise<readonly string[]>;
  /** The models that a client may use, as they stand. */
  readonly models: (c: Context) => readonly (ServedModel & Partial<ModelState>)[];
  readonly controls: () => Promise<readonly string[]>;
  readonly metrics?: Metrics;
  /** True if credentials are asked for. */
  readonly secured: boolean;
  /** Every route of the app; asked when there are all of them. */
  readonly descriptions: () => readonly RouteDescription[];
  /** The address that a client has asked for. */
  readonly addressOf: (c: Context) => URL;
}

const HEALTH: NamedSchema = { name: "Health", schema: z.looseObject({ status: z.literal("ok") }) };
const READY: NamedSchema = {
  name: "Ready",
  schema: z.object({ status: z.enum(["ready", "unready"]), reason: z.string().optional() }),
};

const modelSchema = z.object({
  name: z.string(),
  description: z.string().optional(),
  default: z.boolean().describe("a request that names no model means this one"),
  state: z.enum(["loaded", "loading", "absent"]),
  bytes: z.int().optional().describe("bytes that it and its plans take on the device"),
  defaults: z.object({
    width: z.int(),
    height: z.int(),
    num_inference_steps: z.int(),
    guidance_scale: z.number().optional(),
  }),
  few_step: z
    .object({ num_inference_steps: z.int(), guidance_scale: z.number() })
    .optional()
    .describe("defaults of a request with few_step"),
  keep_alive_seconds: z.number().optional().describe("seconds without a request after which it leaves the device"),
  preload: z.boolean().optional().describe("it is loaded at the start"),
  loads: z.int().optional().describe("how often it was loaded"),
  evictions: z.int().optional().describe("how often it left the device"),
});
const MODELS: NamedSchema = { name: "ServedModels", schema: z.object({ models: z.array(modelSchema) }) };

const JSON_TYPE = { "Content-Type": "application/json" };

const CONTROLS: NamedSchema = {
  name: "Controls",
  schema: z.object({ controls: z.array(z.object({ name: z.string() })) }),
};
const LORAS: NamedSchema = { name: "Loras", schema: z.object({ loras: z.array(z.object({ name: z.string() })) }) };

const SCHEDULERS: NamedSchema = {
  name: "Schedulers",
  schema: z.object({
    schedulers: z.array(z.object({ name: z.string(), aliases: z.array(z.string()), class_name: z.string() })),
    sigma_schedules: z.array(z.string()),
  }),
};

export function serverRoutes(options: ServerRoutesOptions): Route[] {
  return [
    ...pageRoutes(options),
    ...stateRoutes(options),
    modelRoute(options),
    loraRoute(options),
    controlRoute(options),
    SCHEDULER_ROUTE,
    ...documentRoutes(options),
  ];
}

/** Browsers get the page, where it is built; curl gets words. */
function pageRoutes({ addressOf, descriptions }: ServerRoutesOptions): Route[] {
  const { page, asset } = playgroundHandlers();
  return [
    {
      method: "GET",
      path: "/",
      scope: "open",
      about: {
        tag: "server",
        summary: "The playground for browsers, a few words for others",
        answers: { 200: { description: "a page, or text", type: "text/html" } },
      },
      handlers: [page, (c) => c.text(hello(addressOf(c), descriptions()))],
    },
    { method: "GET", path: "/playground/:file", scope: "open", handlers: [asset] },
    // Every browser asks for it.
    { method: "GET", path: "/favicon.ico", scope: "open", handlers: [(c) => c.notFound()] },
  ];
}

function stateRoutes({ health, unready, metrics }: ServerRoutesOptions): Route[] {
  const ready: Handler = (c) => {
    const reason = unready();
    return reason === undefined ? c.json({ status: "ready" }) : c.json({ status: "unready", reason }, 503);
  };
  const routes: Route[] = [
    {
      method: "GET",
      path: "/health",
      scope: "open",
      about: {
        tag: "server",
        summary: "What runs here",
        answers: { 200: { description: "version, adapter, model", schema: HEALTH } },
      },
      handlers: [(c) => c.json({ status: "ok", ...health() })],
    },
    {
      method: "GET",
      path: "/ready",
      scope: "open",
      about: {
        tag: "server",
        summary: "Whether a picture could be made now",
        answers: { 200: { description: "yes", schema: READY }, 503: { description: "no, and why", schema: READY } },
      },
      handlers: [ready],
    },
  ];
  if (metrics === undefined) {
    return [...routes, { method: "GET", path: "/metrics", scope: "metrics", handlers: [(c) => c.notFound()] }];
  }
  return [
    ...routes,
    {
      method: "GET",
      path: "/metrics",
      scope: "metrics",
      about: {
        tag: "server",
        summary: "Figures for Prometheus",
        answers: { 200: { description: "text exposition format", type: "text/plain" }, ...CREDENTIAL },
      },
      handlers: [metrics.route],
    },
  ];
}

function modelRoute({ models }: ServerRoutesOptions): Route {
  return {
    method: "GET",
    path: "/models",
    scope: "run",
    about: {
      tag: "server",
      summary: "The models that a request may name, and which of them are on the device",
      answers: { 200: { description: "the default first", schema: MODELS }, ...COMMON },
    },
    // ASCII alone, as for LoRAs.
    handlers: [(c) => c.body(asciiJson({ models: models(c).map(described) }), 200, JSON_TYPE)],
  };
}

function described(model: ServedModel & Partial<ModelState>): z.infer<typeof modelSchema> {
  const { isDefault = true, state = "loaded", bytes, fewStep, keepAlive, preload, loads, evictions } = model;
  return {
    name: model.name,
    ...(model.description !== undefined && { description: model.description }),
    default: isDefault,
    state,
    bytes,
    defaults: {
      width: model.defaultWidth,
      height: model.defaultHeight,
      num_inference_steps: model.defaultSteps,
      guidance_scale: model.defaultGuidanceScale,
    },
    ...(fewStep && { few_step: { num_inference_steps: fewStep.steps, guidance_scale: fewStep.guidanceScale } }),
    keep_alive_seconds: keepAlive,
    preload,
    loads,
    evictions,
  };
}

function loraRoute({ loras }: ServerRoutesOptions): Route {
  const summary = "The LoRAs that a request may name";
  return namesRoute("/loras", summary, LORAS, async () => ({ loras: named(await loras()) }));
}

function controlRoute({ controls }: ServerRoutesOptions): Route {
  const summary = "The ControlNets and adapters that a request may name";
  return namesRoute("/controls", summary, CONTROLS, async () => ({ controls: named(await controls()) }));
}

function named(names: readonly string[]) {
  return names.map((name) => ({ name }));
}

function namesRoute(path: string, summary: string, schema: NamedSchema, list: () => Promise<object>): Route {
  return {
    method: "GET",
    path,
    scope: "run",
    about: {
      tag: "server",
      summary,
      answers: { 200: { description: "their names, sorted", schema }, ...COMMON },
    },
    handlers: [
      // ASCII alone: a file's name may hold marks that turn the direction of a terminal's text.
      async (c) => c.body(asciiJson(await list()), 200, JSON_TYPE),
    ],
  };
}

const SCHEDULER_ROUTE: Route = {
  method: "GET",
  path: "/schedulers",
  scope: "run",
  about: {
    tag: "server",
    summary: "The schedulers that a request may name, and the ways to space their levels",
    answers: { 200: { description: "names, other names, diffusers' classes", schema: SCHEDULERS }, ...COMMON },
  },
  handlers: [(c) => c.json(listSchedulers())],
};

function documentRoutes({ health, secured, descriptions, addressOf }: ServerRoutesOptions): Route[] {
  const document = () => {
    const version = String(health().version ?? "0.0.0");
    return openapiDocument({ version, secured, routes: descriptions() });
  };
  // Clients mostly ask under one address, and to write and compress it takes milliseconds.
  let written: { readonly at: string; readonly file: Promise<FixedFile> } | undefined;
  const page = docsPage(document);
  return [
    {
      method: "GET",
      path: "/openapi.json",
      scope: "open",
      about: { tag: "server", summary: "This document", answers: { 200: { description: "OpenAPI 3.1" } } },
      handlers: [
        async (c) => {
          const at = baseAddress(addressOf(c), "/openapi.json");
          if (written?.at !== at) {
            const text = JSON.stringify({ ...document(), servers: [{ url: at }] });
            const file = FixedFile.of(new TextEncoder().encode(text), { "Content-Type": "application/json" });
            written = { at, file };
          }
          return (await written.file).answer(c);
        },
      ],
    },
    {
      method: "GET",
      path: "/docs",
      scope: "open",
      about: {
        tag: "server",
        summary: "This document as a page",
        answers: { 200: { description: "a page", type: "text/html" } },
      },
      handlers: [page],
    },
  ];
}

/** @param address where the app is, whatever it is mounted below */
function hello(address: URL, routes: readonly RouteDescription[]): string {
  const origin = baseAddress(address, "/");
  const lines = routes
    .filter(({ about }) => about.tag === "pictures" || about.tag === "jobs")
    .map(({ method, path, about }) => `${method.padEnd(7)}${path.padEnd(15)} ${about.summary}\n`);
  return `Daguerre is up. Watch a picture develop:

  curl -N ${origin}/stream -H 'content-type: application/json' -d '{"prompt":"northern lights over a lake"}'

${lines.join("")}
All routes: ${origin}/docs
`;
}
