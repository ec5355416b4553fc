/** AUTOMATIC1111's API over a real server: bodies as front ends send them, and the caller's own progress and options. */
import { setTimeout as sleep } from "node:timers/promises";
import sharp from "sharp";
import { afterEach, describe, expect, it } from "vitest";
import type { RunEvent } from "../../src/engine/events.ts";
import type { GenerationRequest } from "../../src/engine/request.ts";
import { encodePicture } from "../../src/image/encode.ts";
import { writeInfotext } from "../../src/image/infotext.ts";
import { textsOf } from "../../src/image/picture-texts.ts";
import type { RunContext } from "../../src/jobs/run.ts";
import { gradient, until } from "../../test/gradient-run.ts";
import { type AppOptions, createApp } from "../app.ts";
import { createAuthenticator } from "../gate/auth.ts";
import { type Listening, listen } from "../http/listen.ts";

const MODEL = { name: "landscapes", defaultWidth: 64, defaultHeight: 64, defaultSteps: 10, countTokens: () => 3 };

const closing: (() => unknown)[] = [];
afterEach(async () => {
  await Promise.all(closing.splice(0).map((close) => close()));
});

// biome-ignore lint/suspicious/noExplicitAny: whatever an answer holds; the assertions say what it should
type Fields = any;

/** A run of steps of 5 ms that says what it was asked; "slow" takes its time until it is let go. */
async function serving(options: Partial<AppOptions> = {}) {
  const ran: GenerationRequest[] = [];
  const previews: boolean[] = [];
  async function* run(input: GenerationRequest, { signal, wants }: RunContext): AsyncGenerator<RunEvent> {
    ran.push(input);
    const steps = Math.min(input.num_inference_steps ?? 10, 10);
    for (let step = 1; step <= steps || input.prompt === "slow"; step++) {
      signal.throwIfAborted();
      await sleep(5);
      const at = { step, steps: Math.max(steps, step + 1), progress: step / Math.max(steps, step + 1) };
      yield { type: "progress", ...at, elapsed_ms: step * 5 };
      previews.push(wants?.("preview") ?? true);
      if (previews.at(-1)) yield { type: "preview", picture: gradient(64, 0.5), ...at, decoder: "linear" };
    }
    const { seed = 0, prompt } = input;
    const infotexts = [writeInfotext(prompt, input.negative_prompt, { Steps: steps, Sampler: "Euler", Seed: seed })];
    const warnings = input.ignored_fields?.map((name) => `${name} was ignored`);
    yield { type: "result", pictures: [gradient(64, 1)], seed, prompt, infotexts, timings: {}, warnings };
  }
  const app = createApp({
    run,
    health: () => ({}),
    model: MODEL,
    loras: async () => ["ink", "styles/dots"],
    embeddings: async () => ["easynegative"],
    jobs: { concurrency: 4 },
    ...options,
  });
  const server: Listening = await listen(app, 0, "127.0.0.1");
  closing.push(() => server.close());
  const ask = async (path: string, body?: unknown, headers: Record<string, string> = {}) => {
    const method = body === undefined ? "GET" : "POST";
    const address = `${server.url}/sdapi/v1/${path}`;
    const response = await fetch(address, {
      method,
      headers,
      ...(method === "POST" && { body: JSON.stringify(body) }),
    });
    return { status: response.status, headers: response.headers, body: (await response.json()) as Fields };
  };
  return { url: server.url, ran, previews, ask };
}

const png = async (side = 64) => Buffer.from((await encodePicture(gradient(side, 1), { format: "png" })).bytes);
const basic = (text: string) => ({ authorization: `Basic ${Buffer.from(text).toString("base64")}` });

