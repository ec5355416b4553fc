/**
 * OpenAI's images API over jobs: `app.route("/v1", openaiImages(jobs, options))`.
 *
 * Format: https://platform.openai.com/docs/api-reference/images-streaming. Unlike the rest of this server's streams, an
 * event has an `event:` line, its type, and a failure in mid-stream is an `error` event with the error body; that is
 * what the client expects. The client repeats 408, 409, 429 and 5xx twice unless told not to, and a picture that failed
 * once fails again, so only "busy" may be repeated.
 */
import { type Context, Hono } from "hono";
import { Base64Text } from "../src/engine/base64-text.ts";
import type { Picture, RunEvent } from "../src/engine/events.ts";
import type { GenerationRequest } from "../src/engine/request.ts";
import { encodePicture, PREVIEW_QUALITY } from "../src/image/encode.ts";
import type { LogEntry, LogReader } from "../src/jobs/job-log.ts";
import type { Job, Jobs } from "../src/jobs/jobs.ts";
import { ownerOf } from "./auth.ts";
import { CANCELLED, type Failure, failureOf, isServerFault } from "./failure.ts";
import { readForm } from "./form.ts";
import { type BodyOptions, readJson } from "./input.ts";
import { JsonText } from "./json-text.ts";
import {
  fieldsOfForm,
  type ImagesRequest,
  imageEditSchema,
  imageGenerationSchema,
  parseImagesRequest,
  type ServedModel,
} from "./openai-request.ts";
import { type AnswerOptions, jsonAnswer, Outflow, type Said } from "./outflow.ts";
import { submit } from "./source.ts";
import { tracedEncode } from "./tracing.ts";
import { type Envelope, envelopeOf, idHeaders } from "./wire.ts";

export interface OpenAiOptions extends BodyOptions, AnswerOptions {
  model: ServedModel;
  /** Tokens of a prompt, as the model's text encoder counts them. */
  countTokens: (text: string) => number;
  /** Gives back a request that this server allows; throws a RequestError for others. */
  allowed?: (request: GenerationRequest) => GenerationRequest;
  /** Told of every error that the client is not to see (5xx). */
  onError?: (error: unknown, requestId: string) => void;
}

const HEARTBEAT_MS = 15_000;
/** As in `sse.ts`: a run that fails within them is answered with a status. */
const HEADERS_WITHIN_MS = 100;
const HEARTBEAT = new TextEncoder().encode(": ping\n");

type Kind = "image_generation" | "image_edit";
type ImageJobs = Jobs<GenerationRequest, RunEvent>;

/** `POST /images/generations` and `POST /images/edits`. */
export function openaiImages(jobs: ImageJobs, options: OpenAiOptions): Hono {
  const { model } = options;
  const app = new Hono();
  app.post("/images/generations", (c) =>
    answer(c, "image_generation", jobs, options, async () =>
      parseImagesRequest(await readJson(c, options, true), imageGenerationSchema, model),
    ),
  );
  app.post("/images/edits", (c) =>
    answer(c, "image_edit", jobs, options, async () =>
      parseImagesRequest(fieldsOfForm(await readForm(c, options)), imageEditSchema, model),
    ),
  );
  return app;
}

async function answer(
  c: Context,
  kind: Kind,
  jobs: ImageJobs,
  options: OpenAiOptions,
  read: () => Promise<ImagesRequest>,
): Promise<Response> {
  let envelope = envelopeOf(undefined);
  const fail = (error: unknown): Failure => {
    const failure = failureOf(error);
    if (isServerFault(error)) options.onError?.(error, envelope.requestId);
    return failure;
  };
  try {
    const request = await read();
    options.allowed?.(request.generation);
    envelope = envelopeOf(request.generation);
    const { prompt, negative_prompt } = request.generation;
    const tokens = options.countTokens(prompt) + (negative_prompt === "" ? 0 : options.countTokens(negative_prompt));
    const job = submit(c, jobs, request.generation, { ...options, ownerOf }, { id: envelope.requestId });
    const answered = { c, kind, request, envelope, tokens, reader: readerOf(c, job), options, fail };
    return request.stream ? await stream(answered) : await whole(answered);
  } catch (error) {
    return openaiFailure(fail(error), idHeaders(envelope));
  }
}

