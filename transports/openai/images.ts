/**
 * OpenAI's images API over jobs: `app.route("/v1", openaiImages(jobs, options))`.
 *
 * Format: https://platform.openai.com/docs/api-reference/images-streaming. Unlike the rest of this server's streams, an
 * event has an `event:` line, its type, and a failure in mid-stream is an `error` event with the error body; that is
 * what the client expects. The client repeats 408, 409, 429 and 5xx twice unless told not to, and a picture that failed
 * once fails again, so only "busy" may be repeated.
 */
import { type Context, Hono } from "hono";
import { Base64Text } from "../../src/engine/base64-text.ts";
import type { Picture, RunEvent } from "../../src/engine/events.ts";
import type { GenerationRequest } from "../../src/engine/request.ts";
import { encodePicture, PREVIEW_QUALITY } from "../../src/image/encode.ts";
import type { LogEntry } from "../../src/jobs/job-log.ts";
import type { Job, Jobs } from "../../src/jobs/jobs.ts";
import { type Failure, failureOf, isServerFault } from "../failure.ts";
import { ownerOf } from "../gate/auth.ts";
import { type ChooseModel, ModelChoice, type ServedModel } from "../gate/model-choice.ts";
import { readForm } from "../http/form.ts";
import { type BodyOptions, readJson } from "../http/input.ts";
import { addRoutes, type RouteGroup } from "../route.ts";
import { submit } from "../source.ts";
import {
  EVENT_STREAM,
  PING,
  type StreamOptions,
  type StreamProtocol,
  streamResponse,
  type Verdict,
} from "../stream/job-stream.ts";
import { type Chunks, jsonAnswer } from "../stream/outflow.ts";
import { earlyFailure, NO_PREVIEWS, resultOf, watchFor } from "../stream/reading.ts";
import { JsonText } from "../wire/json-text.ts";
import { type Envelope, envelopeOf, envelopeOfJob, idHeaders } from "../wire/wire.ts";
import { EDIT, EDITS, GENERATIONS } from "./images-answers.ts";
import {
  fieldsOfForm,
  fieldsOfJson,
  type ImagesRequest,
  imageGenerationSchema,
  parseEdit,
  parseImagesRequest,
} from "./images-request.ts";
import { modelRoutes } from "./models.ts";
import { openaiError, openaiFailure } from "./openai-error.ts";

export interface OpenAiOptions extends BodyOptions, StreamOptions {
  /** The model that answers. */
  model: ServedModel;
  /** All models that answer, if there are several. */
  models?: ModelChoice;
  /** Tokens of a prompt, as the text encoder of a model counts them. */
  countTokens: (text: string, model?: string) => number | Promise<number>;
  /** Gives back a request that this server allows; throws a RequestError for others. */
  allowed?: (request: GenerationRequest, c: Context) => GenerationRequest;
  /** Told of every error that the client is not to see (5xx). */
  onError?: (error: unknown, requestId: string) => void;
}

/** As in `sse.ts`: a run that fails within them is exchange with a status. */
const HEADERS_WITHIN_MS = 100;

type Kind = "image_generation" | "image_edit";
type ImageJobs = Jobs<GenerationRequest, RunEvent>;

/** `POST /images/generations` and `POST /images/edits`. */
export function openaiImages(jobs: ImageJobs, options: OpenAiOptions): Hono {
  return addRoutes(new Hono(), openaiRoutes(jobs, options));
}

export function openaiRoutes(jobs: ImageJobs, options: OpenAiOptions): RouteGroup {
  const { models = new ModelChoice([options.model]) } = options;
  const chooseFor =
    (c: Context): ChooseModel =>
    (name) =>
      models.choose(name, c);
  return {
    base: "/v1",
    scope: "openai",
    refuse: openaiFailure,
    routes: [
      ...modelRoutes(models),
      {
        method: "POST",
        path: "/images/generations",
        about: { ...GENERATIONS, body: { schema: { name: "ImageGeneration", schema: imageGenerationSchema } } },
        handlers: [
          (c) =>
            answer(c, "image_generation", jobs, options, async () =>
              parseImagesRequest(await readJson(c, options, true), imageGenerationSchema, chooseFor(c)),
            ),
        ],
      },
      {
        method: "POST",
        path: "/images/edits",
        about: { ...EDITS, body: { schema: EDIT, type: "multipart/form-data" } },
        handlers: [
          (c) =>
            answer(c, "image_edit", jobs, options, async () =>
              parseEdit(
                isForm(c) ? fieldsOfForm(await readForm(c, options)) : fieldsOfJson(await readJson(c, options, true)),
                chooseFor(c),
              ),
            ),
        ],
      },
    ],
  };
}

/** A body that says what it is not, as `curl -d` does, is JSON. */
function isForm(c: Context): boolean {
  return /^multipart\//i.test(c.req.header("content-type") ?? "");
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
    options.allowed?.(request.generation, c);
    envelope = envelopeOf(request.generation);
    const { prompt, negative_prompt, model } = request.generation;
    const texts = negative_prompt === "" ? [prompt] : [prompt, negative_prompt];
    const counts = await Promise.all(texts.map((text) => options.countTokens(text, model)));
    const tokens = counts.reduce((sum, count) => sum + count);
    const job = submit(c, jobs, request.generation, { ...options, ownerOf }, { id: envelope.requestId });
    envelope = envelopeOfJob(job, options.tracing);
    const exchange = { c, kind, request, envelope, tokens, job, options, fail };
    return request.stream ? await stream(exchange) : await whole(exchange);
  } catch (error) {
    return openaiFailure(fail(error), idHeaders(envelope));
  }
}