describe("txt2img", () => {
  it("has the web UI's defaults, and answers with pictures, parameters and info", async () => {
    const { ask, ran } = await serving();
    const { status, body } = await ask("txt2img", { prompt: "a (lake:1.2)" });
    expect(status).toBe(200);
    expect(ran).toHaveLength(1);
    expect(ran[0]).toMatchObject({
      prompt: "a (lake:1.2)",
      prompt_syntax: "weighted",
      width: 512,
      height: 512,
      num_inference_steps: 50,
      guidance_scale: 7,
      scheduler: "Euler",
      generator: "cuda",
      clip_skip: 0,
      num_images: 1,
      output_format: "png",
      preview_every: 10,
    });
    expect(body.parameters).toMatchObject({ prompt: "a (lake:1.2)", steps: 50, cfg_scale: 7, seed: -1, n_iter: 1 });
    const info = JSON.parse(body.info);
    expect(ran[0]!.seed).toBe(info.seed);
    expect(info.seed).toBeLessThan(2 ** 32);
    expect(info).toMatchObject({
      all_seeds: [info.seed],
      sampler_name: "Euler",
      sd_model_name: "landscapes",
      width: 512,
    });
    expect(body.images).toHaveLength(1);
    const bytes = Buffer.from(body.images[0], "base64");
    expect((await sharp(bytes).metadata()).format).toBe("png");
    expect((await textsOf(bytes)).infotext).toBe(info.infotexts[0]);
  });

  it("draws picture k from the k-th seed, or the k-th variation seed, an iteration after the other", async () => {
    const { ask, ran } = await serving();
    const { body } = await ask("txt2img", { prompt: "x", seed: 40, batch_size: 2, n_iter: 2, steps: 1 });
    expect(ran.map(({ seed }) => seed).sort()).toEqual([40, 41, 42, 43]);
    expect(ran.slice(0, 2).map(({ seed }) => seed)).toEqual([40, 41]);
    expect(JSON.parse(body.info).all_seeds).toEqual([40, 41, 42, 43]);
    expect(body.images).toHaveLength(4);
    const texts = body.images.map(async (image: string) => (await textsOf(Buffer.from(image, "base64"))).infotext);
    expect((await Promise.all(texts)).map((text) => /Seed: (\d+)/.exec(text)?.[1])).toEqual(["40", "41", "42", "43"]);

    ran.length = 0;
    const variation = { prompt: "x", seed: "7", subseed: 100, subseed_strength: 0.1, batch_size: 2, steps: 1 };
    const varied = JSON.parse((await ask("txt2img", variation)).body.info);
    expect(ran.map(({ seed, subseed }) => [seed, subseed])).toEqual([
      [7, 100],
      [7, 101],
    ]);
    expect([varied.all_seeds, varied.all_subseeds]).toEqual([
      [7, 7],
      [100, 101],
    ]);
  });

  it.each<[string, Fields, Fields]>([
    ["a sampler and a schedule", { sampler_name: "DPM++ 2M", scheduler: "karras" }, { sigma_schedule: "karras" }],
    ["a schedule by its label", { scheduler: "SGM Uniform" }, { sigma_schedule: "sgm_uniform" }],
    ["an old name of both", { sampler_index: "DPM++ 2M Karras" }, { scheduler: "DPM++ 2M Karras" }],
    ["a schedule that the sampler cannot have", { sampler_name: "DDIM", scheduler: "Karras" }, { scheduler: "DDIM" }],
    ["numbers as text", { steps: "3", cfg_scale: "4.5", seed: "-1" }, { num_inference_steps: 3, guidance_scale: 4.5 }],
    ["clip skip", { override_settings: { CLIP_stop_at_last_layers: 2 } }, { clip_skip: 1 }],
    ["the CPU's noise", { override_settings: { randn_source: "CPU" } }, { generator: "cpu" }],
    ["sides that are no multiple of 8", { width: 100, height: 131 }, { width: 96, height: 128 }],
    ["a seed from another size", { seed_resize_from_w: 64, seed_resize_from_h: 96 }, { seed_resize_from: [96, 64] }],
    ["null for all that is left out", { steps: null, sampler_name: null, styles: null, scheduler: null }, {}],
  ])("takes %s", async (_, fields, expected) => {
    const { ask, ran } = await serving();
    expect((await ask("txt2img", { prompt: "x", ...fields })).status).toBe(200);
    expect(ran[0]).toMatchObject(expected);
  });

  it("ignores unknown fields, and warns of known ones that it cannot do", async () => {
    const { ask } = await serving();
    const quiet = await ask("txt2img", {
      prompt: "x",
      do_not_save_grid: true,
      s_noise: 1,
      comments: {},
      nonsense: [1],
    });
    expect(quiet.body.warnings).toBeUndefined();
    const fields = {
      styles: ["soft"],
      enable_hr: true,
      tiling: true,
      override_settings: { sd_vae: "other.pt" },
      width: 70,
    };
    const { body } = await ask("txt2img", { prompt: "x", ...fields });
    expect(body.warnings.join()).toMatch(/70x512.*sd_vae.*styles.*tiling.*enable_hr/s);
    expect(JSON.parse(body.info).warnings).toEqual(body.warnings);
  });

  it("answers in the format and quality of the options", async () => {
    const { ask } = await serving();
    for (const [samples_format, format] of [
      ["jpg", "jpeg"],
      ["webp", "webp"],
    ]) {
      const { body } = await ask("txt2img", { prompt: "森の湖", steps: 1, override_settings: { samples_format } });
      const bytes = Buffer.from(body.images[0], "base64");
      expect((await sharp(bytes).metadata()).format).toBe(format);
      expect((await textsOf(bytes)).infotext).toMatch(/^森の湖\nSteps: 1/);
    }
    expect((await ask("txt2img", { prompt: "x", send_images: false })).body.images).toEqual([]);
  });
});

