/**
 * The server's configuration: one schema, from which the flags of `daguerre serve`, the environment's names, the file's
 * keys, the help and `docs/configuration.md` all follow.
 *
 * A setting `limits.steps` is `{"limits": {"steps": 50}}` in the file, `DAGUERRE_LIMITS_STEPS=50` in the environment and
 * `--limits-steps 50` as a flag; the later of these three wins. Secrets have no flag, because every user of a machine
 * can read every command line.
 */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { z } from "zod";
import { LIMITS } from "../src/engine/request.ts";
import { MEMORY_BOUNDS } from "../src/jobs/account.ts";
import { LOG_LIMITS } from "../src/jobs/job-log.ts";
import { JOB_DEFAULTS } from "../src/jobs/jobs.ts";
import { allowedHost } from "../transports/fal/webhook.ts";
import { SCOPES } from "../transports/gate/auth.ts";
import { parseHost } from "../transports/gate/host.ts";
import { DEFAULT_MAX_BODY_BYTES } from "../transports/http/input.ts";
import { RESUME } from "../transports/source.ts";
import { parseBytes } from "./flags.ts";

/** Facts about a setting that its type does not tell. */
interface SettingFacts {
  readonly description: string;
  /** Neither a flag nor shown. */
  readonly secret?: true;
  /** Other names in the environment, after our own. */
  readonly env?: readonly string[];
  /** A path: in the file it is relative to the file. */
  readonly path?: true;
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
  // What is no address at all has been told already.
  if (!URL.canParse(text)) return true;
  const { username, password, search, hash } = new URL(text);
  return username + password + search + hash === "";
};
const positive = z.int().min(1);
const seconds = z.number().min(0.1).max(86_400);

const NOT_A_HOST = "must be a host such as hooks.example, *.hooks.example, hooks.example:8443 or [2001:db8::1]:8443";

const apiKey = z.strictObject({
  name: z.string().regex(/^[\w.-]{1,64}$/, "must be letters, digits and . _ -"),
  /** The key, or `sha256:` and its SHA-256 in hexadecimal. */
  key: z.string().min(1),
  scopes: z.array(z.enum(SCOPES)).optional(),
  models: z.array(z.string()).optional(),
});

