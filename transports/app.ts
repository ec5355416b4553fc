/**
 * The server's routes, put together. Each transport stands alone; this file only says which answers where.
 */
import { type Context, Hono } from "hono";
import type { ModelState } from "../src/engine/contract.ts";
import type { RunEvent } from "../src/engine/events.ts";
import { type GenerationRequest, generationFields } from "../src/engine/request.ts";
import { fieldsOf, fromText } from "../src/engine/request-fields.ts";
import { parseDefaults, parseRemoteGeneration, parseUpdate, withDefaults } from "../src/engine/request-parsing.ts";
import { type Account, createAccount } from "../src/jobs/account.ts";
import { JobError } from "../src/jobs/job-errors.ts";
import { createJobs, type Jobs, type JobsOptions } from "../src/jobs/jobs.ts";
import type { Run } from "../src/jobs/run.ts";
import { a1111Routes } from "./a1111/a1111.ts";
import { failureOf, type InputSource, isServerFault } from "./failure.ts";
import { appNamed } from "./fal/fal-app-name.ts";
import { falAppRoutes } from "./fal/fal-apps.ts";
import { falRoutes } from "./fal/fal-queue.ts";
import { OF_CONNECTION, requestsOverWebSocket, upgradeOf } from "./fal/fal-websocket.ts";
import type { WebhookPolicy } from "./fal/webhook.ts";
import { createAuthenticator, ownerOf, principalOf } from "./gate/auth.ts";
import { type GateOptions, gate } from "./gate/gate.ts";
import { checkGeneration, checkUpdate, type GenerationLimits } from "./gate/generation-limits.ts";
import { ModelChoice, type ServedModel } from "./gate/model-choice.ts";
import { createRate, type Rate } from "./gate/rate.ts";
import { tokenRoutes } from "./gate/token-route.ts";
import { wholeAddress } from "./http/address.ts";
import { clientOf } from "./http/client.ts";
import { jobRoutes } from "./job-routes.ts";
import { json, jsonRoutes } from "./json.ts";
import type { Metrics } from "./observe/metrics.ts";
import { observedRun } from "./observe/observed-run.ts";
import { type MessageLog, messageLog, type RequestEntry, requestLog } from "./observe/request-log.ts";
import { Tracing } from "./observe/tracing.ts";
import { openaiRoutes } from "./openai/images.ts";
import { type Preprocess, preprocessRoutes } from "./preprocess-routes.ts";
import { realtimeRoutes } from "./realtime/realtime-routes.ts";
import { realtime } from "./realtime/websocket.ts";
import { type RouteGroup, RouteTable } from "./route.ts";
import { serverRoutes } from "./server-routes.ts";
import type { JobRequestOptions } from "./source.ts";
import { encodedBytes } from "./stream/frames.ts";
import { sse } from "./stream/sse.ts";
import { streamRoutes } from "./stream/stream-routes.ts";

export interface AppOptions {
  run: Run<GenerationRequest, RunEvent>;
  /** The fields of `GET /health` besides `status`: version, adapter, model. */
  health: () => Record<string, unknown>;
  /**
   * The model that answers a request which names none; without it there are no OpenAI routes, and limits see only what a
   * request says. `countTokens` counts for the model of a name.
   */
  model?: ServedModel & { countTokens: (text: string, model?: string) => number | Promise<number> };
  /** All models that answer, as they stand at this moment, the default first; which they are never changes. Left out: `model`. */
  models?: () => readonly (ServedModel & Partial<ModelState>)[];
  /** Names of the LoRAs that a request may use; left out: there are none. */
  loras?: () => Promise<readonly string[]>;
  /** Names of the embeddings that a prompt may name; left out: there are none. */
  embeddings?: () => Promise<readonly string[]>;
  /** Names of the ControlNets and adapters that requests may have; left out: none. */
  controls?: () => Promise<readonly string[]>;
  /** Makes a picture for a ControlNet of any other; left out: there are no preprocessors. */
  preprocess?: Preprocess;
  /** Rules about clients, pages and rates. Left out: everybody, from the server's own pages, as often as they like. */
  gate?: Partial<Omit<GateOptions, "model" | "routes">>;
  /** Counts; with it there is `GET /metrics`. */
  metrics?: Metrics;
  /** Why no picture can be made at this moment; undefined when it can. */
  unready?: () => string | undefined;
  /** Told of every request, when its answer begins. */
  onRequest?: (entry: RequestEntry) => void;
  /** Limits of one request, and the bytes of its body. */
  limits?: GenerationLimits & { readonly bodyBytes?: number };
  /** How jobs are admitted and how long they are held; one runs at a time unless it says otherwise. */
  jobs?: JobsOptions<RunEvent, GenerationRequest>;
  /** How long jobs wait for clients whose connection broke. */
  resume?: {
    /** Seconds that the client of a stream may ask for, at most. */
    readonly streamSeconds?: number;
    /** Milliseconds that a realtime session waits. */
    readonly sessionMs?: number;
  };
  /** Where the queue may post results; left out: nowhere. */
  webhooks?: WebhookPolicy;
  /** The account of memory held for clients, which bounds it; left out: an account of its own, of the usual bounds. */
  account?: Account;
  /** Told of every error that the client is not to see. */
  onError?: (error: unknown, requestId?: string) => void;
}