/** One request and all that its answer is made of. */
interface Exchange {
  readonly c: Context;
  readonly kind: Kind;
  readonly request: ImagesRequest;
  readonly envelope: Envelope;
  readonly tokens: number;
  readonly job: Job<GenerationRequest, RunEvent>;
  readonly options: OpenAiOptions;
  readonly fail: (error: unknown) => Failure;
}

/** The job is cancelled when its client leaves, since nothing here resumes. */
const GRACE = { graceMs: 0 };

async function whole({ c, request, envelope, tokens, job, options }: Exchange): Promise<Response> {
  const result = await resultOf(watchFor(c, job, { ...NO_PREVIEWS, ...GRACE }));
  const pictures = result?.type === "result" ? result.pictures : [];
  const [first] = pictures;
  if (first === undefined) throw new DOMException("The client has gone", "AbortError");
  const data: object[] = [];
  for (const [place, picture] of pictures.entries()) {
    const { bytes, content_type } = await encode(picture, request, envelope, { infotext: infotextAt(result, place) });
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
    ...warningsOf(request, result),
  };
  return jsonAnswer(c, JsonText.of(body), idHeaders(envelope), options);
}

async function stream(exchange: Exchange): Promise<Response> {
  const { c, request, envelope, job, options } = exchange;
  const reader = watchFor(c, job, { ...(request.partialImages === 0 && NO_PREVIEWS), ...GRACE });
  // Nothing was sent yet, so a failure still has its status.
  const early = await earlyFailure(job.log, HEADERS_WITHIN_MS, ({ type }) => type !== "queued" && type !== "preparing");
  if (early !== undefined) {
    reader.close();
    throw early.error;
  }
  return streamResponse(c, reader, new ImagesStream(exchange), options, idHeaders(envelope));
}

/** A failure in mid-stream is the last event; its client does not expect the connection to break. */
class ImagesStream implements StreamProtocol<RunEvent> {
  readonly contentType = EVENT_STREAM;
  readonly heartbeat = PING;
  readonly #exchange: Exchange;
  /** Partial images that were sent. */
  #partials = 0;

  constructor(exchange: Exchange) {
    this.#exchange = exchange;
  }

  async *say(entry: LogEntry<RunEvent>): AsyncGenerator<Chunks, Verdict | undefined, undefined> {
    if ("error" in entry) return yield* this.#failed(entry.error);
    try {
      yield* this.#blocks(entry.event);
    } catch (error) {
      this.#exchange.job.cancel(error);
      return yield* this.#failed(error);
    }
    return undefined;
  }

  async *conclude(how: "ended" | "lost"): AsyncGenerator<Chunks, Verdict, undefined> {
    return how === "ended" ? "end" : yield* this.#failed(new Error("the stream fell behind its job"));
  }

  async *#failed(error: unknown): AsyncGenerator<Chunks, Verdict, undefined> {
    yield block("error", openaiError(this.#exchange.fail(error)));
    return "end";
  }

  /** An event's blocks; none for a step, and for a partial image too many. */
  async *#blocks(event: RunEvent): AsyncGenerator<Chunks, void, undefined> {
    const { kind, request, envelope, tokens } = this.#exchange;
    if (event.type === "preview") {
      if (this.#partials >= request.partialImages) return;
      const { bytes } = await encode(event.picture, request, envelope, { quality: PREVIEW_QUALITY });
      const type = `${kind}.partial_image`;
      const look = lookOf(request, event.picture);
      yield block(type, { type, b64_json: base64Of(bytes), partial_image_index: this.#partials++, ...look });
    }
    if (event.type !== "result") return;
    const type = `${kind}.completed`;
    const last = event.pictures.length - 1;
    for (const [index, picture] of event.pictures.entries()) {
      const { bytes } = await encode(picture, request, envelope, { infotext: infotextAt(event, index) });
      // Several pictures cost one prompt: it is counted with the last of them.
      const usage = usageOf(index === last ? tokens : 0);
      const warnings = warningsOf(request, event);
      yield block(type, { type, b64_json: base64Of(bytes), ...lookOf(request, picture), usage, ...warnings });
    }
  }
}

function encode(
  picture: Picture,
  request: ImagesRequest,
  { traced }: Envelope,
  { quality = request.compression, infotext }: { readonly quality?: number; readonly infotext?: string },
) {
  const { output_format: format } = request.generation;
  const encoded = () => encodePicture(picture, { format, quality, infotext });
  return traced === undefined ? encoded() : traced(encoded);
}

function infotextAt(result: RunEvent | undefined, place: number): string | undefined {
  return result?.type === "result" ? result.infotexts?.[place] : undefined;
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

/** Warnings for the client: about its request, and about the run. */
function warningsOf({ warnings }: ImagesRequest, result: RunEvent | undefined): { warnings?: readonly string[] } {
  const all = [...warnings, ...(result?.type === "result" ? (result.warnings ?? []) : [])];
  return all.length === 0 ? {} : { warnings: all };
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