export const configSchema = z.strictObject({
  host: setting(z.string().default("127.0.0.1"), "address to listen on; 0.0.0.0 to be reached from other machines"),
  port: setting(z.int().min(0).max(65535).default(8080), "port to listen on; 0 takes any free one", { env: ["PORT"] }),
  model: setting(z.string().optional(), "a model in diffusers layout; left out: the built-in landscapes", {
    path: true,
  }),
  adapter: setting(z.string().default("auto"), "auto, hardware, software, or part of an adapter's name"),
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
    "device memory that may be used, in bytes or as 6GiB; less than the model takes: its parts take turns; left out: all",
  ),
  tune: setting(
    z.enum(["auto", "on", "off"]).default("auto"),
    "whether kernels are timed at the first start on a GPU, for the fastest to be used from then on; auto: on hardware, without max_gpu_memory",
  ),
  lora_dir: setting(z.string().optional(), "the folder of LoRA files that requests may name", { path: true }),
  cors_origins: setting(
    z.array(z.string()).default([]),
    "origins of web pages that may use this server besides its own, such as https://app.example; * for all",
  ),
  hosts: setting(
    z
      .array(z.string().refine(isHost, "must be a host such as pictures.example, *.pictures.example or daguerre:8080"))
      .default([]),
    "names under which this server is reached, besides addresses in digits, localhost, host and public_url: of containers, host.docker.internal, a proxy's name for it; *.pictures.example for all below; a port may follow; other names are refused with 421",
  ),
  public_url: setting(
    z
      .url({ protocol: /^https?$/, error: "must be an address such as https://pictures.example/base" })
      .refine(isBare, "must hold no user, query or fragment")
      .optional(),
    "the address that browsers open where a proxy stands before this server, with the path that it takes away, such as https://pictures.example/base",
  ),
  get_stream: setting(
    z.boolean().default(false),
    "whether GET /stream starts pictures over plain http from other machines without a key; any web page can then start them too",
  ),
  proxies: setting(
    z.int().min(0).max(10).default(0),
    "proxies before this server that write X-Forwarded-For, and Forwarded or X-Forwarded-Host, -Proto, -Port and -Prefix if they change them; 0: a client's address is its socket's",
  ),
  retention_seconds: setting(
    seconds.default(600),
    "seconds for which the events and the result of a job that has ended can still be fetched, and its idempotency key counts",
  ),
  shutdown_seconds: setting(
    z.number().min(0).max(86_400).default(10),
    "seconds that requests get to finish after SIGTERM; those left are handed back to their clients with 503",
  ),
  log_level: setting(
    z.enum(["trace", "debug", "info", "warn", "error", "silent"]).default("info"),
    "what is logged (JSON lines on stderr)",
  ),
  auth: z
    .strictObject({
      keys: setting(
        z.array(apiKey).default([]),
        "API keys: name, key (or sha256: and its hash), scopes and models if not all; in the environment name=key,name=key",
        { secret: true },
      ),
      token_secret: setting(
        z.string().min(32).optional(),
        "secret of at least 32 bytes that short-lived tokens for browsers are signed with (HS256); left out: no tokens",
        { secret: true },
      ),
      token_seconds: setting(z.int().min(1).max(86_400).default(600), "seconds that a token may live"),
    })
    .prefault({}),
  limits: z
    .strictObject({
      body_bytes: setting(positive.default(DEFAULT_MAX_BODY_BYTES), "bytes of a request's body"),
      frame_bytes: setting(positive.default(DEFAULT_MAX_BODY_BYTES), "bytes of a WebSocket frame"),
      bodies_bytes: setting(
        positive.default(MEMORY_BOUNDS.bodies),
        "bytes of bodies and frames that are arriving, in all, beyond 64 KiB of each; above it the slowest are ended with 408",
      ),
      answers_bytes: setting(
        positive.default(MEMORY_BOUNDS.answers),
        "bytes of answers that wait to be read, in all, beyond 64 KiB of each; above it the slowest are cut off",
      ),
      sessions_bytes: setting(
        positive.default(MEMORY_BOUNDS.sessions),
        "bytes that WebSocket sessions hold, in all: their defaults, and requests that wait in them; above it more are 503",
      ),
      prompt_characters: setting(
        positive.max(LIMITS.promptCharacters).default(LIMITS.promptCharacters),
        "characters of a prompt",
      ),
      pixels: setting(
        positive.max(LIMITS.maxPixels).default(LIMITS.maxPixels),
        "pixels of a picture, width times height",
      ),
      steps: setting(positive.max(LIMITS.steps).default(LIMITS.steps), "denoising steps of a request"),
      images: setting(positive.max(LIMITS.images).default(LIMITS.images), "pictures of a request"),
      waiting: setting(
        z.int().min(0).max(100_000).default(JOB_DEFAULTS.maxQueued),
        "requests that may wait for their turn, of one key or address no more than are left free for others; more are 503",
      ),
      waiting_bytes: setting(
        positive.default(JOB_DEFAULTS.maxQueuedBytes),
        "bytes that the requests which wait may hold together, their pictures included",
      ),
      log_bytes: setting(
        positive.default(LOG_LIMITS.bytes),
        "bytes of one job's events that are held for those who watch it; beyond it replaced previews go first",
      ),
      retained_jobs: setting(positive.default(JOB_DEFAULTS.retainedJobs), "jobs that have ended and are still held"),
      retained_bytes: setting(
        positive.default(JOB_DEFAULTS.retainedBytes),
        "bytes that they hold together; the oldest are forgotten first",
      ),
      stream_resume_seconds: setting(
        z.number().min(0).max(86_400).default(RESUME.streamSeconds),
        "seconds that the client of a stream may have its job wait for it (resume_grace_s), at most",
      ),
      session_resume_seconds: setting(
        z
          .number()
          .min(0)
          .max(86_400)
          .default(RESUME.sessionMs / 1000),
        "seconds that a WebSocket session waits for its client when the connection broke",
      ),
      deadline_seconds: setting(
        seconds.default(600),
        "seconds that a request may take, waiting included; then it is stopped",
      ),
      sessions: setting(positive.default(32), "WebSocket sessions of one key or address at a time"),
      requests_per_minute: setting(
        positive.optional(),
        "requests of one key or address in a minute; left out: no limit",
      ),
      connections: setting(positive.default(4_096), "open connections; more are closed at once"),
      headers_seconds: setting(seconds.default(15), "seconds that a request's headers may take to arrive"),
      request_seconds: setting(seconds.default(60), "seconds that a whole request may take to arrive"),
    })
    .prefault({}),
  webhooks: z
    .strictObject({
      hosts: setting(
        z.array(z.string().refine((text) => allowedHost(text) !== undefined, NOT_A_HOST)).default([]),
        "hosts that results may be posted to, such as hooks.example or *.hooks.example; a port other than the scheme's own (443; 80 for http) is named: hooks.example:8443; none: webhooks are refused",
      ),
      allow_private: setting(
        z.boolean().default(false),
        "whether those hosts may have private, loopback or link-local addresses, and plain http",
      ),
    })
    .prefault({}),
});

