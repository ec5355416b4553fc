/** Names and lists that the web UI's front ends ask for before they draw; lists of things that are not here are empty. */
import { freemem, totalmem } from "node:os";
import type { Context } from "hono";
import { z } from "zod";
import { listSchedulers, sigmaScheduleLabel } from "../../src/engine/schedulers.ts";
import type { NamedSchema } from "../openapi/describe.ts";
import type { Route } from "../route.ts";
import { asciiJson } from "../wire/json-text.ts";
import { listed } from "./answers.ts";

export interface ListOptions {
  /** The name of the model that is served. */
  readonly model: string;
  readonly loras: () => Promise<readonly string[]>;
  readonly embeddings: () => Promise<readonly string[]>;
}

const MODELS: NamedSchema = {
  name: "A1111Models",
  schema: z.array(
    z.object({
      title: z.string(),
      model_name: z.string(),
      hash: z.null(),
      sha256: z.null(),
      filename: z.string(),
      config: z.null(),
    }),
  ),
};
const SAMPLERS: NamedSchema = {
  name: "A1111Samplers",
  schema: z.array(
    z.object({ name: z.string(), aliases: z.array(z.string()), options: z.record(z.string(), z.string()) }),
  ),
};
const SCHEDULERS: NamedSchema = {
  name: "A1111Schedulers",
  schema: z.array(
    z.object({
      name: z.string(),
      label: z.string(),
      aliases: z.array(z.string()),
      default_rho: z.number(),
      need_inner_model: z.boolean(),
    }),
  ),
};
const LORAS: NamedSchema = {
  name: "A1111Loras",
  schema: z.array(z.object({ name: z.string(), alias: z.string(), path: z.string(), metadata: z.object({}) })),
};
const embedding = z.object({ step: z.null(), sd_checkpoint: z.null(), sd_checkpoint_name: z.null() });
const EMBEDDINGS: NamedSchema = {
  name: "A1111Embeddings",
  schema: z.object({ loaded: z.record(z.string(), embedding), skipped: z.record(z.string(), embedding) }),
};
const MEMORY: NamedSchema = {
  name: "A1111Memory",
  schema: z.object({ ram: z.record(z.string(), z.number()), cuda: z.record(z.string(), z.string()) }),
};
const FLAGS: NamedSchema = { name: "A1111Flags", schema: z.record(z.string(), z.unknown()) };
const EMPTY: NamedSchema = { name: "A1111Empty", schema: z.array(z.unknown()) };
const SCRIPTS: NamedSchema = {
  name: "A1111Scripts",
  schema: z.object({ txt2img: z.array(z.string()), img2img: z.array(z.string()) }),
};

/** Lists of the web UI's that are empty here. */
const NOT_HERE = [
  "upscalers",
  "latent-upscale-modes",
  "sd-vae",
  "hypernetworks",
  "face-restorers",
  "realesrgan-models",
  "prompt-styles",
  "script-info",
  "extensions",
];
/** They are read anew whenever somebody asks. */
const REFRESHED = ["refresh-checkpoints", "refresh-loras", "refresh-embeddings", "refresh-vae"];

/** ρ of Karras's levels (Karras et al. 2022, table 1). */
const RHO = 7;

export function listRoutes({ model, loras, embeddings }: ListOptions): Route[] {
  const list = (path: string, summary: string, schema: NamedSchema, answer: () => unknown): Route => ({
    method: "GET",
    path: `/${path}`,
    about: listed(summary, schema),
    handlers: [async (c) => json(c, await answer())],
  });
  return [
    list("sd-models", "The model that is served", MODELS, () => [
      { title: model, model_name: model, hash: null, sha256: null, filename: model, config: null },
    ]),
    list("samplers", "The samplers that a request may name", SAMPLERS, () =>
      listSchedulers().schedulers.map(({ name, aliases }) => ({ name, aliases, options: {} })),
    ),
    list("schedulers", "The ways to space noise levels", SCHEDULERS, () =>
      ["automatic", ...listSchedulers().sigma_schedules].map(schedulerItem),
    ),
    list("loras", "The LoRAs that a prompt may name", LORAS, async () =>
      // The path is a name, too: nobody is told where files lie.
      (await loras()).map((name) => ({ name, alias: name, path: name, metadata: {} })),
    ),
    list("embeddings", "The embeddings that a prompt may name", EMBEDDINGS, async () => ({
      loaded: Object.fromEntries(
        (await embeddings()).map((name) => [name, { step: null, sd_checkpoint: null, sd_checkpoint_name: null }]),
      ),
      skipped: {},
    })),
    list("scripts", "None", SCRIPTS, () => ({ txt2img: [], img2img: [] })),
    list("cmd-flags", "The web UI's flags that mean something here", FLAGS, () => ({ api: true, nowebui: true })),
    list("memory", "The machine's memory in bytes", MEMORY, () => ({
      ram: { free: freemem(), used: totalmem() - freemem(), total: totalmem() },
      cuda: { error: "unavailable" },
    })),
    ...NOT_HERE.map((path) => list(path, "None", EMPTY, () => [])),
    ...REFRESHED.map(
      (path): Route => ({
        method: "POST",
        path: `/${path}`,
        work: false,
        about: listed("Nothing to do: lists are always as they are now", { name: "A1111Nothing", schema: z.null() }),
        handlers: [(c) => json(c, null)],
      }),
    ),
  ];
}

/** Levels that are made by the model's own table. */
const OF_MODEL: ReadonlySet<string> = new Set(["sgm_uniform", "simple", "beta"]);

function schedulerItem(name: string) {
  return {
    name,
    label: sigmaScheduleLabel(name),
    aliases: name === "sgm_uniform" ? ["SGMUniform"] : [],
    default_rho: name === "karras" ? RHO : -1,
    need_inner_model: OF_MODEL.has(name),
  };
}

/** ASCII alone: a file's name may hold marks that turn the direction of a terminal's text. */
export function json(c: Context, body: unknown): Response {
  return c.body(asciiJson(body), 200, { "Content-Type": "application/json" });
}
