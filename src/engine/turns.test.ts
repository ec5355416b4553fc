/** Time on the JavaScript thread that requests within the limits take, on a real runtime. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTurnMeter } from "../../test/turn-meter.ts";
import { encodePicture, type Pixels } from "../image/encode.ts";
import type { Runtime } from "./contract.ts";
import type { ImageToImageInput } from "./request.ts";
import { createRuntime } from "./runtime.ts";

let runtime: Runtime;
beforeAll(async () => {
  runtime = await createRuntime({});
  await run({ prompt: "a lake", num_inference_steps: 1 }); // as a server warms up
});
afterAll(() => runtime?.close());

function noise(width: number, height: number): Pixels {
  const rgba = new Uint8Array(width * height * 4);
  for (let i = 0; i < rgba.length; i++) rgba[i] = i % 4 === 3 ? 255 : (i * 7919) % 256;
  return { width, height, rgba };
}

/** The longest turn of a run and of the packing of its pictures. */
async function run(input: Partial<ImageToImageInput>): Promise<number> {
  const meter = startTurnMeter();
  const request = { prompt: "a lake", num_inference_steps: 1, ...input };
  for await (const event of runtime.imageToImage(request as ImageToImageInput)) {
    if (event.type === "result") await Promise.all(event.pictures.map((picture) => encodePicture(picture)));
  }
  return meter.stop().longestMs;
}

describe("no turn of the event loop is long", () => {
  test.each<[string, Partial<ImageToImageInput>]>([
    ["eight pictures of a size that is new", { width: 192, height: 256, num_images: 8 }],
    [
      "noise in every step, of the other generator",
      { width: 256, height: 192, num_images: 8, generator: "cuda", scheduler: "euler_a", num_inference_steps: 2 },
    ],
    ["200 steps", { width: 64, height: 64, num_inference_steps: 200, scheduler: "pndm" }],
    ["a variant merged for the first time", { few_step: true }],
    ["a large picture", { width: 768, height: 512, guidance_scale: 1 }],
    [
      "ideographs",
      {
        prompt: Array.from({ length: 10_000 }, (_, i) => String.fromCodePoint(0x4e00 + i)).join(""),
        guidance_scale: 1,
      },
    ],
    [
      "a word of ten thousand letters",
      { prompt: "qzjxkvbpygfwmucldrhsnioate".repeat(384), negative_prompt: "a".repeat(10_000) },
    ],
    ["marks out of order", { prompt: `a${"\u0345".repeat(5000)}${"\u0334".repeat(4999)}` }],
  ])("%s", async (_, input) => {
    expect(await run(input)).toBeLessThan(50);
  });

  test("image-to-image", async () => {
    const { bytes } = await encodePicture(noise(512, 512), { format: "png" });
    expect(await run({ image: bytes, width: 512, height: 384, num_images: 4, num_inference_steps: 2 })).toBeLessThan(
      50,
    );
  });

  test("eight pictures of 2048² packed at once", async () => {
    const picture = noise(2048, 2048);
    const meter = startTurnMeter();
    await Promise.all(Array.from({ length: 8 }, () => encodePicture(picture, { maxSide: 64 })));
    expect(meter.stop().longestMs).toBeLessThan(50);
  });

  test("tokens are counted", () => {
    const meter = startTurnMeter();
    runtime.countTokens("é".repeat(10_000));
    expect(meter.stop().longestMs).toBeLessThan(50);
  });
});
