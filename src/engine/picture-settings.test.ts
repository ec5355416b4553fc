/** The settings of a picture, written by the engine, read back, and run again: the same picture. On the built-in model. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { appOfRuntime } from "../../runtime-app.ts";
import { decodePicture } from "../image/decode.ts";
import { encodePicture } from "../image/encode.ts";
import { readInfotext, settingsOf } from "../image/infotext.ts";
import { textsOf } from "../image/picture-texts.ts";
import type { Runtime } from "./contract.ts";
import type { ResultEvent } from "./events.ts";
import type { TextToImageInput } from "./request.ts";
import { builtInModel, createRuntime } from "./runtime.ts";

let runtime: Runtime;
beforeAll(async () => {
  runtime = await createRuntime({ precision: "f32", loraFolder: builtInModel() });
});
afterAll(() => runtime.close());

const SMALL = { width: 64, height: 72, preview_every: 0, embed_metadata: true } as const;

async function resultOf(request: TextToImageInput & { image?: Uint8Array; strength?: number }): Promise<ResultEvent> {
  const { image, ...rest } = request;
  const events = image === undefined ? runtime.textToImage(rest) : runtime.imageToImage({ ...rest, image });
  for await (const event of events) if (event.type === "result") return event;
  throw new Error("no result");
}

it.each<[string, Partial<TextToImageInput>, RegExp]>([
  [
    "the model's own",
    {},
    /Steps: 8, Sampler: .*, CFG scale: .*, Seed: \d+, Size: 64x72, Model: .*RNG: CPU, Prompt syntax: plain/,
  ],
  [
    "many",
    {
      prompt: "a (lake:1.3), dawn: red",
      negative_prompt: "fog,\nhaze",
      prompt_syntax: "weighted",
      num_inference_steps: 3,
      guidance_scale: 2.5,
      scheduler: "dpmpp_2m",
      sigma_schedule: "karras",
      seed: 18446744073709551615n,
      subseed: 4,
      subseed_strength: 0.25,
      clip_skip: 1,
      guidance_rescale: 0.5,
      generator: "cuda",
    },
    /^a \(lake:1.3\), dawn: red\nNegative prompt: fog,\nhaze\nSteps: 3, Sampler: DPM\+\+ 2M, Schedule type: Karras, CFG scale: 2.5, Seed: 18446744073709551615, Size: 64x72, Model: [^,]*, Variation seed: 4, Variation seed strength: 0.25, Clip skip: 2, CFG rescale: 0.5/,
  ],
  [
    "a class",
    { scheduler: "EulerDiscreteScheduler", num_inference_steps: 2 },
    /Sampler: Euler, .*Scheduler: EulerDiscreteScheduler/,
  ],
  ["few steps", { few_step: true, seed_resize_from: [64, 64] }, /Seed resize from: 64x64.*Few step: true/],
])("settings that are %s make the same picture again", async (_, changes, text) => {
  const { pictures, infotexts } = await resultOf({ prompt: "a lake", ...SMALL, ...changes });
  expect(infotexts).toEqual([expect.stringMatching(text)]);
  const { bytes } = await encodePicture(pictures[0]!, { format: "png", infotext: infotexts![0]! });
  const settings = settingsOf(readInfotext((await textsOf(bytes)).infotext));
  const again = await resultOf({ ...settings, preview_every: 0 } as TextToImageInput);
  expect(Buffer.from(again.pictures[0]!.rgba).equals(pictures[0]!.rgba)).toBe(true);
  expect(again.infotexts).toBeUndefined();
});

it("A1111's wire draws what the same request draws elsewhere, from words and from a picture", async () => {
  const app = appOfRuntime(runtime);
  const ask = async (path: string, body: object) => {
    const response = await app.request(path, { method: "POST", body: JSON.stringify(body) });
    // biome-ignore lint/suspicious/noExplicitAny: the assertions say what it should hold
    return (await response.json()) as any;
  };
  const asked = {
    prompt: "a (lake:1.2)",
    steps: 3,
    cfg_scale: 3,
    seed: 5,
    width: 64,
    height: 64,
    sampler_name: "Euler",
  };
  const { images, info } = await ask("/sdapi/v1/txt2img", { ...asked, batch_size: 2 });
  const ours = {
    prompt: asked.prompt,
    prompt_syntax: "weighted",
    generator: "cuda",
    num_inference_steps: 3,
    guidance_scale: 3,
    width: 64,
    height: 64,
    scheduler: "Euler",
  } as const;
  const pixels = async (image: string) => Buffer.from((await decodePicture(Buffer.from(image, "base64"))).rgba);
  for (const [place, seed] of [5, 6].entries()) {
    const { pictures } = await resultOf({ ...ours, seed, preview_every: 0 });
    expect((await pixels(images[place])).equals(Buffer.from(pictures[0]!.rgba))).toBe(true);
  }
  const told = await ask("/sdapi/v1/png-info", { image: images[1] });
  expect(told.info).toBe(JSON.parse(info).infotexts[1]);
  expect(told.parameters).toMatchObject({ Prompt: "a (lake:1.2)", Seed: "6", Sampler: "Euler", "Size-1": "64" });

  const redrawn = await ask("/sdapi/v1/img2img", { ...asked, init_images: [images[0]], denoising_strength: 0.7 });
  const image = new Uint8Array(Buffer.from(images[0], "base64"));
  const { pictures } = await resultOf({ ...ours, seed: 5, image, strength: 0.7, preview_every: 0 });
  expect((await pixels(redrawn.images[0])).equals(Buffer.from(pictures[0]!.rgba))).toBe(true);
  expect(JSON.parse(redrawn.info).infotexts[0]).toMatch(/Denoising strength: 0.7/);

  const half = Uint8Array.from({ length: 64 * 64 * 4 }, (_, at) => (at % 4 === 3 || (at >> 2) % 64 < 32 ? 255 : 0));
  const { bytes: mask } = await encodePicture({ width: 64, height: 64, rgba: half }, { format: "png" });
  const start = {
    ...asked,
    init_images: [images[0]],
    denoising_strength: 0.9,
    mask: Buffer.from(mask).toString("base64"),
  };
  const masks = [
    [{}, { mask_blur: 4, padding_mask_crop: 0 }],
    [
      { inpaint_full_res: false, mask_blur: 0, inpainting_mask_invert: 1 },
      { mask_blur: 0, mask_invert: true },
    ],
    [
      { inpaint_full_res_padding: 16, inpainting_fill: 1 },
      { mask_blur: 4, padding_mask_crop: 16 },
    ],
  ] as const;
  for (const [theirs, fields] of masks) {
    const drawn = await ask("/sdapi/v1/img2img", { ...start, ...theirs });
    const same = { ...ours, seed: 5, image, mask, strength: 0.9, preview_every: 0, ...fields };
    const { pictures } = await resultOf(same);
    expect((await pixels(drawn.images[0])).equals(Buffer.from(pictures[0]!.rgba))).toBe(true);
    expect((drawn.warnings ?? []).join().includes("inpainting_fill")).toBe(!("inpainting_fill" in theirs));
  }
  const { bytes: small } = await encodePicture({ width: 32, height: 32, rgba: half.subarray(0, 32 * 32 * 4) });
  const wrong = await ask("/sdapi/v1/img2img", { ...start, mask: Buffer.from(small).toString("base64") });
  expect(wrong.errors).toMatch(/^mask: .*64/);
  const wide = await ask("/sdapi/v1/img2img", { ...start, inpaint_full_res_padding: 9999 });
  expect(wide.errors).toMatch(/^inpaint_full_res_padding: /);

  // A mistake that only the run finds is told in the web UI's words.
  const { errors, detail } = await ask("/sdapi/v1/txt2img", { ...asked, sampler_name: "Eular" });
  expect(errors).toMatch(/^sampler_name: .*near it: .*Euler/);
  expect(detail[0].loc).toEqual(["body", "sampler_name"]);
});

it("every wire writes them if it is asked to, and a file is as before if not", async () => {
  const app = appOfRuntime(runtime);
  const request = { prompt: "a lake", num_inference_steps: 1, seed: 1, width: 64, height: 64, num_images: 2 };
  const ask = async (body: object) => {
    const response = await app.request("/", { method: "POST", body: JSON.stringify({ ...request, ...body }) });
    // biome-ignore lint/suspicious/noExplicitAny: the assertions say what it should hold
    const { images, infotexts } = (await response.json()) as any;
    const bytes = images.map(({ url }: { url: string }) => Buffer.from(url.split(",")[1]!, "base64")) as Buffer[];
    return { bytes, infotexts: infotexts as string[] | undefined };
  };
  for (const output_format of ["png", "jpeg", "webp"] as const) {
    const plain = await ask({ output_format });
    expect(plain.infotexts).toBeUndefined();
    const { bytes, infotexts } = await ask({ output_format, embed_metadata: true });
    expect(infotexts).toHaveLength(2);
    for (const [place, file] of bytes.entries()) {
      expect((await textsOf(file)).infotext).toBe(infotexts![place]);
      expect(infotexts![place]).toMatch(new RegExp(`Batch size: 2, Batch pos: ${place}`));
      expect((await textsOf(plain.bytes[place]!)).infotext).toBe("");
    }
    const bare = await encodePicture(await decodePicture(plain.bytes[0]!), { format: "png" });
    const openai = await app.request("/v1/images/generations", {
      method: "POST",
      body: JSON.stringify({
        prompt: "a lake",
        size: "64x64",
        num_inference_steps: 1,
        output_format,
        embed_metadata: true,
      }),
    });
    // biome-ignore lint/suspicious/noExplicitAny: the assertions say what it should hold
    const { data } = (await openai.json()) as any;
    expect((await textsOf(Buffer.from(data[0].b64_json, "base64"))).infotext).toMatch(/^a lake\nSteps: 1, /);
    if (output_format === "png") expect(Buffer.from(bare.bytes).equals(plain.bytes[0]!)).toBe(true);
  }
});