describe("img2img", () => {
  it("starts from the first picture", async () => {
    const { ask, ran } = await serving();
    const picture = await png();
    const start = `data:image/png;base64,${picture.toString("base64")}`;
    const { body } = await ask("img2img", {
      prompt: "x",
      init_images: [start, start],
      denoising_strength: 0.4,
      steps: 2,
    });
    expect(ran[0]!.strength).toBe(0.4);
    expect(Buffer.from(ran[0]!.image!).equals(picture)).toBe(true);
    expect(body.parameters).toMatchObject({ init_images: null, denoising_strength: 0.4 });
    expect(body.warnings.join()).toMatch(/first of 2/);
    const echo = { prompt: "x", init_images: [picture.toString("base64")], include_init_images: true, steps: 1 };
    expect((await ask("img2img", echo)).body.parameters).toMatchObject({
      init_images: [picture.toString("base64")],
      denoising_strength: 0.75,
    });
  });
});

/** Bodies of front ends, as their public sources build them; the source is named with each. */
const FRONT_ENDS: Record<string, { kind: "txt2img" | "img2img"; body: Fields; seen: Fields; pictures: number }> = {
  // open-webui, backend/open_webui/routers/images.py: no seed, no sampler, no scale.
  "open-webui": {
    kind: "txt2img",
    body: { prompt: "a cat", batch_size: 2, width: 512, height: 512, steps: 4, negative_prompt: "dog" },
    seen: { prompt: "a cat", negative_prompt: "dog", num_inference_steps: 4, guidance_scale: 7 },
    pictures: 2,
  },
  "open-webui with parameters of its own": {
    kind: "txt2img",
    body: {
      prompt: "a cat",
      batch_size: 1,
      width: 64,
      height: 64,
      steps: 4,
      CFG_SCALE: 7,
      sampler_name: "Euler a",
      scheduler: "Karras",
    },
    seen: { scheduler: "Euler a", sigma_schedule: "karras", width: 64 },
    pictures: 1,
  },
  // SillyTavern, public/scripts/extensions/stable-diffusion/index.js: settings of hires fix though it is off, undefined left out.
  SillyTavern: {
    kind: "txt2img",
    body: {
      url: "http://127.0.0.1:7860",
      auth: "user:key",
      prompt: "best quality, (portrait:1.1)",
      negative_prompt: "lowres",
      sampler_name: "DPM++ 2M",
      scheduler: "karras",
      steps: 20,
      cfg_scale: 7,
      width: 512,
      height: 512,
      restore_faces: false,
      enable_hr: false,
      hr_upscaler: "Latent",
      hr_scale: 1,
      hr_additional_modules: [],
      denoising_strength: 0.7,
      hr_second_pass_steps: 0,
      override_settings: { CLIP_stop_at_last_layers: 2 },
      override_settings_restore_afterwards: true,
      clip_skip: 2,
      save_images: true,
      send_images: true,
      do_not_save_grid: false,
      do_not_save_samples: false,
    },
    seen: { scheduler: "DPM++ 2M", sigma_schedule: "karras", clip_skip: 1, num_inference_steps: 20 },
    pictures: 1,
  },
  // Cyanic SD, a plug-in of Krita: cyanic/sdapi_v1.py and its widgets. Options hold from then on.
  Krita: {
    kind: "img2img",
    body: {
      prompt: "a castle",
      negative_prompt: "",
      styles: [],
      sampler_name: "Euler a",
      steps: 20,
      seed: -1,
      subseed: -1,
      subseed_strength: 0,
      seed_resize_from_h: 0,
      seed_resize_from_w: 0,
      batch_size: 1,
      batch_count: 1,
      n_iter: 1,
      cfg_scale: 7.5,
      denoising_strength: 0.6,
      width: 64,
      height: 96,
      resize_mode: 0,
      init_images: ["PICTURE"],
      override_settings: { sd_model_checkpoint: "landscapes", sd_vae: "Automatic", img2img_color_correction: true },
      override_settings_restore_afterwards: false,
      alwayson_scripts: { "soft inpainting": { args: [false, 1, 0.5, 4, 0, 0.5, 2] } },
      include_init_images: false,
      save_images: false,
    },
    seen: { scheduler: "Euler a", strength: 0.6, width: 64, height: 96 },
    pictures: 1,
  },
  // Auto-Photoshop-StableDiffusion-Plugin: fields of the page beside those of the API, units of ControlNet that are off.
  Photoshop: {
    kind: "img2img",
    body: {
      mode: "img2img",
      prompt: "cute dog",
      negative_prompt: "",
      steps: 8,
      width: 64,
      height: 64,
      denoising_strength: 0.7,
      batch_size: 1,
      n_iter: 1,
      cfg_scale: 7,
      seed: "-1",
      inpaint_full_res: false,
      inpaint_full_res_padding: 32,
      inpainting_fill: 0,
      inpainting_mask_invert: 0,
      mask_blur: 4,
      mask_content: "0",
      mask: null,
      hr_scale: 2,
      hr_upscaler: "Latent",
      enable_hr: false,
      script_args: [],
      script_name: null,
      use_prompt_shortcut: false,
      uniqueDocumentId: "abc",
      init_images: ["data:image/png;base64,PICTURE"],
      alwayson_scripts: { controlnet: { args: [{ enabled: false, input_image: "", module: "none", weight: 1 }] } },
    },
    seen: { strength: 0.7, num_inference_steps: 8 },
    pictures: 1,
  },
};

