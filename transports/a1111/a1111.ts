/**
 * The API of AUTOMATIC1111's web UI over jobs: front ends that speak it (open-webui, SillyTavern, plug-ins of editors) point
 * at this server. Format: https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/API.
 *
 * The web UI has one user. Here `progress`, `interrupt`, `skip` and `options` are the caller's own: of its credential, or of
 * its address where there are no credentials.
 */
import type { Context } from "hono";
import { z } from "zod";
import { Base64Text } from "../../src/engine/base64-text.ts";
import { RequestError } from "../../src/engine/errors.ts";
import type { RunEvent, RunEventOf } from "../../src/engine/events.ts";
import type { GenerationRequest } from "../../src/engine/request.ts";
import { encodePicture } from "../../src/image/encode.ts";
import { readInfotext } from "../../src/image/infotext.ts";
import { textsOf } from "../../src/image/picture-texts.ts";
import type { Jobs } from "../../src/jobs/jobs.ts";
import { fromBase64 } from "../../src/platform/base64.ts";
import { failureOf, isServerFault } from "../failure.ts";
import { clientOf } from "../http/client.ts";
import { readJson } from "../http/input.ts";
import { inQuery } from "../openapi/describe.ts";
import type { Route, RouteGroup } from "../route.ts";
import type { JobRequestOptions } from "../source.ts";
import { jsonAnswer } from "../stream/outflow.ts";
import { resultOf, watchFor } from "../stream/reading.ts";
import { JsonText } from "../wire/json-text.ts";
import { idHeaders } from "../wire/wire.ts";
import { a1111Failure } from "./a1111-error.ts";
import { described, imagesAnswer, listed, type Made, READS, timestampOf } from "./answers.ts";
import { json, type ListOptions, listRoutes } from "./lists.ts";
import { CallerOptions, optionsSchema } from "./options.ts";
import { fieldsFrom, img2imgSchema, type Processing, processingOf, txt2imgSchema } from "./processing.ts";
import { type PictureJob, Task, Tasks } from "./tasks.ts";

export interface A1111Options extends Omit<JobRequestOptions<GenerationRequest>, "parse">, ListOptions {
  /** Gives back a request that this server allows; throws a RequestError for others. */
  readonly allowed?: (request: GenerationRequest, c: Context) => GenerationRequest;
}

type ImageJobs = Jobs<GenerationRequest, RunEvent>;
type Result = RunEventOf<"result">;

/** Pixels of the longer side of a preview in `progress`. */
const PREVIEW_SIDE = 512;

export function a1111Routes(jobs: ImageJobs, options: A1111Options): RouteGroup[] {
  const api = new A1111(jobs, options);
  const common = { scope: "a1111", basicAuth: true, refuse: a1111Failure } as const;
  return [
    { base: "/sdapi/v1", ...common, routes: [...pictureRoutes(api), ...callerRoutes(api), ...listRoutes(options)] },
    { base: "", ...common, routes: [queueStatusRoute(jobs)] },
  ];
}

function pictureRoutes(api: A1111): Route[] {
  return [
    {
      method: "POST",
      path: "/txt2img",
      about: {
        ...described("Pictures from words"),
        body: { schema: { name: "A1111TextToImage", schema: txt2imgSchema } },
      },
      handlers: [(c) => api.answer(() => api.pictures(c, "txt2img"))],
    },
    {
      method: "POST",
      path: "/img2img",
      about: { ...described("Pictures from a picture"), body: { schema: IMG2IMG } },
      handlers: [(c) => api.answer(() => api.pictures(c, "img2img"))],
    },
  ];
}

/** Outside of the API's paths: Krita's plug-in asks for it to see whether a server is there. */
function queueStatusRoute(jobs: ImageJobs): Route {
  return {
    method: "GET",
    path: "/queue/status",
    asWildcard: true,
    about: listed("Whether a server is there, and how many jobs wait", {
      name: "A1111Queue",
      schema: z.object({ msg: z.literal("estimation"), queue_size: z.int() }),
    }),
    handlers: [(c) => json(c, { msg: "estimation", queue_size: jobs.counts().queued })],
  };
}

const IMG2IMG = {
  name: "A1111ImageToImage",
  schema: img2imgSchema,
  byHand: { init_images: { type: "array", items: { type: "string" } }, mask: { type: "string" } },
};

const PROGRESS = {
  name: "A1111Progress",
  schema: z.object({
    progress: z.number(),
    eta_relative: z.number().describe("seconds"),
    state: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
    current_image: z.string().nullable().describe("base64 of a PNG"),
    textinfo: z.string().nullable(),
  }),
};
const OPTIONS = { name: "A1111Options", schema: optionsSchema };
const PNG_INFO = {
  name: "A1111PngInfo",
  schema: z.object({
    info: z.string(),
    items: z.record(z.string(), z.string()),
    parameters: z.record(z.string(), z.string()),
  }),
};
const NOTHING = { name: "A1111Nothing", schema: z.null() };

