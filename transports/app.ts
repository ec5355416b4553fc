/**
 * The server's routes, put together. Each transport stands alone; this file only says which answers where.
 */
import { type Context, Hono } from "hono";
import type { RunEvent } from "../src/engine/events.ts";
import { type GenerationRequest, parseDefaults, parseRemoteGeneration, parseUpdate } from "../src/engine/request.ts";
import { type Account, createAccount } from "../src/jobs/account.ts";
import { JobError } from "../src/jobs/job-errors.ts";
import { createJobs, type JobsOptions } from "../src/jobs/jobs.ts";
import type { Run } from "../src/jobs/run.ts";
import { wholeAddress } from "./address.ts";
import { createAuthenticator, ownerOf, principalOf } from "./auth.ts";
import { docsPage } from "./docs.ts";
import { failureOf, failureResponse, type InputSource, isServerFault } from "./failure.ts";
import { type GateOptions, gate, refusal } from "./gate.ts";
import { cancelJob, jobStatus, updateJob } from "./job-routes.ts";
import { json } from "./json.ts";
import { checkGeneration, checkUpdate, clientOf, createRate, type GenerationLimits } from "./limits.ts";
import type { Metrics } from "./metrics.ts";
import { observedRun } from "./observed-run.ts";
import { openaiImages } from "./openai.ts";
import type { ServedModel } from "./openai-request.ts";
import { openapiDocument, type RouteDescription } from "./openapi.ts";
import { playground } from "./playground.ts";
import { queue } from "./queue.ts";
import { type RequestEntry, requestLog } from "./request-log.ts";
import { encodedBytes, resume, sse } from "./sse.ts";
import { tokenRoute } from "./token-route.ts";
import { tracedJobs, tracedRequests, traceSubmissions } from "./tracing.ts";
import type { WebhookPolicy } from "./webhook.ts";
import { realtime } from "./websocket.ts";

export interface AppOptions {
  run: Run<GenerationRequest, RunEvent>;
  /** What `GET /health` tells besides `status`: version, adapter, model. */
  health: () => Record<string, unknown>;
  /** The model that answers; without it there are no OpenAI routes, and limits see only what a request says. */
  model?: ServedModel & { countTokens: (text: string) => number };
  /** Who may ask, from which pages, how often. Left out: everybody, from the server's own pages, as often as they like. */
  gate?: Partial<Omit<GateOptions, "model">>;
  /** Counts; with it there is `GET /metrics`. */
  metrics?: Metrics;
  /** Why no picture can be made at this moment; undefined when it can. */
  unready?: () => string | undefined;
  /** Told of every request, when its answer begins. */
  onRequest?: (entry: RequestEntry) => void;
  /** What one request may ask for, and the bytes of its body. */
  limits?: GenerationLimits & { readonly bodyBytes?: number };
  /** How jobs are admitted and how long they are held; one runs at a time unless it says otherwise. */
  jobs?: JobsOptions<RunEvent>;
  /** How long jobs wait for clients whose connection broke. */
  resume?: {
    /** Seconds that the client of a stream may ask for, at most. */
    readonly streamSeconds?: number;
    /** Milliseconds that a realtime session waits. */
    readonly sessionMs?: number;
  };
  /** Where the queue may post results; left out: nowhere. */
  webhooks?: WebhookPolicy;
  /** What is held for clients is counted here, and bounded; left out: an account of its own, of the usual bounds. */
  account?: Account;
  /** Told of every error that the client is not to see. */
  onError?: (error: unknown, requestId?: string) => void;
}

/** An app as any of Hono's, and its orderly end. */
export type App = Hono & {
  /**
   * Refuses new work from now on, and settles when no job is left or, those left after `graceMs` having been handed back
   * to their clients, shortly after. Answers and sessions stay open; closing the server is the next thing to do.
   */
  drain(graceMs?: number): Promise<void>;
};

