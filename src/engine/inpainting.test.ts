/** Drawing a part of a picture: outside the mask no bit of it changes, whatever its size and its transparency. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { faultOf } from "../faults/fault.ts";
import { decodePicture } from "../image/decode.ts";
import { encodePicture, type Pixels } from "../image/encode.ts";
import type { Runtime } from "./contract.ts";
import type { Picture, RunEvent } from "./events.ts";
import type { GenerationInput } from "./request.ts";
import { createRuntime } from "./runtime.ts";

const SIZE = { width: 117, height: 83 };

/** A picture with transparency and colours under it, by a formula. */
function patterned({ width, height } = SIZE, isOpaque = false): Pixels {
  const rgba = Uint8Array.from({ length: width * height * 4 }, (_, i) => (i * 31 + (i >> 7)) % 256);
  if (isOpaque) for (let i = 3; i < rgba.length; i += 4) rgba[i] = 255;
  return { width, height, rgba };
}

type Box = readonly [left: number, top: number, width: number, height: number];
const BOX: Box = [30, 20, 50, 40];

function isIn([left, top, width, height]: Box, pixel: number, across: number): boolean {
  const [x, y] = [pixel % across, Math.floor(pixel / across)];
  return x >= left && x < left + width && y >= top && y < top + height;
}

/** A mask that is `inside` in a box, else `outside`; its channels are those of a grey picture. */
async function masked(box: Box, inside: number[], outside: number[], { width, height } = SIZE): Promise<Uint8Array> {
  const rgba = new Uint8Array(width * height * 4);
  for (let pixel = 0; pixel < width * height; pixel++) {
    rgba.set(isIn(box, pixel, width) ? inside : outside, pixel * 4);
  }
  return png({ width, height, rgba });
}

async function png(picture: Pixels): Promise<Uint8Array> {
  return (await encodePicture(picture, { format: "png" })).bytes;
}

const WHITE = [255, 255, 255, 255];
const BLACK = [0, 0, 0, 255];
const NOTHING = [0, 0, 0, 0];

let runtime: Runtime;
let image: Uint8Array;
beforeAll(async () => {
  runtime = await createRuntime();
  image = await png(patterned());
});
afterAll(() => runtime.close());

const small = {
  prompt: "a sailboat at sunset",
  width: 64,
  height: 64,
  num_inference_steps: 2,
  guidance_scale: 1,
  strength: 1,
  preview_every: 0,
  seed: 3,
};

async function run(input: Partial<GenerationInput>): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of runtime.textToImage({ ...small, image, ...input } as GenerationInput)) events.push(event);
  return events;
}

async function drawn(input: Partial<GenerationInput>): Promise<Picture> {
  return last(await run(input)).pictures[0]!;
}

function last(events: readonly RunEvent[]) {
  const event = events.at(-1)!;
  if (event.type !== "result") throw new Error(`ended with ${event.type}`);
  return event;
}

/** Pixels that differ, those of a box apart. */
function changes(one: Pixels, other: Pixels, box: Box): { inside: number; outside: number } {
  expect([one.width, one.height]).toEqual([other.width, other.height]);
  const count = { inside: 0, outside: 0 };
  for (let pixel = 0; pixel < one.width * one.height; pixel++) {
    const bytes = [0, 1, 2, 3].map((channel) => pixel * 4 + channel);
    if (bytes.every((at) => one.rgba[at] === other.rgba[at])) continue;
    count[isIn(box, pixel, one.width) ? "inside" : "outside"]++;
  }
  return count;
}