/** Routes about the caller's own requests and options, and about a picture. */
function callerRoutes(api: A1111): Route[] {
  return [
    {
      method: "GET",
      path: "/progress",
      about: {
        ...listed("How far the caller's first request is", PROGRESS),
        parameters: [inQuery("skip_current_image", "true: without a preview", { type: "boolean" })],
      },
      handlers: [(c) => api.answer(() => api.progress(c))],
    },
    {
      method: "POST",
      path: "/interrupt",
      work: false,
      about: listed("End the caller's requests, which answer with what they have", {
        name: "A1111Done",
        schema: z.object({}),
      }),
      handlers: [(c) => api.answer(() => api.interrupt(c))],
    },
    {
      method: "POST",
      path: "/skip",
      work: false,
      about: listed("Give up the pictures of the caller that are being made", NOTHING),
      handlers: [(c) => api.answer(() => api.skip(c))],
    },
    {
      method: "GET",
      path: "/options",
      about: listed("The caller's options", OPTIONS),
      handlers: [(c) => api.answer(async () => json(c, api.options.of(api.callerOf(c))))],
    },
    {
      method: "POST",
      path: "/options",
      work: false,
      about: {
        ...listed("Set options of the caller", NOTHING),
        body: { schema: { name: "A1111OptionsChange", schema: optionsSchema.partial() } },
        answers: { 200: { description: "set", schema: NOTHING }, ...READS },
      },
      handlers: [(c) => api.answer(() => api.setOptions(c))],
    },
    {
      method: "POST",
      path: "/png-info",
      work: false,
      about: {
        ...listed("The settings in a picture's file", PNG_INFO),
        body: { schema: { name: "A1111Picture", schema: z.object({ image: z.string() }) } },
        answers: { 200: { description: "its texts", schema: PNG_INFO }, ...READS },
      },
      handlers: [(c) => api.answer(() => api.pngInfo(c))],
    },
  ];
}

class A1111 {
  readonly options: CallerOptions;
  readonly #jobs: ImageJobs;
  readonly #settings: A1111Options;
  readonly #tasks = new Tasks();

  constructor(jobs: ImageJobs, settings: A1111Options) {
    this.#jobs = jobs;
    this.#settings = settings;
    this.options = new CallerOptions(settings.model);
  }

  /** The answer of `make`, or its failure in the web UI's words. */
  async answer(make: () => Promise<Response>): Promise<Response> {
    try {
      return await make();
    } catch (error) {
      if (isServerFault(error)) this.#settings.onError?.(error, "");
      return a1111Failure(failureOf(error));
    }
  }

  /** The owner of jobs where there are credentials, else the client's address. */
  callerOf(c: Context): string {
    const { ownerOf, clientOf: whose = clientOf } = this.#settings;
    return ownerOf?.(c) ?? whose(c);
  }