describe("front ends", () => {
  it.each(Object.entries(FRONT_ENDS))("get their pictures: %s", async (_, { kind, body, seen, pictures }) => {
    const { ask, ran } = await serving();
    const picture = (await png()).toString("base64");
    const starts = body.init_images?.map((text: string) => text.replace("PICTURE", picture));
    const answer = await ask(kind, { ...body, ...(starts && { init_images: starts }) });
    expect([answer.status, answer.body.warnings]).toEqual([200, undefined]);
    expect(answer.body.images).toHaveLength(pictures);
    expect(ran[0]).toMatchObject(seen);
  });

  it("find what they look for before: options, models, samplers, upscalers, scripts", async () => {
    const { ask } = await serving();
    const { body: options } = await ask("options");
    const { body: models } = await ask("sd-models");
    // open-webui lists by model_name, SillyTavern and Krita by title; both must be what the options name.
    expect(models.map(({ title, model_name }: Fields) => [title, model_name])).toContainEqual([
      options.sd_model_checkpoint,
      options.sd_model_checkpoint,
    ]);
    // SillyTavern takes a server with this option for Forge, and sends other fields to it.
    expect(options).not.toHaveProperty("forge_preset");
    for (const path of [
      "samplers",
      "schedulers",
      "upscalers",
      "latent-upscale-modes",
      "sd-vae",
      "loras",
      "prompt-styles",
    ]) {
      expect(Array.isArray((await ask(path)).body), path).toBe(true);
    }
    // SillyTavern waits until nothing is loaded any more.
    expect((await ask("progress")).body).toMatchObject({ progress: 0, state: { job_count: 0 } });
  });
});