describe("a mask", () => {
  it("leaves every bit outside as it was, at the picture's own size, in previews too", async () => {
    const events = await run({ mask: await masked(BOX, WHITE, BLACK), num_images: 2, preview_every: 1 });
    const { pictures } = last(events);
    expect(pictures).toHaveLength(2);
    const previews = events.flatMap((event) => (event.type === "preview" ? [event.picture] : []));
    expect(previews).toHaveLength(1);
    for (const picture of [...pictures, ...previews]) {
      const { inside, outside } = changes(picture, patterned(), BOX);
      expect(outside).toBe(0);
      expect(inside).toBeGreaterThan(1900);
    }
    expect(changes(pictures[0]!, pictures[1]!, BOX).inside).toBeGreaterThan(1500);
    // As a file, too.
    for (const format of ["png", "webp"] as const) {
      const { bytes } = await encodePicture(pictures[0]!, { format, lossless: true });
      expect(changes(await decodePicture(bytes, { alpha: "keep" }), patterned(), BOX).outside).toBe(0);
    }
  });

  it("is the same by white, by transparency of a mask or of the picture, inverted, and as a data URI", async () => {
    const white = await masked(BOX, WHITE, BLACK);
    const expected = await drawn({ image: await png(patterned(SIZE, true)), mask: white });
    const opaque = await png(patterned(SIZE, true));
    const uri = `data:image/png;base64,${Buffer.from(white).toString("base64")}`;
    const ways: Partial<GenerationInput>[] = [
      { mask: uri },
      { mask_url: uri },
      { mask: await masked(BOX, NOTHING, BLACK), mask_channel: "alpha" },
      { mask: await masked(BOX, BLACK, NOTHING), mask_channel: "alpha", mask_invert: true },
    ];
    for (const way of ways) expect(await drawn({ image: opaque, ...way })).toEqual(expected);
    const holed = patterned(SIZE, true);
    for (let pixel = 0; pixel < SIZE.width * SIZE.height; pixel++) {
      if (isIn(BOX, pixel, SIZE.width)) holed.rgba[pixel * 4 + 3] = 0;
    }
    const own = await drawn({ image: await png(holed), mask_channel: "alpha" });
    expect(changes(own, holed, BOX)).toEqual({ inside: 2000, outside: 0 });
    // An opaque picture is drawn as a whole.
    expect(await drawn({ image: opaque, mask_channel: "alpha" })).toMatchObject({ width: 64, height: 64 });
  });

  it("grows by its padding, and fades within three times its blur", async () => {
    const mask = await masked(BOX, WHITE, BLACK);
    const [left, top, width, height] = BOX;
    const reach = (by: number): Box => [left - by, top - by, width + 2 * by, height + 2 * by];
    const padded = changes(await drawn({ mask, mask_padding: 5 }), patterned(), reach(5));
    expect(padded.outside).toBe(0);
    expect(padded.inside).toBeGreaterThan(2800);
    const blurred = await drawn({ mask, mask_blur: 3, mask_padding: 2 });
    expect(changes(blurred, patterned(), reach(2 + 9)).outside).toBe(0);
    expect(changes(blurred, patterned(), reach(2)).outside).toBeGreaterThan(100);
  });

  it("is drawn by itself at the run's full size if it is cropped", async () => {
    const large = { width: 400, height: 300 };
    const box: Box = [300, 200, 40, 30];
    const picture = patterned(large);
    const asked = { image: await png(picture), mask: await masked(box, WHITE, BLACK, large) };
    const cropped = await drawn({ ...asked, padding_mask_crop: 8 });
    const whole = await drawn({ ...asked });
    for (const one of [cropped, whole]) {
      expect(changes(one, picture, box)).toEqual({ inside: expect.closeTo(1200, -2), outside: 0 });
    }
    // The whole is drawn 64 pixels across, and 6 of them are the box's 40: that part is coarser by far.
    expect(roughness(cropped, box)).toBeGreaterThan(roughness(whole, box));
  });

  it("stands for the margins that a picture grows by", async () => {
    const outpaint = { left: 40, top: 0, right: 3, bottom: 10 };
    const larger = await drawn({ outpaint });
    expect([larger.width, larger.height]).toEqual([SIZE.width + 43, SIZE.height + 10]);
    const own: Box = [40, 0, SIZE.width, SIZE.height];
    const rgba = new Uint8Array(larger.width * larger.height * 4).fill(1);
    for (let row = 0; row < SIZE.height; row++) {
      rgba.set(
        patterned().rgba.subarray(row * SIZE.width * 4, (row + 1) * SIZE.width * 4),
        (row * larger.width + 40) * 4,
      );
    }
    expect(changes(larger, { width: larger.width, height: larger.height, rgba }, own).inside).toBe(0);
    const both = await drawn({ outpaint, mask: await masked(BOX, WHITE, BLACK) });
    expect(changes(both, larger, own).inside).toBeGreaterThan(1900);
  });

  it("of all the picture says so in the result, and a little more than nothing is enough", async () => {
    const all = last(await run({ mask: await masked([0, 0, 117, 83], WHITE, BLACK) }));
    expect(all.warnings).toEqual(["The mask has all of the picture in it: nothing of it was kept."]);
    expect(last(await run({ mask: await masked(BOX, WHITE, BLACK) })).warnings).toBeUndefined();
    const one = await drawn({ mask: await masked([60, 40, 1, 1], WHITE, BLACK), padding_mask_crop: 0 });
    expect(changes(one, patterned(), [60, 40, 1, 1])).toEqual({ inside: 1, outside: 0 });
  });
});