export function createApp(options: AppOptions): App {
  const { health, model, limits = {}, gate: gateOptions, metrics, unready, webhooks } = options;
  const { resume: patience = {}, account = createAccount() } = options;
  // Whoever is told of something must not end the process by what it throws.
  const onError = options.onError && guarded(options.onError, warn);
  const onRequest = options.onRequest && guarded(options.onRequest, onError ?? warn);
  const run = observedRun(options.run, metrics === undefined ? [tracedJobs] : [tracedJobs, metrics.observe]);
  const jobs = createJobs(run, {
    concurrency: 1,
    queuedEvent: (position): RunEvent => ({ type: "queued", position }),
    account,
    onError,
    ...options.jobs,
  });
  account.enter("encoded", encodedBytes);
  traceSubmissions(jobs);
  metrics?.jobs(jobs);
  const app = new Hono();
  app.use(tracedRequests);
  if (metrics !== undefined) app.use(metrics.requests);
  if (onRequest !== undefined) app.use(requestLog(onRequest, gateOptions?.proxies ?? 0));
  const { authenticator = createAuthenticator({ keys: [] }), ...given } = gateOptions ?? {};
  const passed = { corsOrigins: [], proxies: 0, model: model?.name ?? "", ...given };
  let ending = false;
  const draining = () => ending || (given.draining?.() ?? false);
  const rate = given.requestsPerMinute === undefined ? undefined : createRate(given.requestsPerMinute);
  app.use(gate({ ...passed, rate, authenticator, draining }));
  const publicUrl = passed.publicUrl === undefined ? undefined : new URL(passed.publicUrl);
  const addressOf = (c: Context) => wholeAddress(c, { publicUrl, proxies: passed.proxies });

  const allowed = (request: GenerationRequest) => {
    checkGeneration(request, limits, model);
    return request;
  };
  const input = {
    parse: (raw: unknown, source: InputSource) => allowed(parse(raw, source)),
    maxBodyBytes: limits.bodyBytes,
    keepBase64: true,
    account,
    onError,
    ownerOf,
    clientOf: (c: Context) => clientOf(c, passed.proxies),
  };
  const parseChange = (raw: unknown) => {
    const change = parseUpdate(raw);
    checkUpdate(change, limits);
    return change;
  };

  // Browsers get the page, where it is built; curl gets words.
  app.route("/", playground());
  app.get("/", (c) => c.text(hello(addressOf(c))));
  app.get("/health", (c) => c.json({ status: "ok", ...health() }));
  app.get("/ready", (c) => {
    const reason = draining() ? "draining" : unready?.();
    return reason === undefined ? c.json({ status: "ready" }) : c.json({ status: "unready", reason }, 503);
  });
  if (metrics !== undefined) app.get("/metrics", metrics.route);
  // Nobody sees previews there, so none are made.
  app.post("/", json(jobs, { ...input, parse: (...raw) => ({ ...input.parse(...raw), preview_every: 0 }) }));
  app.on(["GET", "POST"], "/stream", sse(jobs, { ...input, maxGraceS: patience.streamSeconds }));
  app.get("/stream/:job", resume(jobs, input));
  // The gate sees a session's upgrade, not what comes over it later.
  const ask = {
    ...input,
    parse: (raw: unknown) => {
      if (draining()) throw new JobError("draining", "The server is restarting", RESTART_SECONDS);
      return input.parse(raw, "body");
    },
    parseUpdate: parseChange,
    parseDefaults,
    admit: async (c: Context) => (await rate?.(input.clientOf(c)))?.failure,
    expiresAt: (c: Context) => principalOf(c).expiresAt,
    sessions: passed.sessions,
    graceMs: patience.sessionMs,
  };
  app.get("/realtime", realtime(jobs, ask));
  // Who comes without an upgrade is told what is missing.
  app.get("/realtime", () => failureResponse({ status: 426, detail: "This is a WebSocket" }, { Upgrade: "websocket" }));
  app.get("/jobs/:job", jobStatus(jobs, { ownerOf }));
  app.delete("/jobs/:job", cancelJob(jobs, { ownerOf }));
  app.patch("/jobs/:job", updateJob(jobs, { ...input, parse: parseChange }));
  app.route("/queue", queue(jobs, { ...input, webhooks, addressOf }));
  app.post("/auth/token", tokenRoute(authenticator));
  if (model !== undefined) {
    const { countTokens } = model;
    app.route("/v1", openaiImages(jobs, { ...input, model, countTokens, allowed }));
  }

  const document = () => {
    const patterns = new Set(app.routes.map(({ method, path }) => `${method} ${path.replace(/\{[^}]*\}/g, "")}`));
    const present = ({ method, path }: RouteDescription) =>
      patterns.has(`${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ":$1")}`);
    const version = String(health().version ?? "0.0.0");
    return openapiDocument({ version, secured: authenticator.required, present });
  };
  let openapi: string | undefined;
  app.get("/openapi.json", (c) => {
    openapi ??= JSON.stringify(document());
    return c.body(openapi, 200, { "Content-Type": "application/json" });
  });
  app.get("/docs", docsPage(document));

  app.notFound((c) => refusal(c, { status: 404, detail: "Not Found" }));
  app.onError((error, c) => {
    const failure = failureOf(error);
    if (isServerFault(error)) onError?.(error);
    return refusal(c, failure);
  });
  return Object.assign(app, {
    drain(graceMs?: number) {
      ending = true;
      return jobs.drain(graceMs);
    },
  });
}

/** `told`, which throws nothing; `failed` hears of what it would have thrown. */
function guarded<Args extends unknown[]>(told: (...args: Args) => void, failed: (error: unknown) => void) {
  return (...args: Args): void => {
    try {
      told(...args);
    } catch (error) {
      failed(error);
    }
  };
}

/** For what nobody is left to be told of. */
function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error));
}

/** Seconds after which another process has probably taken over. */
const RESTART_SECONDS = 5;

function parse(raw: unknown, source: InputSource): GenerationRequest {
  return parseRemoteGeneration(source === "query" ? fromQuery(raw as Record<string, string>) : raw);
}

const NUMBER_FIELDS = new Set<string>([
  "width",
  "height",
  "num_inference_steps",
  "guidance_scale",
  "num_images",
  "preview_every",
  "preview_max_fps",
  "preview_size",
  "preview_quality",
  "strength",
] satisfies (keyof GenerationRequest)[]);

/** A query is all strings; what should be a number and looks like one becomes one, the rest is left for the schema. */
function fromQuery(query: Record<string, string>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(query).map(([name, text]) => {
      if (name === "few_step" && (text === "true" || text === "false")) return [name, text === "true"];
      const number = NUMBER_FIELDS.has(name) && text.trim() !== "" ? Number(text) : Number.NaN;
      return [name, Number.isNaN(number) ? text : number];
    }),
  );
}

/** @param address where the app is, whatever it is mounted below */
function hello(address: URL): string {
  const origin = `${address.origin}${address.pathname}`.replace(/\/+$/, "");
  return `Daguerre is up. Watch a picture develop:

  curl -N ${origin}/stream -H 'content-type: application/json' -d '{"prompt":"a lighthouse at sunset"}'

POST /          the finished picture, as JSON
POST /stream    the picture while it forms, as server-sent events (GET /stream?prompt=… does the same)
GET  /stream/{job}    the same stream from after Last-Event-ID; DELETE /jobs/{job} cancels
GET  /health    which model runs, on which adapter
`;
}