/** One request and all that its answer is made of. */
interface Answered {
  readonly c: Context;
  readonly kind: Kind;
  readonly request: ImagesRequest;
  readonly envelope: Envelope;
  readonly tokens: number;
  readonly reader: LogReader<RunEvent>;
  readonly options: AnswerOptions;
  readonly fail: (error: unknown) => Failure;
}

/** A reader of the job that leaves when the client does; the job is cancelled then, since nothing here resumes. */
function readerOf(c: Context, job: Job<GenerationRequest, RunEvent>): LogReader<RunEvent> {
  const reader = job.watch({ graceMs: 0 });
  const client = c.req.raw.signal;
  if (client.aborted) reader.close();
  else client.addEventListener("abort", reader.close, { once: true });
  return reader;
}

/** @throws what the run has thrown, or a `JobError` */
function eventOf(entry: LogEntry<RunEvent>): RunEvent {
  if ("error" in entry) throw entry.error;
  return entry.event;
}

async function whole({ c, request, envelope, tokens, reader, options }: Answered): Promise<Response> {
  let pictures: readonly Picture[] = [];
  for (;;) {
    const read = await reader.next(HEARTBEAT_MS);
    if (read === "quiet") continue;
    if (typeof read === "string") break;
    const event = eventOf(read);
    if (event.type === "result") pictures = event.pictures;
  }
  const [first] = pictures;
  if (first === undefined) throw new DOMException("The client has gone", "AbortError");
  const data: object[] = [];
  for (const picture of pictures) {
    const { bytes, content_type } = await encode(picture, request, envelope);
    const dataUri = request.responseFormat === "url";
    const text = new Base64Text(dataUri ? `data:${content_type};base64,` : "", bytes, true);
    data.push(dataUri ? { url: text } : { b64_json: text });
  }
  const { created_at, quality, ...look } = lookOf(request, first);
  const body = {
    created: created_at,
    ...look,
    quality: quality === "auto" ? "medium" : quality,
    data,
    usage: usageOf(tokens),
  };
  return jsonAnswer(c, JsonText.of(body), idHeaders(envelope), options);
}

/** The first entry that says more than that the job waits, if it comes soon. */
async function firstWord(reader: LogReader<RunEvent>): Promise<LogEntry<RunEvent> | undefined> {
  const until = performance.now() + HEADERS_WITHIN_MS;
  for (;;) {
    const read = await reader.next(Math.max(0, until - performance.now()));
    if (typeof read === "string") return undefined;
    if ("error" in read || read.event.type !== "queued") return read;
  }
}

async function stream({ c, kind, request, envelope, tokens, reader, options, fail }: Answered): Promise<Response> {
  let waiting = await firstWord(reader);
  // Nothing was sent yet, so a failure still has its status.
  if (waiting !== undefined && "error" in waiting) throw waiting.error;

  let partials = 0;
  /** An event's blocks; none for a step, and for a partial image too many. */
  async function* blocks(entry: LogEntry<RunEvent>): AsyncGenerator<Said> {
    const event = eventOf(entry);
    if (event.type === "preview") {
      if (partials >= request.partialImages) return;
      const { bytes } = await encode(event.picture, request, envelope, PREVIEW_QUALITY);
      const type = `${kind}.partial_image`;
      const look = lookOf(request, event.picture);
      yield block(type, { type, b64_json: base64Of(bytes), partial_image_index: partials++, ...look });
    }
    if (event.type !== "result") return;
    const type = `${kind}.completed`;
    const last = event.pictures.length - 1;
    for (const [index, picture] of event.pictures.entries()) {
      const { bytes } = await encode(picture, request, envelope);
      // Several pictures cost one prompt: it is counted with the last of them.
      const usage = usageOf(index === last ? tokens : 0);
      yield block(type, { type, b64_json: base64Of(bytes), ...lookOf(request, picture), usage });
    }
  }

  let unsaid: AsyncGenerator<Said> | undefined;
  let cancelled = false;
  const outflow = new Outflow(c, options, reader.close);
  /** The next chunk to send; undefined: there is none, and the stream is over. */
  async function next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const chunk = await outflow.next();
      if (chunk !== undefined) return chunk;
      try {
        const said = await unsaid?.next();
        if (said?.done === false) {
          if (!outflow.say(said.value)) return undefined;
          continue;
        }
        unsaid = undefined;
        const read = waiting ?? (await reader.next(HEARTBEAT_MS));
        waiting = undefined;
        if (read === "ended" || cancelled) return undefined;
        if (read === "quiet") return HEARTBEAT;
        if (read === "lost") throw new Error("the stream fell behind its job");
        unsaid = blocks(read);
      } catch (error) {
        unsaid = undefined;
        reader.close();
        outflow.say(block("error", openaiError(fail(error))));
      }
    }
  }
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const chunk = await next();
        if (cancelled) return;
        if (chunk === undefined) controller.close();
        else controller.enqueue(chunk);
      },
      cancel() {
        cancelled = true;
        reader.close();
        outflow.end();
      },
    },
    { highWaterMark: 0 },
  );
  const headers = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    ...idHeaders(envelope),
  };
  return new Response(body, { headers });
}