/** The mean difference of neighbours in a box. */
function roughness({ width, rgba }: Pixels, [left, top, across, down]: Box): number {
  let sum = 0;
  for (let y = top; y < top + down; y++) {
    for (let x = left + 1; x < left + across; x++) {
      sum += Math.abs(rgba[(y * width + x) * 4 + 1]! - rgba[(y * width + x - 1) * 4 + 1]!);
    }
  }
  return sum / (down * (across - 1));
}

describe("refused in words, naming the field", () => {
  it.each<[string, () => Promise<Partial<GenerationInput>>, string, RegExp]>([
    [
      "another size",
      async () => ({ mask: await masked(BOX, WHITE, BLACK, { width: 64, height: 64 }) }),
      "mask",
      /^has 64x64 pixels, and the image has 117x83/,
    ],
    [
      "one pixel",
      async () => ({ mask: await png({ width: 1, height: 1, rgba: Uint8Array.from(WHITE) }) }),
      "mask",
      /^has 1x1 pixels/,
    ],
    [
      "all black",
      async () => ({ mask: await masked(BOX, BLACK, BLACK) }),
      "mask",
      /^is black everywhere.*white is drawn$/,
    ],
    [
      "all white, inverted",
      async () => ({ mask: await masked(BOX, WHITE, WHITE), mask_invert: true }),
      "mask",
      /^is white everywhere/,
    ],
    [
      "all opaque",
      async () => ({ mask: await masked(BOX, WHITE, BLACK), mask_channel: "alpha" }),
      "mask",
      /^is opaque everywhere.*transparent is drawn$/,
    ],
    [
      "a single white pixel",
      async () => ({ mask: await masked([41, 31, 1, 1], WHITE, BLACK) }),
      "mask",
      /^marks too little/,
    ],
    ["no picture", async () => ({ mask: new TextEncoder().encode("hello") }), "mask", /is not a JPEG, PNG or WebP/],
    [
      "cut short",
      async () => ({ mask: (await masked(BOX, WHITE, BLACK)).subarray(0, 60) }),
      "mask",
      /damaged or cut short/,
    ],
    [
      "margins beyond all",
      async () => ({
        image: await png(patterned({ width: 1500, height: 1500 })),
        outpaint: { left: 2048, top: 2048, bottom: 2048 },
      }),
      "outpaint",
      /^makes a picture of 3548x5596 pixels; at most/,
    ],
    [
      "more pictures than are held",
      async () => ({ outpaint: { left: 2000, right: 2000, bottom: 2048 }, num_images: 10 }),
      "num_images",
      /^must be at most 4 for pictures of/,
    ],
  ])("%s", async (_, input, field, message) => {
    const fault = await run(await input()).then(
      () => undefined,
      (error) => faultOf(error),
    );
    expect(fault).toMatchObject({ status: 422, field });
    expect(fault!.issues![0]!.message).toMatch(message);
  });
});