export type Config = z.output<typeof configSchema>;

/** One leaf of the schema, under all its names. */
export interface Setting extends SettingFacts {
  /** `["limits", "steps"]` */
  readonly path_: readonly string[];
  /** `limits.steps` */
  readonly key: string;
  /** `--limits-steps`; undefined for secrets. */
  readonly flag: string | undefined;
  /** `DAGUERRE_LIMITS_STEPS`, then aliases. */
  readonly variables: readonly string[];
  readonly kind: "text" | "number" | "boolean" | "list" | "keys";
  /** Values to choose from, if there are few. */
  readonly choices: readonly string[] | undefined;
  readonly default: unknown;
}

/** Every setting, in the order of the schema. */
export const SETTINGS: readonly Setting[] = leaves(configSchema, []);

function leaves(schema: z.ZodType, at: readonly string[]): Setting[] {
  const inner = unwrapped(schema);
  const facts = schema.meta() as SettingFacts | undefined;
  if (facts?.description === undefined) {
    if (!(inner instanceof z.ZodObject)) throw new Error(`setting ${at.join(".")} has no description`);
    return Object.entries(inner.shape).flatMap(([name, field]) => leaves(field as z.ZodType, [...at, name]));
  }
  const name = at.join("_");
  const list = inner instanceof z.ZodArray;
  return [
    {
      ...facts,
      path_: at,
      key: at.join("."),
      flag: facts.secret ? undefined : `--${name.replaceAll("_", "-")}`,
      variables: [`DAGUERRE_${name.toUpperCase()}`, ...(facts.env ?? [])],
      kind:
        list && unwrapped(inner.element as z.ZodType) instanceof z.ZodObject
          ? "keys"
          : list
            ? "list"
            : inner instanceof z.ZodNumber
              ? "number"
              : inner instanceof z.ZodBoolean
                ? "boolean"
                : "text",
      choices: inner instanceof z.ZodEnum ? inner.options.map(String) : undefined,
      default: schema instanceof z.ZodDefault ? schema.def.defaultValue : undefined,
    },
  ];
}

function unwrapped(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodDefault || schema instanceof z.ZodOptional || schema instanceof z.ZodPrefault
    ? unwrapped(schema.unwrap() as z.ZodType)
    : schema;
}

/** What is wrong with a configuration: one line for each fault, each naming where it was written. */
export class ConfigError extends Error {
  constructor(lines: readonly string[]) {
    super(lines.join("\n"));
    this.name = "ConfigError";
  }
}

/** Read from the working folder where no other file is named. */
export const CONFIG_FILE = "daguerre.config.json";