describe("failures", () => {
  it.each<[string, string, Fields, string]>([
    ["txt2img", "steps", { steps: 0 }, "steps"],
    ["txt2img", "several fields", { cfg_scale: "much", width: 8 }, "cfg_scale"],
    ["txt2img", "too many pictures", { batch_size: 4, n_iter: 4 }, "n_iter"],
    ["txt2img", "a scheduler", { scheduler: "polyexponential" }, "scheduler"],
    ["txt2img", "another model", { override_settings: { sd_model_checkpoint: "other" } }, "sd_model_checkpoint"],
    ["txt2img", "a script", { script_name: "X/Y/Z plot" }, "script_name"],
    [
      "txt2img",
      "a script beside",
      { alwayson_scripts: { controlnet: { args: [{ enabled: true }] } } },
      "alwayson_scripts",
    ],
    ["img2img", "no picture", {}, "init_images"],
    ["img2img", "an empty list", { init_images: [] }, "init_images"],
    ["img2img", "an address", { init_images: ["http://127.0.0.1/a.png"] }, "init_images"],
    ["img2img", "no strength", { init_images: ["QUJD"], denoising_strength: 0 }, "denoising_strength"],
  ])("of %s name the web UI's field: %s", async (path, _, fields, field) => {
    const { ask, ran } = await serving();
    const { status, body } = await ask(path, { prompt: "x", ...fields });
    expect([status, ran]).toEqual([422, []]);
    expect(body).toEqual({
      error: "RequestValidationError",
      detail: expect.arrayContaining([expect.objectContaining({ loc: expect.arrayContaining(["body", field]) })]),
      body: "",
      errors: expect.stringContaining(field),
    });
  });

  it("of scripts that are switched off are none", async () => {
    const { ask } = await serving();
    const alwayson_scripts = {
      ADetailer: { args: [false, false, { ad_model: "face_yolov8n.pt" }] },
      controlnet: { args: [{ enabled: false, input_image: "" }] },
      "Soft inpainting": { args: [false, 1, 0.5] },
      nothing: {},
    };
    expect((await ask("txt2img", { prompt: "x", steps: 1, alwayson_scripts, script_name: "None" })).status).toBe(200);
  });

  it("of a run are told, and the others of its request end", async () => {
    const errors: unknown[] = [];
    const { ask, ran } = await serving({
      run: async function* ({ seed }, { signal }) {
        if (seed === 2) throw new Error("/secret/path");
        while (!signal.aborted) {
          await sleep(5);
          yield { type: "progress", step: 1, steps: 9, progress: 0.1, elapsed_ms: 1 };
        }
      },
      onError: (error) => errors.push(error),
    });
    const { status, body } = await ask("txt2img", { prompt: "x", seed: 1, batch_size: 2 });
    expect(status).toBe(500);
    expect(body).toEqual({ error: "HTTPException", detail: "Internal error", body: "", errors: "Internal error" });
    expect(String(errors[0])).toContain("/secret/path");
    expect((await ask("progress")).body.state.job_count).toBe(0);
    expect(ran).toEqual([]);
  });

  it("of limits and of the line are the web UI's, too", async () => {
    const { ask } = await serving({ limits: { steps: 20, images: 2 } });
    expect((await ask("txt2img", { prompt: "x" })).body.errors).toMatch(/^steps: .*at most 20/);
    expect((await ask("txt2img", { prompt: "x", steps: 1, n_iter: 3 })).body.errors).toMatch(
      /^batch_size: .*at most 2/,
    );
    const full = await serving({ jobs: { concurrency: 1, maxQueued: 0 } });
    const both = await full.ask("txt2img", { prompt: "x", steps: 1, batch_size: 2 });
    expect([both.status, both.headers.get("retry-after")]).toEqual([503, expect.stringMatching(/^\d+$/)]);
    await until(async () => (await full.ask("txt2img", { prompt: "x", steps: 1, n_iter: 2 })).status === 200);
    expect((await full.ask("nothing")).body).toMatchObject({ error: "HTTPException", detail: "Not Found" });
  });
});