  async pictures(c: Context, kind: "txt2img" | "img2img"): Promise<Response> {
    const fields = fieldsFrom(await readJson(c, this.#settings, true), kind);
    const caller = this.callerOf(c);
    const changes = this.options.checked(fields.override_settings, "override_settings");
    const processing = processingOf(fields, { ...this.options.of(caller), ...changes });
    const [first] = processing.iterations[0]!;
    const total = processing.iterations.flat().length;
    this.#settings.allowed?.({ ...first!, num_images: total }, c);
    if (!fields.override_settings_restore_afterwards) this.options.set(caller, changes);
    const task = new Task(total);
    return this.#tasks.during(caller, task, () => this.#run(c, task, processing));
  }

  async #run(c: Context, task: Task, processing: Processing): Promise<Response> {
    const made: Made[] = [];
    const warnings: string[] = [];
    let headers: Record<string, string> = {};
    for (const [turn, requests] of processing.iterations.entries()) {
      if (task.isInterrupted) break;
      task.jobs = this.#submit(c, requests);
      headers = turn === 0 ? idHeaders({ requestId: task.jobs[0]!.id }) : headers;
      const results = await this.#results(c, task);
      for (const [place, result] of results.entries()) {
        if (result === undefined) continue;
        warnings.push(...(result.warnings ?? []));
        made.push(await this.#made(result, turn * requests.length + place, processing, task.jobs[place]!));
      }
      task.done += requests.length;
      task.jobs = [];
    }
    if (task.isInterrupted) warnings.push("The request was interrupted: these are the pictures that were done.");
    return jsonAnswer(c, JsonText.of(imagesAnswer(processing, made, warnings)), headers, this.#settings);
  }

  /** The jobs of an iteration. If one of them is refused, none is run. */
  #submit(c: Context, requests: readonly GenerationRequest[]): PictureJob[] {
    const { ownerOf, clientOf: whose = clientOf, deadlineMs } = this.#settings;
    const submitted: PictureJob[] = [];
    try {
      for (const request of requests) {
        submitted.push(this.#jobs.submit(request, { owner: ownerOf?.(c), client: whose(c), deadlineMs }));
      }
    } catch (error) {
      for (const job of submitted) job.cancel();
      throw error;
    }
    return submitted;
  }

  /** A result for each job of the iteration; undefined for one that was given up. If one fails, the others are ended. */
  async #results(c: Context, task: Task): Promise<(Result | undefined)[]> {
    const wants = (slot: string) => slot !== "preview" || task.isWatched;
    const readers = task.jobs.map((job) => watchFor(c, job, { wants, graceMs: 0 }));
    const reading = task.jobs.map(async (job, place) => {
      try {
        const result = await resultOf(readers[place]!);
        if (result?.type === "result") return result;
        throw new DOMException("The client has gone", "AbortError");
      } catch (error) {
        if (task.isGivenUp(job)) return undefined;
        throw error;
      }
    });
    try {
      return await Promise.all(reading);
    } catch (error) {
      for (const job of task.jobs) job.cancel();
      await Promise.allSettled(reading);
      throw error;
    }
  }

  async #made(result: Result, place: number, { look }: Processing, job: PictureJob): Promise<Made> {
    const infotext = result.infotexts?.[0] ?? "";
    const encode = () => encodePicture(result.pictures[0]!, { ...look, ...(infotext !== "" && { infotext }) });
    const { tracing } = this.#settings;
    const { bytes } = await (tracing === undefined ? encode() : tracing.encode(job, encode));
    return { image: new Base64Text("", bytes, true), infotext, place };
  }

  async progress(c: Context): Promise<Response> {
    const [task] = this.#tasks.of(this.callerOf(c));
    const isShown = !/^(true|1)$/i.test(c.req.query("skip_current_image") ?? "");
    const preview = isShown ? task?.preview() : undefined;
    const picture = preview && (await encodePicture(preview, { format: "png", maxSide: PREVIEW_SIDE }));
    const progress = task?.progress ?? 0;
    const seconds = task === undefined ? 0 : (Date.now() - task.startedAt) / 1000;
    const { step, steps } = task?.steps() ?? { step: 0, steps: 0 };
    const answer = {
      progress,
      eta_relative: progress > 0 ? seconds / progress - seconds : 0,
      state: {
        skipped: false,
        interrupted: task?.isInterrupted ?? false,
        stopping_generation: false,
        job: task === undefined ? "" : `Batch ${task.done + 1} out of ${task.total}`,
        job_count: task?.total ?? 0,
        job_timestamp: timestampOf(task?.startedAt ?? Date.now()),
        job_no: task?.done ?? 0,
        sampling_step: step,
        sampling_steps: steps,
      },
      current_image: picture === undefined ? null : new Base64Text("", picture.bytes, true),
      textinfo: null,
    };
    return jsonAnswer(c, JsonText.of(answer), {}, this.#settings);
  }

  async interrupt(c: Context): Promise<Response> {
    for (const task of this.#tasks.of(this.callerOf(c))) task.interrupt();
    return json(c, {});
  }

  async skip(c: Context): Promise<Response> {
    for (const task of this.#tasks.of(this.callerOf(c))) task.skip();
    return json(c, null);
  }

  async setOptions(c: Context): Promise<Response> {
    const raw = await readJson(c, this.#settings);
    this.options.set(this.callerOf(c), this.options.checked(raw, ""));
    return json(c, null);
  }

  async pngInfo(c: Context): Promise<Response> {
    const raw = (await readJson(c, this.#settings, true)) as { readonly image?: unknown } | null;
    const { infotext, others } = await textsOf(pictureBytes(raw?.image));
    const { prompt, negativePrompt, fields } = readInfotext(infotext);
    // As the web UI does: `Size: 512x768` is two parameters.
    const apart = [...fields].flatMap(([name, value]) => {
      const [, width, height] = /^(\d+)x(\d+)$/.exec(value) ?? [];
      return width === undefined
        ? [[name, value]]
        : [
            [`${name}-1`, width],
            [`${name}-2`, height],
          ];
    });
    const parameters = { Prompt: prompt, "Negative prompt": negativePrompt, ...Object.fromEntries(apart) };
    return json(c, { info: infotext, items: Object.fromEntries(others), parameters });
  }
}

/** @throws RequestError */
function pictureBytes(image: unknown): Uint8Array {
  if (image instanceof Base64Text) return image.bytes;
  const base64 = typeof image === "string" ? image.replace(/^data:image\/[\w.+-]{1,40};base64,/, "") : undefined;
  if (base64 === undefined || !/^[A-Za-z0-9+/\s]+={0,2}\s*$/.test(base64.slice(0, 1024))) {
    throw new RequestError("image", "must be a data URI of a picture, or its base64 alone");
  }
  return fromBase64(base64);
}