/** The file to read: the one named by flag or environment, or the usual one where it exists. */
export function configFile(named: string | undefined, env: ConfigSources["env"]): string | undefined {
  return named ?? (env.DAGUERRE_CONFIG || (existsSync(CONFIG_FILE) ? CONFIG_FILE : undefined));
}

/** `limits-steps` for commander's `limitsSteps`. */
export function flagName(camelCase: string): string {
  return camelCase.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

export interface ConfigSources {
  /** What the command line says, by flag name without dashes: `{"limits-steps": "50"}`. */
  readonly flags: Readonly<Record<string, string | boolean | undefined>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The file to read; undefined: none. */
  readonly file: string | undefined;
}

/**
 * Reads, merges and checks a configuration.
 *
 * @throws ConfigError
 */
export function loadConfig({ flags, env, file }: ConfigSources): Config {
  const tree: Tree = file === undefined ? {} : readConfigFile(file);
  const origin = new Map<string, string>();
  for (const setting of SETTINGS) {
    const variable = setting.variables.find((name) => env[name] !== undefined && env[name] !== "");
    const flagged = setting.flag === undefined ? undefined : flags[setting.flag.slice(2)];
    const given = flagged ?? (variable === undefined ? undefined : env[variable]);
    if (given === undefined) continue;
    origin.set(setting.key, flagged === undefined ? (variable as string) : (setting.flag as string));
    place(tree, setting.path_, typeof given === "string" ? typedValue(setting, given) : given);
  }
  const parsed = configSchema.safeParse(tree, { reportInput: false });
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map((issue) => {
    const key = issue.path.map(String).join(".");
    const named = [...origin].find(([setting]) => key === setting || key.startsWith(`${setting}.`))?.[1];
    return `${named ?? (file === undefined ? key : `${file}: ${key || "the file"}`)}: ${issue.message}`;
  });
  throw new ConfigError(lines);
}

type Tree = { [name: string]: unknown };

function readConfigFile(file: string): Tree {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigError([`${file}: cannot be read (${(error as NodeJS.ErrnoException).code ?? "unknown"})`]);
  }
  let tree: unknown;
  try {
    tree = JSON.parse(text);
  } catch (error) {
    throw new ConfigError([`${file}: is not JSON (${(error as Error).message})`]);
  }
  if (typeof tree !== "object" || tree === null || Array.isArray(tree))
    throw new ConfigError([`${file}: must be an object`]);
  const settings = tree as Tree;
  delete settings.$schema;
  for (const setting of SETTINGS) {
    const value = settings[setting.key];
    if (setting.path && typeof value === "string") settings[setting.key] = path.resolve(path.dirname(file), value);
  }
  return settings;
}

function place(tree: Tree, [name, ...rest]: readonly string[], value: unknown): void {
  if (name === undefined) return;
  if (rest.length === 0) {
    tree[name] = value;
    return;
  }
  const branch = tree[name];
  const inner: Tree = typeof branch === "object" && branch !== null && !Array.isArray(branch) ? (branch as Tree) : {};
  tree[name] = inner;
  place(inner, rest, value);
}

/** A text of the environment or the command line as the schema's type; what is not one is left for the schema to refuse. */
function typedValue({ kind }: Setting, text: string): unknown {
  switch (kind) {
    case "number":
      return text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text);
    case "boolean":
      return text === "true" || text === "1" ? true : text === "false" || text === "0" ? false : text;
    case "list":
      return splitList(text);
    case "keys":
      return splitList(text).map((pair) => {
        const at = pair.indexOf("=");
        return at < 0 ? { name: pair } : { name: pair.slice(0, at), key: pair.slice(at + 1) };
      });
    case "text":
      return text;
    default:
      return kind satisfies never;
  }
}

function splitList(text: string): string[] {
  return text.split(",").flatMap((part) => part.trim() || []);
}