function encode(
  picture: Picture,
  request: ImagesRequest,
  { requestId }: Envelope,
  quality: number = request.compression,
) {
  const { output_format: format } = request.generation;
  return tracedEncode(requestId, () => encodePicture(picture, { format, quality }));
}

function base64Of(bytes: Uint8Array): Base64Text {
  return new Base64Text("", bytes, true);
}

function lookOf({ generation, quality }: ImagesRequest, { width, height }: Picture) {
  return {
    created_at: Math.floor(Date.now() / 1000),
    size: `${width}x${height}`,
    quality,
    background: "opaque",
    output_format: generation.output_format,
  };
}

/** Only text is made of tokens here; a picture counts none. */
function usageOf(tokens: number) {
  return {
    total_tokens: tokens,
    input_tokens: tokens,
    output_tokens: 0,
    input_tokens_details: { text_tokens: tokens, image_tokens: 0 },
  };
}

function block(event: string, data: unknown): JsonText {
  return JsonText.of(data, [`event: ${event}\ndata: `, "\n\n"]);
}

/** The error body of OpenAI's API. */
export interface OpenAiError {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
  };
}

/** A failure in OpenAI's words. */
export function openaiError({ status, detail }: Failure): OpenAiError {
  const [first] = typeof detail === "string" ? [] : detail;
  const message =
    typeof detail === "string"
      ? detail
      : detail.map(({ loc, msg }) => (loc.length > 1 ? `${loc.slice(1).join(".")}: ${msg}` : msg)).join("; ");
  return {
    error: {
      message,
      type: errorType(status),
      param: first === undefined || first.loc.length < 2 ? null : first.loc.slice(1).join("."),
      code: first?.type ?? ERROR_CODES[status] ?? null,
    },
  };
}

function errorType(status: number): string {
  if (status === 401) return "authentication_error";
  if (status === 403) return "permission_error";
  if (status === 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

const ERROR_CODES: Readonly<Record<number, string>> = {
  401: "invalid_api_key",
  429: "rate_limit_exceeded",
  [CANCELLED]: "cancelled",
  500: "server_error",
  503: "server_busy",
  504: "timeout",
};

/** A failure before anything was sent, as a response. What FastAPI calls 422 is 400 here, and an unknown model 404. */
export function openaiFailure(failure: Failure, headers: Record<string, string> = {}): Response {
  const body = openaiError(failure);
  const status = failure.status !== 422 ? failure.status : body.error.code === "model_not_found" ? 404 : 400;
  const again = status === 429 || status === 503;
  return Response.json(body, {
    status,
    headers: {
      ...headers,
      "x-should-retry": String(again),
      ...(failure.retryAfter !== undefined && { "Retry-After": String(failure.retryAfter) }),
    },
  });
}
