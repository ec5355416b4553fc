/** A UNet that reads a mask and the masked picture beside the latents: a tiny one with seeded weights. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { folderOf, tinySd1 } from "../../test/checkpoints/tiny-models.ts";
import { type Watched, watch } from "../../test/conformance/watched-model.ts";
import { latentMask } from "../diffusion/mask.ts";
import type { PipelineRequest } from "../diffusion/request.ts";
import { generate } from "../diffusion/run.ts";
import { loadModel } from "../engine/load-model.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { memoryFiles } from "../platform/memory-files.ts";
import { readFile, textOf } from "../platform/model-files.ts";
import { clipVocabulary } from "../text/clip-vocabulary.ts";

let gpu: Gpu;
let watched: Watched;
beforeAll(async () => {
  gpu = await openGpu();
  const vocabulary = await clipVocabulary("<|endoftext|>");
  const names = await vocabulary.list();
  const tokenizer = Object.fromEntries(
    await Promise.all(
      names.map(async (path) => [path, textOf(await readFile({ files: vocabulary, path }, 2 ** 24))] as const),
    ),
  );
  const tiny = tinySd1({ in_channels: 9 });
  const index = { ...tiny.index, _class_name: "StableDiffusionInpaintPipeline" };
  const files = memoryFiles(folderOf({ ...tiny, index }, { tokenizer }), "inpainting");
  watched = watch(await loadModel(gpu, files, { precision: "f32" }));
});
afterAll(() => {
  watched?.model.memory.destroy();
  gpu.close();
});

const SIDE = 32;
const mask = {
  width: SIDE,
  height: SIDE,
  values: Uint8Array.from({ length: SIDE * SIDE }, (_, i) => (i % SIDE < 12 ? 255 : 127)),
};
/** Noise to the left, where the mask is, and to the right. */
function picture(left: number, right: number) {
  const rgba = Uint8Array.from({ length: SIDE * SIDE * 4 }, (_, i) => {
    const seed = Math.floor(i / 4) % SIDE < 12 ? left : right;
    return (Math.imul(i + 1, 2654435761) >>> (seed % 24)) % 256;
  });
  return { width: SIDE, height: SIDE, rgba };
}

const REQUEST: PipelineRequest = {
  prompt: "a small red fox",
  width: SIDE,
  height: SIDE,
  steps: 2,
  guidanceScale: 3,
  seed: 7,
  scheduler: { className: "EulerDiscreteScheduler" },
};
const masked: PipelineRequest = { ...REQUEST, image: picture(1, 2), mask, strength: 1 };

async function drawn(request: PipelineRequest): Promise<Float32Array> {
  for await (const event of generate(watched.model, request)) {
    if (event.type === "result") return event.latents();
  }
  throw new Error("no result");
}

describe("an inpainting UNet", () => {
  it("reads the mask and the masked picture's latents, unscaled, in both branches", async () => {
    watched.clear();
    await drawn(masked);
    const [negative, positive, ...others] = watched.rows("unet", "masked picture");
    expect(others).toEqual([]);
    expect(positive).toEqual(negative);
    const { downscale } = watched.model.family.latent;
    const shares = positive!.filter((_, i) => i % 5 === 0);
    expect(shares).toEqual(latentMask(mask, downscale));
    expect(new Set(shares)).toEqual(new Set([0, 1]));
  });

  it("at full strength sees nothing of what is under the mask, and all around it", async () => {
    const one = await drawn(masked);
    expect(await drawn({ ...masked, image: picture(5, 2) })).toEqual(one);
    expect(await drawn({ ...masked, image: picture(1, 9) })).not.toEqual(one);
    expect(await drawn({ ...masked, strength: 0.5 })).not.toEqual(one);
  });

  it("draws from words alone, and from a picture, as if all were masked", async () => {
    const all = { ...mask, values: new Uint8Array(SIDE * SIDE).fill(255) };
    const words = await drawn(REQUEST);
    expect(await drawn({ ...masked, image: picture(3, 4), mask: all })).toEqual(words);
    const picturesOwn = await drawn({ ...masked, mask: undefined, strength: 0.5 });
    expect(picturesOwn).toEqual(await drawn({ ...masked, mask: all, strength: 0.5 }));
  });

  it("draws in company what it draws alone", async () => {
    const requests = [masked, REQUEST, { ...masked, image: picture(1, 4), seed: 8, steps: 3, images: 2 }];
    const alone = [];
    for (const request of requests) alone.push(await drawn(request));
    expect(await Promise.all(requests.map(drawn))).toEqual(alone);
  });

  it("wants a picture for a mask", async () => {
    await expect(drawn({ ...REQUEST, mask })).rejects.toThrow("mask: needs an image to draw into");
  });
});
