/**
 * The server's routes, put together. Each transport stands alone; this file only says which answers where.
 */
import { Hono } from "hono";
import { cors } from "hono/cors";
import type { RunEvent } from "../src/engine/events.ts";
import { type GenerationRequest, parseRemoteGeneration } from "../src/engine/request.ts";
import { failureOf, failureResponse, type InputSource } from "./failure.ts";
import type { Run } from "./generator.ts";
import { json } from "./json.ts";
import { playground } from "./playground.ts";
import { sse } from "./sse.ts";

export interface AppOptions {
  run: Run<GenerationRequest, RunEvent>;
  /** What `GET /health` tells besides `status`: version, adapter, model. */
  health: () => Record<string, unknown>;
  /** Told of every error that the client is not to see. */
  onError?: (error: unknown, requestId?: string) => void;
}

export function createApp({ run, health, onError }: AppOptions): Hono {
  const app = new Hono();
  app.use(cors({ origin: "*", exposeHeaders: ["x-request-id", "x-fal-request-id", "retry-after"] }));

  // Browsers get the page, where it is built; curl gets words.
  app.route("/", playground());
  app.get("/", (c) => c.text(hello(new URL(c.req.url).origin)));
  app.get("/health", (c) => c.json({ status: "ok", ...health() }));
  // Nobody sees previews there, so none are made.
  app.post("/", json(run, { parse: (raw) => ({ ...parseRemoteGeneration(raw), preview_every: 0 }), onError }));
  app.on(["GET", "POST"], "/stream", sse(run, { parse, onError }));

  app.notFound(() => failureResponse({ status: 404, detail: "Not Found" }));
  app.onError((error) => {
    const failure = failureOf(error);
    if (failure.status >= 500) onError?.(error);
    return failureResponse(failure);
  });
  return app;
}

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
  "strength",
] satisfies (keyof GenerationRequest)[]);

/** A query is all strings; what should be a number and looks like one becomes one, the rest is left for the schema. */
function fromQuery(query: Record<string, string>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(query).map(([name, text]) => {
      const number = NUMBER_FIELDS.has(name) && text.trim() !== "" ? Number(text) : Number.NaN;
      return [name, Number.isNaN(number) ? text : number];
    }),
  );
}

function hello(origin: string): string {
  return `Daguerre is up. Watch a picture develop:

  curl -N ${origin}/stream -H 'content-type: application/json' -d '{"prompt":"a lighthouse at sunset"}'

POST /          the finished picture, as JSON
POST /stream    the picture while it forms, as server-sent events (GET /stream?prompt=… does the same)
GET  /health    which model runs, on which adapter
`;
}