/** An app as any of Hono's, and its orderly end. */
export type App = Hono & {
  /** Its routes, each with what it needs and says of itself. */
  readonly routeTable: RouteTable;
  /**
   * Refuses new work from now on, and settles when no job is left or, those left after `graceMs` having been handed back
   * to their clients, shortly after. Answers and sessions stay open; closing the server is the next thing to do.
   */
  drain(graceMs?: number): Promise<void>;
};

export function createApp(options: AppOptions): App {
  const { health, gate: gateOptions, metrics, unready, account = createAccount() } = options;
  // An error of a listener must not end the process.
  const onError = options.onError && guarded(options.onError, warn);
  const onRequest = options.onRequest && guarded(options.onRequest, onError ?? warn);
  const tracing = new Tracing();
  const run = observedRun(options.run, metrics === undefined ? [tracing.observe] : [tracing.observe, metrics.observe]);
  const jobs = createJobs(run, {
    concurrency: 1,
    queuedEvent: (position, seconds): RunEvent => ({
      type: "queued",
      position,
      ...(seconds !== undefined && { seconds }),
    }),
    account,
    onError,
    ...options.jobs,
  });
  account.enter("encoded", encodedBytes);
  tracing.jobs(jobs);
  metrics?.jobs(jobs);

  const { authenticator = createAuthenticator({ keys: [] }), ...gateSettings } = gateOptions ?? {};
  const proxies = gateSettings.proxies ?? 0;
  let ending = false;
  const draining = () => ending || (gateSettings.draining?.() ?? false);
  const rate = gateSettings.requestsPerMinute === undefined ? undefined : createRate(gateSettings.requestsPerMinute);
  const publicUrl = gateSettings.publicUrl === undefined ? undefined : new URL(gateSettings.publicUrl);
  const addressOf = (c: Context) => wholeAddress(c, { publicUrl, proxies });
  const { model, models: statesOf = () => (model === undefined ? [] : [model]) } = options;
  const models = new ModelChoice(statesOf());
  const modelOf = (id: string) => {
    const job = jobs.get(id);
    return job && (job.input.model ?? models.all[0]?.name);
  };
  const input = {
    ...inputOptions(options, models),
    account,
    tracing,
    onError,
    clientOf: (c: Context) => clientOf(c, proxies),
    messageLog: onRequest && messageLog(onRequest, { proxies, modelOf }),
  };

  const table: RouteTable = new RouteTable([
    ...jobGroups(jobs, options, input, { draining, rate, addressOf, models }),
    {
      base: "",
      scope: "run",
      routes: [
        ...tokenRoutes(authenticator),
        ...preprocessRoutes(options.preprocess, input),
        ...serverRoutes({
          health,
          loras: options.loras ?? none,
          models: (c) => statesOf().filter(({ name }) => models.of(c).some((own) => own.name === name)),
          controls: options.controls ?? none,
          unready: () => (draining() ? "draining" : unready?.()),
          metrics,
          secured: authenticator.required,
          descriptions: () => table.descriptions,
          addressOf,
        }),
      ],
    },
  ]);

  const app = new Hono();
  app.use(tracing.requests);
  if (metrics !== undefined) app.use(metrics.requests);
  if (onRequest !== undefined) app.use(requestLog(onRequest, { proxies, modelOf, jobOf: (id) => jobs.get(id) }));
  const names = models.all.map(({ name }) => name);
  const rules = { ...gateSettings, proxies, routes: table, rate, authenticator, draining };
  app.use(gate({ corsOrigins: [], model: names, ...rules }));
  table.addTo(app);
  app.notFound((c) => table.refuse(c, { status: 404, detail: "Not Found" }));
  app.onError((error, c) => {
    if (isServerFault(error)) onError?.(error);
    return table.refuse(c, failureOf(error));
  });
  return Object.assign(app, {
    routeTable: table,
    drain(graceMs?: number) {
      ending = true;
      return jobs.drain(graceMs);
    },
  });
}