describe("the caller's own", () => {
  const keys = [
    { name: "ann", key: "k-ann" },
    { name: "ben", key: "k-ben" },
    { name: "run", key: "k-run", scopes: ["run"] as const },
  ];
  const guarded = () => serving({ gate: { authenticator: createAuthenticator({ keys }) } });
  const ann = basic("ann:k-ann");
  const ben = basic("anybody:k-ben");

  it("credential comes as Basic, here alone, or as on other routes", async () => {
    const { ask, url } = await guarded();
    for (const headers of [ann, basic("k-ann"), basic("k-ann:"), { authorization: "Bearer k-ann" }]) {
      expect((await ask("samplers", undefined, headers)).status).toBe(200);
    }
    for (const headers of [{}, basic("ann:wrong"), basic(":"), basic(""), { authorization: "Basic ***" }]) {
      const refused = await ask("txt2img", { prompt: "x" }, headers);
      expect([refused.status, refused.headers.get("www-authenticate")]).toEqual([401, 'Basic realm="daguerre"']);
      expect(refused.body.error).toBe("HTTPException");
    }
    expect((await ask("samplers", undefined, basic("run:k-run"))).status).toBe(403);
    const elsewhere = await fetch(`${url}/loras`, { headers: ann });
    expect([elsewhere.status, elsewhere.headers.get("www-authenticate")]).toEqual([401, 'Bearer realm="daguerre"']);
  });

  it("progress and previews are of its own requests, and no preview is made that nobody looks at", async () => {
    const { ask, previews } = await guarded();
    const drawing = ask("txt2img", { prompt: "slow", batch_size: 2 }, ann);
    await until(async () => (await ask("progress?skip_current_image=true", undefined, ann)).body.progress > 0);
    expect(previews.length).toBeGreaterThan(0);
    expect(previews).not.toContain(true);
    expect((await ask("progress", undefined, ben)).body).toMatchObject({
      progress: 0,
      eta_relative: 0,
      current_image: null,
      state: { job_count: 0, sampling_step: 0 },
    });
    let seen: Fields;
    await until(async () => {
      seen = (await ask("progress", undefined, ann)).body;
      return seen.current_image !== null;
    });
    expect(seen.state).toMatchObject({ job_count: 2, job_no: 0, interrupted: false });
    expect((await sharp(Buffer.from(seen.current_image, "base64")).metadata()).format).toBe("png");

    expect((await ask("interrupt", {}, ben)).body).toEqual({});
    expect((await ask("skip", {}, ben)).body).toBeNull();
    await sleep(30);
    expect((await ask("progress", undefined, ann)).body.state.job_count).toBe(2);
    expect((await ask("interrupt", {}, ann)).status).toBe(200);
    const { status, body } = await drawing;
    expect([status, body.images]).toEqual([200, []]);
    expect(body.warnings.join()).toMatch(/interrupted/);
    expect((await ask("progress", undefined, ann)).body.state.job_count).toBe(0);
  });

  it("skip gives up what is being made, and the next iteration is drawn", async () => {
    const { ask, ran } = await guarded();
    const drawing = ask("txt2img", { prompt: "slow", n_iter: 2, seed: 5 }, ann);
    await until(() => ran.length === 1);
    await ask("skip", {}, ann);
    await until(() => ran.length === 2);
    expect(ran[1]!.seed).toBe(6);
    await ask("interrupt", {}, ann);
    expect((await drawing).status).toBe(200);
  });

  it("options hold for its own requests, and can be sent back whole", async () => {
    const { ask, ran } = await guarded();
    const { body: options } = await ask("options", undefined, ann);
    expect(options).toMatchObject({
      sd_model_checkpoint: "landscapes",
      CLIP_stop_at_last_layers: 1,
      samples_format: "png",
    });
    // As open-webui does: all of them, with another model.
    const sent = {
      ...options,
      sd_model_checkpoint: "landscapes [0123abcd]",
      CLIP_stop_at_last_layers: 2,
      unknown: true,
    };
    const set = await ask("options", sent, ann);
    expect([set.status, set.body]).toEqual([200, null]);
    await ask("txt2img", { prompt: "x", steps: 1 }, ann);
    await ask("txt2img", { prompt: "x", steps: 1 }, ben);
    expect(ran.map(({ clip_skip }) => clip_skip)).toEqual([1, 0]);
    expect((await ask("options", undefined, ben)).body.CLIP_stop_at_last_layers).toBe(1);

    const once = { prompt: "x", steps: 1, override_settings: { CLIP_stop_at_last_layers: 3 } };
    await ask("txt2img", once, ann);
    expect((await ask("options", undefined, ann)).body.CLIP_stop_at_last_layers).toBe(2);
    await ask("txt2img", { ...once, override_settings_restore_afterwards: false }, ann);
    expect((await ask("options", undefined, ann)).body.CLIP_stop_at_last_layers).toBe(3);
    const refused = await ask("options", { jpeg_quality: 500 }, ann);
    expect([refused.status, refused.body.errors]).toEqual([422, expect.stringMatching(/^jpeg_quality: /)]);
  });

  it("request ends with its client", async () => {
    const { url, ran, ask } = await guarded();
    const leaving = new AbortController();
    const body = JSON.stringify({ prompt: "slow", batch_size: 2 });
    const drawing = fetch(`${url}/sdapi/v1/txt2img`, { method: "POST", headers: ann, body, signal: leaving.signal });
    drawing.catch(() => {});
    await until(() => ran.length === 2);
    leaving.abort();
    await until(async () => (await ask("progress", undefined, ann)).body.state.job_count === 0);
  });
});