/** `docs/configuration.md`, whole. */
export function configurationReference(): string {
  const rows = SETTINGS.map(({ key, flag, variables, description, default: usual }) => {
    const names = [flag, ...variables].flatMap((name) => (name === undefined ? [] : `\`${name}\``)).join("<br>");
    return `| \`${key}\` | ${names} | ${description.replaceAll("|", "\\|").replaceAll("*", "\\*")} | ${shown(usual)} |`;
  });
  return `# Configuration

\`daguerre serve\` reads its settings from a file, then from the environment, then from its flags; the later wins. The file is
\`daguerre.config.json\` in the working folder, or the one that \`--config\` or \`DAGUERRE_CONFIG\` names. What is misspelt is
refused, with the place where it was written.

\`\`\`json
{
  "port": 8080,
  "model": "models/sdxl",
  "cors_origins": ["https://app.example"],
  "auth": {
    "keys": [
      { "name": "studio", "key": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" },
      { "name": "prometheus", "key": "a-long-random-text", "scopes": ["metrics"] }
    ],
    "token_seconds": 300
  },
  "limits": { "steps": 50, "requests_per_minute": 60 }
}
\`\`\`

| setting | flag, environment | meaning | default |
| --- | --- | --- | --- |
${rows.join("\n")}

A list is separated by commas in the environment and in flags. Paths in the file are relative to the file. Secrets have no
flag, because every user of a machine can read every command line.

## Who may ask

Without \`auth.keys\` and \`auth.token_secret\` everybody who reaches the server may use it. With either, all routes but the
page, \`/health\`, \`/ready\`, \`/openapi.json\` and \`/docs\` need a credential:

- a key: \`Authorization: Bearer KEY\` or \`Authorization: Key KEY\`. \`printf %s KEY | sha256sum\` gives what may stand in the
  file in its place.
- a token, for browsers: \`POST /auth/token\` with a key answers \`{token, expires_in, subject}\`; the body may narrow it
  (\`{"scopes": ["realtime"], "models": ["sdxl"], "seconds": 60, "subject": "visitor-17"}\`). It goes where a key goes, or
  into \`?fal_jwt_token=\`.

Scopes: ${SCOPES.map((scope) => `\`${scope}\``).join(", ")}. A key without \`scopes\` has all of them, one without \`models\` may use
all models.

A job belongs to the owner that has started it, and is not there for anybody else. Each key is an owner, and so is each subject
of its tokens: a key does not see the jobs of its tokens, nor they its jobs. Without \`subject\` a token gets a random one. Send
the \`subject\` of the answer with the request for the next token, and that one owns all that the last one has started.
Limits count all that a key and its tokens do together; where nobody needs a credential they count by address: by the /64 of
an IPv6 address.

You may sign tokens yourself with \`auth.token_secret\` (HS256). These claims count:

| claim | meaning |
| --- | --- |
| \`aud\` | \`"daguerre"\`, needed |
| \`iat\`, \`exp\` | seconds since 1970, needed; \`iat\` not in the future, \`exp\` within \`auth.token_seconds\` of \`iat\` and of now |
| \`scope\` or \`scopes\` | a text, with a space between two scopes, or a list of texts; left out: none |
| \`models\` | a list of names; left out: all models |
| \`sub\` | the subject: 1 to 256 printable characters; left out: the token owns only what it starts itself |
| \`key\` | the name of a key of this server that its requests count against; left out: it is a client of its own, by its subject |

A claim of another type is refused with 401, and the answer names it. When a key is taken out of the configuration, its
tokens are refused too.

## Names and pages

Every web page that somebody opens can send requests to this server, on their own machine or in their network. Without keys
two rules keep it from making pictures.

*Names.* A page can let its own name point to 127.0.0.1 after it was loaded; to the browser the server is then the page's
own. Only names can do so. The server therefore answers under every address in digits, \`localhost\`, \`*.localhost\`, the
name in \`host\`, that of \`public_url\`, and those in \`hosts\`; other names get 421, for Prometheus too. \`/health\` and \`/ready\`
answer under all names. Where keys are set every name is answered, since a foreign page has no key. An app that is mounted in a service of
your own leaves names to it, unless \`gate.hosts\` lists them.

*Pages.* The server's own page may do all, those of \`cors_origins\` too; others get 403. A page is its own where the browser
says so (\`Sec-Fetch-Site: same-origin\`), where \`Origin\` is that of \`public_url\`, or is the host that was asked for.

\`GET /stream\` starts a picture, and a page sends a GET without asking anybody: by a hidden frame, a picture tag, a redirect.
So it is for the server's own page, for \`EventSource\` and \`fetch\` of \`cors_origins\`, for an address that a person has
typed, for a link that a person has clicked, and for tools. \`POST /stream\` has no such limits.

Over plain http browsers leave \`Sec-Fetch-Site\` out, but for this machine itself. On another machine, as
\`http://192.168.1.5:8080\`, a picture tag of any page then looks like curl, and \`GET /stream\` answers 403. POST there, or put
a proxy with https before the server, or set keys; in a network where no foreign page matters set \`get_stream\`. Following a
job (\`GET /stream/{request_id}\`) starts nothing, and needs none of it.

*Behind a proxy.* One that passes the browser's \`Host\` needs that name in \`hosts\`. For any other set \`public_url\`, and put
the name that the proxy itself uses into \`hosts\`. The addresses that the queue answers with and the words of \`GET /\` begin with
\`public_url\`; where it is not set and \`proxies\` is, with what \`Forwarded\` or \`X-Forwarded-Proto\`, \`-Host\`, \`-Port\` and
\`-Prefix\` say; else with the address of the request. A forwarded host must be one of the server's names as well.

## Memory

Whatever a client does, the memory that it can take has a bound, and something happens at it. [security.md](security.md)
has the table and the sum of them all, which \`/metrics\` shows as \`daguerre_memory_bound_bytes\`, beside what is held at the
moment, \`daguerre_held_bytes\`, by kind.

- Bodies and frames that arrive (\`limits.bodies_bytes\`) and answers that wait to be read (\`limits.answers_bytes\`) give way: the
  slowest of the client that has the most is ended, by 408 or by the end of its connection.
- Requests that wait (\`limits.waiting\`, \`limits.waiting_bytes\`) and what sessions hold (\`limits.sessions_bytes\`) are refused with
  503. A client may have as many as are left free for others, and clients take turns.
- Events are held once, in their job's log: \`limits.log_bytes\` a job, \`limits.retained_bytes\` for all that have ended, of the
  client with the most first. At the bound replaced previews go first, then the oldest events; a client that still wanted those is cut
  off, and told 410 when it comes back.
- A client that reads slowly or not at all: over a stream, one encoded event beyond what its socket takes; over a WebSocket,
  one for each request under way, 256 KiB of previews, and 1 MiB of answers, above which nothing more is read from it.
  Newer previews take the place of those that it has not taken. After 2 minutes without a byte taken an answer is cut off;
  a WebSocket, at the second ping without an answer (40 s).

A message (a JSON body, a frame) may hold 20,000 items and names, 32 levels deep, names of 256 bytes, and 4 MiB besides its
texts of more than 256 bytes; a form 256 parts, 32 of them files, and 64 KiB in a field. More is 413, or 400 where it is nested
too deep.

## Shutdown

At SIGTERM or SIGINT \`/ready\` becomes 503 and new work is refused with 503 and \`Retry-After\`, while the port stays open. What
runs or waits has \`shutdown_seconds\` to finish; what is left then ends with an error of status 503, so that its client asks
again, elsewhere. Sessions are closed with 1012.

## Traces

Where \`OTEL_EXPORTER_OTLP_ENDPOINT\` is set, and \`@opentelemetry/sdk-trace-node\` and \`@opentelemetry/exporter-trace-otlp-http\`
are installed beside Daguerre, each request is a trace: request, job, step, decode, encode. A server that ends
gives the collector two seconds for the last of them, and says so where it did not take them.
`;
}

function shown(value: unknown): string {
  if (value === undefined || (Array.isArray(value) && value.length === 0)) return "";
  return `\`${String(value)}\``;
}