/** How every transport reads a request. */
function inputOptions({ limits = {} }: AppOptions, models: ModelChoice) {
  /** A request with the name of its model, if there are several, once it is known to be allowed. */
  const allowed = (request: GenerationRequest, c: Context) => {
    const app = appNamed(c);
    const asked = request.model ?? (app === undefined ? undefined : models.named(app));
    const model = models.all.length === 0 ? undefined : models.choose(asked, c);
    checkGeneration(request, limits, model);
    return models.areSeveral ? { ...request, model: model!.name } : request;
  };
  return {
    allowed,
    parse: (raw: unknown, source: InputSource, c: Context) => allowed(parse(raw, source), c),
    parseChange: (raw: unknown) => {
      const change = parseUpdate(raw);
      checkUpdate(change, limits);
      return change;
    },
    maxBodyBytes: limits.bodyBytes,
    keepBase64: true,
    ownerOf,
  };
}

/** The facts about a server that the transports need. */
interface Around {
  readonly draining: () => boolean;
  readonly rate: Rate | undefined;
  readonly addressOf: (c: Context) => URL;
  readonly models: ModelChoice;
}

type TransportInput = ReturnType<typeof inputOptions> &
  Pick<JobRequestOptions<GenerationRequest>, "account" | "tracing" | "onError"> & {
    clientOf: (c: Context) => string;
    messageLog: MessageLog | undefined;
  };

/** The transports: each adds its routes here. */
function jobGroups(
  jobs: Jobs<GenerationRequest, RunEvent>,
  { model, loras = none, embeddings = none, resume: patience = {}, webhooks, gate: { sessions } = {} }: AppOptions,
  input: TransportInput,
  { draining, rate, addressOf, models }: Around,
): RouteGroup[] {
  const { parse, parseChange, allowed } = input;
  // The gate sees a session's upgrade, not what comes over it later.
  const session = {
    ...input,
    parse: (raw: unknown, c: Context) => {
      if (draining()) throw new JobError("draining", "The server is restarting", RESTART_SECONDS);
      return parse(raw, "body", c);
    },
    parseUpdate: parseChange,
    parseDefaults,
    withDefaults,
    admit: async (c: Context) => (await rate?.(input.clientOf(c)))?.failure,
    expiresAt: (c: Context) => principalOf(c).expiresAt,
    sessions,
    graceMs: patience.sessionMs,
  };
  // Nobody sees previews there, so none are made.
  const finished = { ...input, parse: (...of: Parameters<typeof parse>) => withoutPreviews(parse(...of)) };
  const overSocket = (raw: unknown, _: InputSource, c: Context) => session.parse(raw, upgradeOf(c));
  const streamed = { ...input, maxGraceS: patience.streamSeconds };
  const sessionHandler = realtime(jobs, session);
  const groups: RouteGroup[] = [
    {
      base: "",
      scope: "run",
      routes: [
        ...jsonRoutes(jobs, finished),
        ...streamRoutes(jobs, streamed),
        ...realtimeRoutes(sessionHandler),
        ...jobRoutes(jobs, { ...input, parse: parseChange }),
      ],
    },
  ];
  if (model !== undefined)
    groups.push(
      openaiRoutes(jobs, { ...input, model, models, countTokens: model.countTokens, allowed }),
      ...a1111Routes(jobs, { ...input, model: model.name, loras, embeddings, allowed }),
    );
  groups.push(falRoutes(jobs, { ...input, webhooks, addressOf }), {
    base: "",
    scope: "run",
    routes: falAppRoutes(
      models.all.map(({ name }) => name),
      {
        run: json(jobs, finished),
        stream: sse(jobs, streamed),
        realtime: sessionHandler,
        runSocket: requestsOverWebSocket(
          json(jobs, { ...finished, ...OF_CONNECTION, parse: (...of) => withoutPreviews(overSocket(...of)) }),
          session,
        ),
        streamSocket: requestsOverWebSocket(sse(jobs, { ...streamed, ...OF_CONNECTION, parse: overSocket }), session),
      },
    ),
  });
  return groups;
}

const none = async (): Promise<readonly string[]> => [];

function withoutPreviews(request: GenerationRequest): GenerationRequest {
  return { ...request, preview_every: 0 };
}

/** `told`, which throws nothing; `failed` hears of what it would have thrown. */
function guarded<Args extends unknown[]>(listener: (...args: Args) => void, failed: (error: unknown) => void) {
  return (...args: Args): void => {
    try {
      listener(...args);
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

const FIELDS = fieldsOf(generationFields);

/** A query is all strings; the schema says which of them are numbers or booleans. */
function fromQuery(query: Record<string, string>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(query).map(([name, text]) => [name, fromText(text, FIELDS.get(name)?.kind)]),
  );
}
