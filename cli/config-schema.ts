/** The schema of the server's configuration: every setting with its type, default and description. */

import { statSync } from "node:fs";
import { z } from "zod";
import { RUNS_AT_ONCE } from "../src/engine/place.ts";
import { LIMITS } from "../src/engine/request.ts";
import { MEMORY_BOUNDS } from "../src/jobs/account.ts";
import { LOG_BOUNDS } from "../src/jobs/job-log.ts";
import { JOB_DEFAULTS } from "../src/jobs/jobs.ts";
import { PROMPT_SYNTAXES } from "../src/text/prompt-syntax.ts";
import { allowedHost } from "../transports/fal/webhook.ts";
import { webhookSecret } from "../transports/fal/webhook-signature.ts";
import { SCOPES } from "../transports/gate/auth.ts";
import { parseHost } from "../transports/gate/host.ts";
import { DEFAULT_MAX_BODY_BYTES } from "../transports/http/input.ts";
import { RESUME } from "../transports/source.ts";
import { parseBytes } from "./flags.ts";

/** Facts about a setting that its type does not show. */
export interface SettingFacts {
  readonly description: string;
  /** Neither a flag nor shown. */
  readonly secret?: true;
  /** Other names in the environment, after our own. */
  readonly env?: readonly string[];
  /** A path: in the file it is relative to the file. */
  readonly isPath?: true;
}

function setting<T extends z.ZodType>(
  schema: T,
  description: string,
  facts: Omit<SettingFacts, "description"> = {},
): T {
  return schema.meta({ description, ...facts });
}

const isHost = (text: string) => parseHost(text.replace(/^\*\./, "")) !== undefined;
const isBare = (text: string) => {
  // The schema has already refused a text that is no address.
  if (!URL.canParse(text)) return true;
  const { username, password, search, hash } = new URL(text);
  return username + password + search + hash === "";
};
const text = z.string().refine((value) => value.trim() !== "", "must not be empty");
const isFolder = (folder: string) =>
  folder === "" || statSync(folder, { throwIfNoEntry: false })?.isDirectory() === true;
