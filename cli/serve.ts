/** `daguerre serve`: a runtime behind HTTP, until a signal ends it. */
import { isIP } from "node:net";
import { appOfRuntime, type RuntimeAppOptions } from "../runtime-app.ts";
import type { ServedRuntime } from "../src/hosts/engine/engine-process.ts";
import { createAccount } from "../src/jobs/account.ts";
import { createAuthenticator } from "../transports/gate/auth.ts";
import { parseHost } from "../transports/gate/host.ts";
import { type Listening, listen } from "../transports/http/listen.ts";
import { createMetrics } from "../transports/observe/metrics.ts";
import { canBeFaster } from "./advise.ts";
import { listenError } from "./checks.ts";
import { ConfigError } from "./config.ts";
import type { Config } from "./config-schema.ts";
import { openLog, REQUEST } from "./log.ts";
import { gpuVendors } from "./machine.ts";
import { DRAWING_BYTES, memoryBound, memoryBounds } from "./memory-bound.ts";
import { version } from "./version.ts";

/** A server, and what it says of itself when something was thrown that nobody caught. */
export interface Server extends Listening {
  failed(error: unknown, origin: string): void;
}

/**
 * Serves `runtime` and prints, once its kernels are compiled, what it computes on and a line to try it with. Requests, and
 * errors that clients are not shown, are logged on stderr, with the request's id. Closing it first refuses new work.
 *
 * @param onReady called before that is printed
 * @throws the system's error when the port cannot be had; ConfigError for keys that cannot be used; what `warmUp` throws
 */
export async function serve(
  runtime: ServedRuntime,
  config: Config,
  write: (text: string) => unknown,
  onReady?: () => void,
): Promise<Server> {
  const { limits, auth } = config;
  const log = await openLog(config);
  const metrics = createMetrics({ device: runtime.device, engine: runtime.process, models: () => runtime.models });
  if (runtime.process !== undefined) runtime.process.onLost = (error) => log.error({ err: error }, ENGINE_LOST);
  const account = createAccount(memoryBounds(config));
  metrics.account(account, memoryBound(config));
  const onError = (error: unknown, requestId?: string) =>
    log.error({ err: error, request_id: requestId }, "request failed");
  runtime.watchModels(({ error, change, ...facts }) => {
    const level = error === undefined ? "info" : "error";
    log[level]({ ...facts, ...(error !== undefined && { err: error }) }, `model ${change}`);
  });
  let warming = true;
  const app = appOfRuntime(runtime, {
    ...settingsOf(config),
    health: () => ({ version }),
    account,
    metrics,
    unready: () => (warming ? "kernels are being compiled" : undefined),
    onRequest: (entry) => log.info(entry, REQUEST),
    onError,
  });
  const server = await listen(app, config.port, config.host, {
    connections: limits.connections,
    headersMs: limits.headers_seconds * 1000,
    requestMs: limits.request_seconds * 1000,
    frameBytes: limits.frame_bytes,
    account,
    onError,
    onServer: metrics.watch,
  }).catch((error) => {
    throw listenError(error, config.port, config.host);
  });
  for (const note of (await runtime.loras()).notes) log.warn({ lora_dir: config.lora_dir }, note);
  // Requests that come meanwhile wait their turn; /ready says that there is one to wait for.
  try {
    await runtime.warmUp();
  } catch (error) {
    await server.close(0);
    throw error;
  }
  warming = false;
  onReady?.();
  write(greeting(runtime, reachable(server.url)));
  if (!isLoopback(config.host) && auth.keys.length === 0 && auth.token_secret === undefined) write(OPEN_TO_ALL);
  return {
    ...server,
    failed: (error, origin) => log.fatal({ err: error, origin }, "an error that nobody expected: ending"),
    async close(graceMs = 0) {
      log.info("draining");
      const until = performance.now() + graceMs;
      // The port stays open meanwhile: probes are told, results are fetched, and what is refused is told when to ask again.
      await app.drain(graceMs);
      await server.close(Math.max(until - performance.now(), 0) + LAST_WORDS_MS);
    },
  };
}

/** The configuration in the app's own terms. */
function settingsOf({ limits, webhooks, ...config }: Config): RuntimeAppOptions {
  return {
    gate: {
      authenticator: authenticatorOf(config.auth),
      corsOrigins: config.cors_origins,
      // The name that it listens on is one of its own; an address passes without being listed.
      hosts: parseHost(config.host) === undefined ? config.hosts : [...config.hosts, config.host],
      publicUrl: config.public_url,
      getStream: config.get_stream,
      requestsPerMinute: limits.requests_per_minute,
      sessions: limits.sessions,
      proxies: config.proxies,
    },
    limits: {
      promptCharacters: limits.prompt_characters,
      pixels: limits.pixels,
      steps: limits.steps,
      images: limits.images,
      bodyBytes: limits.body_bytes,
    },
    jobs: {
      maxQueued: limits.waiting,
      maxQueuedBytes: limits.waiting_bytes,
      maxWorkingBytes: DRAWING_BYTES,
      deadlineMs: limits.deadline_seconds * 1000,
      retentionMs: config.retention_seconds * 1000,
      retainedJobs: limits.retained_jobs,
      retainedBytes: limits.retained_bytes,
      log: { bytes: limits.log_bytes },
    },
    resume: {
      streamSeconds: limits.stream_resume_seconds,
      sessionMs: limits.session_resume_seconds * 1000,
    },
    webhooks: {
      hosts: webhooks.hosts,
      allowPrivate: webhooks.allow_private,
      secrets: webhooks.secrets,
      keySecrets: new Map(
        config.auth.keys.flatMap(({ name, webhook_secrets: own }) => (own === undefined ? [] : [[name, own]])),
      ),
    },
  };
}

const ENGINE_LOST = "the engine was lost; its pictures go on in another process";

/** Milliseconds that what jobs said last has to reach their clients. */
const LAST_WORDS_MS = 1_000;

const OPEN_TO_ALL = `
Everybody who reaches this address may use it: set auth.keys (docs/configuration.md), or put a gateway before it.
`;

function authenticatorOf({ keys, token_secret, token_seconds }: Config["auth"]) {
  try {
    return createAuthenticator({ keys, tokenSecret: token_secret, tokenSeconds: token_seconds });
  } catch (error) {
    if (error instanceof RangeError) throw new ConfigError([`auth: ${error.message}`]);
    throw error;
  }
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

/** An address that listens everywhere is not one to connect to. */
function reachable(url: string): string {
  return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:");
}

function greeting({ adapter, model, models }: ServedRuntime, url: string): string {
  const kind =
    adapter.kind === "software"
      ? `a software GPU: the CPU does the work, slowly${canBeFaster(gpuVendors(), adapter) ? "; `daguerre doctor` says what would be faster" : ""}`
      : adapter.backend;
  return `daguerre ${version}
  model    ${model.name}, ${model.defaultWidth}x${model.defaultHeight}, ${model.defaultSteps} steps${model.description === undefined ? "" : `\n           ${model.description}`}${models.length > 1 ? `\n           and ${models.length - 1} more: ${url}/models` : ""}
  adapter  ${adapter.name} (${kind})
  serving  ${url}

Watch a picture develop:
  curl -N ${url}/stream -H 'content-type: application/json' -d '{"prompt":"northern lights over a lake"}'
`;
}