describe("lists", () => {
  it("have the web UI's shapes, and no path of the server", async () => {
    const { ask, url } = await serving();
    const of = async (path: string) => (await ask(path)).body;
    expect(await of("sd-models")).toEqual([
      { title: "landscapes", model_name: "landscapes", hash: null, sha256: null, filename: "landscapes", config: null },
    ]);
    expect(await of("samplers")).toContainEqual({
      name: "DPM++ 2M",
      aliases: expect.arrayContaining(["dpmpp_2m"]),
      options: {},
    });
    expect(await of("schedulers")).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ name: "automatic", label: "Automatic" }),
        expect.objectContaining({ name: "karras", label: "Karras", default_rho: 7 }),
        expect.objectContaining({ name: "sgm_uniform", label: "SGM Uniform", need_inner_model: true }),
        expect.objectContaining({ name: "align_your_steps", label: "Align Your Steps" }),
      ]),
    );
    expect((await of("loras")).map(({ name }: Fields) => name)).toEqual(["ink", "styles/dots"]);
    expect(Object.keys((await of("embeddings")).loaded)).toEqual(["easynegative"]);
    expect((await of("memory")).ram.total).toBeGreaterThan(0);
    expect(await of("cmd-flags")).toMatchObject({ api: true });
    expect(await of("scripts")).toEqual({ txt2img: [], img2img: [] });
    for (const path of ["upscalers", "sd-vae", "hypernetworks", "prompt-styles", "face-restorers"]) {
      expect(await of(path)).toEqual([]);
    }
    expect((await ask("refresh-checkpoints", {})).body).toBeNull();
    // Krita's plug-in looks for a server so.
    expect(await (await fetch(`${url}/queue/status`)).json()).toEqual({ msg: "estimation", queue_size: 0 });
  });
});

describe("png-info", () => {
  it("reads what txt2img has written, and other programs' texts", async () => {
    const { ask } = await serving();
    const { body } = await ask("txt2img", { prompt: "a lake", negative_prompt: "fog", seed: 3, steps: 2 });
    const { body: info } = await ask("png-info", { image: `data:image/png;base64,${body.images[0]}` });
    expect(info).toEqual({
      info: "a lake\nNegative prompt: fog\nSteps: 2, Sampler: Euler, Seed: 3",
      items: {},
      parameters: { Prompt: "a lake", "Negative prompt": "fog", Steps: "2", Sampler: "Euler", Seed: "3" },
    });
    expect((await ask("png-info", { image: (await png()).toString("base64") })).body.info).toBe("");
    // Larger than 64 KiB: it comes as bytes.
    const { bytes } = await encodePicture(gradient(256, 1), {
      format: "png",
      infotext: "large\nSteps: 1, Seed: 1, Size: 12x34",
    });
    const { parameters } = (await ask("png-info", { image: Buffer.from(bytes).toString("base64") })).body;
    expect(parameters).toMatchObject({ Prompt: "large", "Size-1": "12", "Size-2": "34" });
    for (const image of [undefined, 7, "https://a.example/b.png", "***"]) {
      expect((await ask("png-info", { image })).status).toBe(422);
    }
  });
});