const isOrigin = (value: string) => value === "*" || /^[a-z][a-z\d+.-]*:\/\/[^\s/?#@]+$/i.test(value);
const positive = z.int().min(1);
const seconds = z.number().min(0.1).max(86_400);

const NOT_A_HOST = "must be a host such as hooks.example, *.hooks.example, hooks.example:8443 or [2001:db8::1]:8443";

const webhookSecrets = z.array(
  z
    .string()
    .refine((text) => webhookSecret(text) !== undefined, "must be whsec_ and the base64 of 24 to 64 random bytes"),
);

const apiKey = z.strictObject({
  name: z.string().regex(/^[\w.-]{1,64}$/, "must be letters, digits and . _ -"),
  /** The key, or `sha256:` and its SHA-256 in hexadecimal. */
  key: z.string().min(1),
  scopes: z.array(z.enum(SCOPES)).optional(),
  models: z.array(z.string()).optional(),
  /** Secrets that sign the webhooks of its jobs, in place of `webhooks.secrets`. */
  webhook_secrets: webhookSecrets.optional(),
});

const MODELS_MESSAGE =
  "must be a folder, or an object of names (printable characters and one slash at most), each with a path, or with path, vae, tiny_vae, variant, keep_alive_seconds, preload";
const modelName = z.string().regex(/^[^\p{C}/]{1,64}(?:\/[^\p{C}/]{1,64})?$/u);
const modelSettings = z.strictObject({
  path: text,
  vae: text.optional(),
  tiny_vae: text.optional(),
  variant: text.optional(),
  keep_alive_seconds: z.number().min(0).max(86_400).optional(),
  preload: z.boolean().optional(),
});
const models = z
  .union([text, z.record(modelName, z.union([text, modelSettings]))], { error: MODELS_MESSAGE })
  .refine((value) => typeof value === "string" || Object.keys(value).length > 0, "must name a model")
  .refine((value) => typeof value !== "string" || (value !== "" && isFolder(value)), {
    error: ({ input }) => `there is no folder ${JSON.stringify(input)}`,
  });

export const configSchema = z.strictObject({
  host: setting(text.default("127.0.0.1"), "address to listen on; 0.0.0.0 accepts connections from other machines"),
  port: setting(z.int().min(0).max(65535).default(8080), "port to listen on; 0 takes any free one", { env: ["PORT"] }),
  model: setting(
    text.optional(),
    "a folder in diffusers layout, a checkpoint in one file (.safetensors, .ckpt, .gguf), or owner/name of a hub that was pulled; default: the built-in landscapes",
    { isPath: true },
  ),
  models: setting(
    models.optional(),
    "several models in one server: a folder, of which each folder and checkpoint file is one; in the file also an object of names, each with a path or with path, vae, tiny_vae, variant, keep_alive_seconds and preload; requests name one in model; the default is model, or else the first",
    { isPath: true },
  ),
  preload: setting(
    z.array(text).default([]),
    "names of models that are loaded at the start, besides the default one; others are loaded with their first request",
  ),
  keep_alive_seconds: setting(
    z.number().min(0).max(86_400).optional(),
    "seconds without a request after which a model leaves the device; default: it stays until another needs the room",
  ),
  vae: setting(
    text.optional(),
    "a VAE in place of the model's own: a file, or a folder in diffusers layout; default: the model's own",
    { isPath: true },
  ),
  tiny_vae: setting(
    text.optional(),
    "a tiny autoencoder (TAESD) that decodes previews: a file, or a folder; default: previews are decoded by the VAE",
    { isPath: true },
  ),
  variant: setting(
    text.optional(),
    "which of a model's saved weights to take, such as fp16, bf16 or non_ema; default: the plain ones, else fp16, else the only ones",
  ),
  adapter: setting(text.default("auto"), "auto, hardware, software, or part of an adapter's name"),
  precision: setting(z.enum(["auto", "f32", "f16"]).default("auto"), "how numbers are stored on the device"),
  max_gpu_memory: setting(
    z
      .union([z.int().min(1), z.string()])
      .transform((value, context) => {
        const bytes = typeof value === "number" ? value : parseBytes(value);
        if (bytes !== undefined && bytes > 0) return bytes;
        context.addIssue({ code: "custom", message: "must be bytes, or an amount as 512MiB or 6GiB" });
        return z.NEVER;
      })
      .optional(),
    "limit on device memory, in bytes or as 6GiB; if the model needs more, its parts take turns; default: all of it",
  ),
  isolation: setting(
    z.enum(["process", "none"]).default("process"),
    "process: the GPU and its models are in a process of their own, which is replaced if it crashes or hangs while pictures go on; none: in this one",
  ),
  spares: setting(
    z.int().min(0).max(1).default(0),
    "processes with a loaded model that wait to take over, so that a loss is a pause of a second; each takes the memory of a model",
  ),
  tune: setting(
    z.enum(["auto", "on", "off"]).default("auto"),
    "whether the first start on a GPU times the kernels and later starts use the fastest; auto: on hardware, without max_gpu_memory",
  ),
  lora_dir: setting(
    text.refine(isFolder, { error: ({ input }) => `there is no folder ${JSON.stringify(input)}` }).optional(),
    "the folder of LoRA files that requests may name",
    { isPath: true },
  ),
  embedding_dir: setting(
    text.refine(isFolder, { error: ({ input }) => `there is no folder ${JSON.stringify(input)}` }).optional(),
    "the folder of textual inversion files that prompts may name",
    { isPath: true },
  ),
  control_dir: setting(
    text.refine(isFolder, { error: ({ input }) => `there is no folder ${JSON.stringify(input)}` }).optional(),
    "the folder of ControlNets and adapters that requests may name",
    { isPath: true },
  ),
  prompt_syntax: setting(
    z.enum(PROMPT_SYNTAXES).default("plain"),
    "how prompts are read unless a request says so: plain, or weighted as in AUTOMATIC1111",
  ),
  cors_origins: setting(
    z
      .array(z.string().refine(isOrigin, "must be an origin such as https://app.example, without a path, or *"))
      .default([]),
    "origins of other web pages that may use this server, such as https://app.example; * allows all",
  ),
  hosts: setting(
    z
      .array(z.string().refine(isHost, "must be a host such as pictures.example, *.pictures.example or daguerre:8080"))
      .default([]),
    "more names of this server, besides numeric addresses, localhost, host and public_url: names of containers, host.docker.internal, a proxy's name for it; *.pictures.example matches all names below; a port may follow; other names get 421",
  ),
  public_url: setting(
    z
      .url({ protocol: /^https?$/, error: "must be an address such as https://pictures.example/base" })
      .refine(isBare, "must hold no user, query or fragment")
      .optional(),
    "the address that browsers open if this server is behind a proxy, with the path that the proxy removes, such as https://pictures.example/base",
  ),
  get_stream: setting(
    z.boolean().default(false),
    "whether GET /stream starts pictures over plain http from other machines without a key; any web page can then start them too",
  ),
  proxies: setting(
    z.int().min(0).max(10).default(0),
    "number of proxies before this server that write X-Forwarded-For, and Forwarded or X-Forwarded-Host, -Proto, -Port and -Prefix if they change them; at 0 a client's address is its socket's",
  ),
  retention_seconds: setting(
    seconds.default(600),
    "seconds after the end of a job during which clients can fetch its events and result, and its idempotency key counts",
  ),
  shutdown_seconds: setting(
    z.number().min(0).max(86_400).default(10),
    "seconds that requests get to finish after SIGTERM; the rest end with 503",
  ),
  log_level: setting(
    z.enum(["trace", "debug", "info", "warn", "error", "silent"]).default("info"),
    "the least level that is logged, on stderr",
  ),
  log_format: setting(
    z.enum(["auto", "json", "pretty"]).default("auto"),
    "json: a JSON object on each line; pretty: lines for people; auto: pretty on a terminal, json elsewhere",
  ),
  auth: z
    .strictObject({
      keys: setting(
        z.array(apiKey).default([]),
        "API keys: name, key (or sha256: and its hash), scopes and models if not all, webhook_secrets of its own; in the environment name=key,name=key",
        { secret: true },
      ),
      token_secret: setting(
        z.string().min(32).optional(),
        "secret of at least 32 bytes that signs short-lived tokens for browsers (HS256); without it there are no tokens",
        { secret: true },
      ),
      token_seconds: setting(z.int().min(1).max(86_400).default(600), "longest life of a token, in seconds"),
    })
    .prefault({}),
  limits: z
    .strictObject({
      body_bytes: setting(positive.default(DEFAULT_MAX_BODY_BYTES), "most bytes of a request's body"),
      frame_bytes: setting(positive.default(DEFAULT_MAX_BODY_BYTES), "most bytes of a WebSocket frame"),
      bodies_bytes: setting(
        positive.default(MEMORY_BOUNDS.bodies),
        "most bytes of all arriving bodies and frames together, beyond 64 KiB of each; above it the slowest end with 408",
      ),
      answers_bytes: setting(
        positive.default(MEMORY_BOUNDS.answers),
        "most bytes of all answers that wait to be read, beyond 64 KiB of each; above it the slowest are cut off",
      ),
      sessions_bytes: setting(
        positive.default(MEMORY_BOUNDS.sessions),
        "most bytes of all WebSocket sessions together: their defaults and waiting requests; above it more get 503",
      ),
      running: setting(
        z.int().min(1).max(64).default(RUNS_AT_ONCE),
        "requests that are drawn at once, a third of them for WebSocket sessions alone and one for a client that has none; 1 under max_gpu_memory, or with several models 1 of each",
      ),
      prompt_characters: setting(
        positive.max(LIMITS.promptCharacters).default(LIMITS.promptCharacters),
        "most characters of a prompt",
      ),
      pixels: setting(
        positive.max(LIMITS.maxPixels).default(LIMITS.maxPixels),
        "most pixels of a picture, width times height",
      ),
      steps: setting(positive.max(LIMITS.steps).default(LIMITS.steps), "most denoising steps of a request"),
      images: setting(positive.max(LIMITS.images).default(LIMITS.images), "most pictures of a request"),
      waiting: setting(
        z.int().min(0).max(100_000).default(JOB_DEFAULTS.maxQueued),
        "most requests that wait for their turn; one key or address may have as many as it leaves free for others; more get 503",
      ),
      waiting_bytes: setting(
        positive.default(JOB_DEFAULTS.maxQueuedBytes),
        "most bytes of all waiting requests together, with their pictures",
      ),
      log_bytes: setting(
        positive.default(LOG_BOUNDS.bytes),
        "most bytes of one job's events, kept for its clients; beyond it replaced previews go first",
      ),
      retained_jobs: setting(positive.default(JOB_DEFAULTS.retainedJobs), "most ended jobs that are still kept"),
      retained_bytes: setting(
        positive.default(JOB_DEFAULTS.retainedBytes),
        "most bytes of all ended jobs together; the oldest go first",
      ),
      stream_resume_seconds: setting(
        z.number().min(0).max(86_400).default(RESUME.streamSeconds),
        "longest time, in seconds, that a job waits for the client of its stream (resume_grace_s)",
      ),
      session_resume_seconds: setting(
        z
          .number()
          .min(0)
          .max(86_400)
          .default(RESUME.sessionMs / 1000),
        "seconds that a WebSocket session waits for its client after the connection has broken",
      ),
      first_step_seconds: setting(
        z.number().min(1).max(86_400).optional(),
        "seconds that a picture's first step may take before the engine's process is taken for hung; other parts in proportion, a later step 20 times as long as those before; default: 120, on a software GPU 1200",
      ),
      deadline_seconds: setting(
        seconds.default(600),
        "seconds that a request may take, with its wait; then it is stopped",
      ),
      sessions: setting(positive.default(32), "most WebSocket sessions of one key or address at a time"),
      requests_per_minute: setting(
        positive.optional(),
        "most requests of one key or address in a minute; default: no limit",
      ),
      connections: setting(positive.default(4_096), "most open connections; more are closed at once"),
      headers_seconds: setting(seconds.default(15), "seconds that a request's headers may take to arrive"),
      request_seconds: setting(seconds.default(60), "seconds that a whole request may take to arrive"),
    })
    .prefault({}),
  webhooks: z
    .strictObject({
      hosts: setting(
        z.array(z.string().refine((text) => allowedHost(text) !== undefined, NOT_A_HOST)).default([]),
        "hosts that may receive results, such as hooks.example or *.hooks.example; name a port other than the scheme's own (443; 80 for http), as in hooks.example:8443; without any host webhooks are refused",
      ),
      allow_private: setting(
        z.boolean().default(false),
        "whether those hosts may have private, loopback or link-local addresses, and plain http",
      ),
      secrets: setting(
        webhookSecrets.default([]),
        "secrets that sign webhooks (docs/webhooks.md): whsec_ and the base64 of 24 to 64 random bytes; two while one replaces the other; without any webhooks are not signed",
        { secret: true },
      ),
    })
    .prefault({}),
});

export type Config = z.output<typeof configSchema>;
