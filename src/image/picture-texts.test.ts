/** Settings in the files of pictures: written, read back by this reader and by libvips, and bounded where a file is hostile. */
import { crc32, deflateSync } from "node:zlib";
import sharp from "sharp";
import { describe, expect, it } from "vitest";
import { decodePicture } from "./decode.ts";
import { encodePicture, type PictureFormat } from "./encode.ts";
import { readInfotext, settingsOf, writeInfotext } from "./infotext.ts";
import { textsOf } from "./picture-texts.ts";

const pixels = (alpha = 255, width = 12, height = 9) => ({
  width,
  height,
  rgba: Uint8Array.from({ length: width * height * 4 }, (_, at) => (at % 4 === 3 ? alpha : at % 251)),
});

const TEXTS = {
  ascii: "a lake at dawn\nNegative prompt: people\nSteps: 20, Sampler: Euler a, Seed: 42, Size: 512x512",
  latin: "Fjörd, naïve\nSteps: 3, Sampler: DDIM, Seed: 1",
  others: "富士山 🗻 北斎\nSteps: 3, Sampler: DDIM, Seed: 1",
  "as long as may be": `${"湖, ".repeat(3_333)}\nNegative prompt: ${"山, ".repeat(3_333)}\nSteps: 3, Sampler: DDIM, Seed: 1`,
};

describe.each(Object.entries(TEXTS))("a text that is %s", (_, text) => {
  it.each(["png", "jpeg", "webp"] satisfies PictureFormat[])("comes back from a file: %s", async (format) => {
    for (const alpha of [255, 100]) {
      const plain = await encodePicture(pixels(alpha), { format });
      const { bytes, ...look } = await encodePicture(pixels(alpha), { format, infotext: text });
      expect((await textsOf(bytes)).infotext).toBe(text);
      expect((await textsOf(plain.bytes)).infotext).toBe("");
      expect(look).toEqual({ content_type: plain.content_type, width: 12, height: 9 });
      // The pixels are those of the file without it, and libvips finds no fault.
      const [one, other] = await Promise.all([
        sharp(plain.bytes, { failOn: "warning" }).raw().toBuffer(),
        sharp(bytes, { failOn: "warning" }).raw().toBuffer(),
      ]);
      expect(other.equals(one)).toBe(true);
      expect(await decodePicture(bytes)).toMatchObject({ width: 12, height: 9 });
    }
  });
});

it("libvips reads a PNG's text, and a comment as it writes one itself is read", async () => {
  const { bytes } = await encodePicture(pixels(), { format: "png", infotext: TEXTS.others });
  expect((await sharp(bytes).metadata()).comments).toEqual([{ keyword: "parameters", text: TEXTS.others }]);
  for (const format of ["jpeg", "webp"] as const) {
    const foreign = await sharp(bytes)
      .withExif({ IFD2: { UserComment: "plain words" } })
      .toFormat(format)
      .toBuffer();
    expect((await textsOf(foreign)).infotext).toBe("plain words");
  }
});

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
function chunk(type: string, data: Uint8Array | string): Buffer {
  const body = Buffer.concat([Buffer.from(type), Buffer.from(data as string)]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(body.length - 4);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}
const png = (...chunks: Buffer[]) => Buffer.concat([SIGNATURE, chunk("IHDR", Buffer.alloc(13)), ...chunks]);
const packed = (text: string) => Buffer.concat([Buffer.from("parameters\0\0"), deflateSync(text)]);

describe("a PNG of another program", () => {
  it.each([
    ["tEXt", chunk("tEXt", "parameters\0words")],
    ["zTXt", chunk("zTXt", packed("words"))],
    ["iTXt", chunk("iTXt", "parameters\0\0\0en\0\0words")],
    ["iTXt, compressed", chunk("iTXt", Buffer.concat([Buffer.from("parameters\0\x01\0\0\0"), deflateSync("words")]))],
  ])("may have its text as %s", async (_, text) => {
    const others = [chunk("tEXt", "Software\0elsewhere"), chunk("tEXt", "parameters\0second")];
    const texts = await textsOf(png(text, ...others));
    expect([texts.infotext, ...texts.others]).toEqual(["words", ["Software", "elsewhere"]]);
  });

  it("is told from a hostile one, of which little is read", async () => {
    const bomb = chunk("zTXt", packed("a".repeat(8 * 2 ** 20)));
    const hostile: Record<string, [Uint8Array, string]> = {
      "a length beyond the end": [png(Buffer.from("ffffffff74455874", "hex")), ""],
      "no keyword": [png(chunk("tEXt", "\0words")), ""],
      "a keyword without an end": [png(chunk("tEXt", "p".repeat(1000))), ""],
      "damaged zlib": [png(chunk("zTXt", "parameters\0\0nothing packed")), ""],
      "a bomb": [png(bomb), ""],
      "many bombs, then words": [png(...Array(100).fill(bomb), chunk("tEXt", "parameters\0late")), ""],
      "a million signs": [png(chunk("tEXt", `parameters\0${"b".repeat(3 * 2 ** 20)}`)), "b".repeat(2 ** 20)],
      "chunks without end": [png(...Array(10_000).fill(chunk("junk", "")), chunk("tEXt", "parameters\0late")), ""],
      "cut short": [png(chunk("tEXt", "parameters\0words")).subarray(0, 50), ""],
      empty: [new Uint8Array(), ""],
      "EXIF that points outside": [
        Buffer.concat([Buffer.from("ffd8ffe10014", "hex"), Buffer.from("Exif\0\0MM\0*"), Buffer.alloc(8, 0xff)]),
        "",
      ],
      "JPEG of empty segments": [Buffer.concat([Buffer.from("ffd8", "hex"), Buffer.alloc(4000, 0xff)]), ""],
      "WebP of endless chunks": [Buffer.from(`RIFF\0\0\0\0WEBP${"\0".repeat(8000)}`), ""],
    };
    for (const [name, [bytes, infotext]] of Object.entries(hostile)) {
      const begun = performance.now();
      expect((await textsOf(bytes)).infotext, name).toBe(infotext);
      expect(performance.now() - begun, name).toBeLessThan(2_000);
    }
  });
});

describe("the format", () => {
  it("is the web UI's, with quotes where a value needs them", () => {
    const fields = { Steps: 20, Sampler: "Euler a", Seed: 2n ** 64n - 1n, Model: undefined, LoRAs: "ink:0.8, dots:1" };
    const text = writeInfotext("a, b: c\nsecond line", "blurred\nlow quality", fields);
    expect(text).toBe(
      'a, b: c\nsecond line\nNegative prompt: blurred\nlow quality\nSteps: 20, Sampler: Euler a, Seed: 18446744073709551615, LoRAs: "ink:0.8, dots:1"',
    );
    const { prompt, negativePrompt, fields: read } = readInfotext(text);
    expect([prompt, negativePrompt]).toEqual(["a, b: c\nsecond line", "blurred\nlow quality"]);
    expect(Object.fromEntries(read)).toEqual({
      Steps: "20",
      Sampler: "Euler a",
      Seed: "18446744073709551615",
      LoRAs: "ink:0.8, dots:1",
    });
  });

  it("gives a request of what other programs write", () => {
    // As the web UI's own documents show it, with fields that this server does not have.
    const text = `girl, ((eyeshadow)), detailed
Negative prompt: ugly, [blurry]
Steps: 28, Sampler: DPM++ 2M, Schedule type: SGM Uniform, CFG scale: 6.5, Seed: 965400086, Size: 512x768, Model hash: 45dee52b, Model: v1-5, Denoising strength: 0.55, Clip skip: 2, Variation seed: 7, Variation seed strength: 0.1, Lora hashes: "ink: 12ab, dots: 34cd", Hires upscale: 2, Version: v1.10.1`;
    expect(settingsOf(readInfotext(text))).toEqual({
      prompt: "girl, ((eyeshadow)), detailed",
      negative_prompt: "ugly, [blurry]",
      num_inference_steps: 28,
      guidance_scale: 6.5,
      scheduler: "DPM++ 2M",
      sigma_schedule: "sgm_uniform",
      seed: "965400086",
      width: 512,
      height: 768,
      strength: 0.55,
      clip_skip: 1,
      subseed: "7",
      subseed_strength: 0.1,
      generator: "cuda",
      prompt_syntax: "weighted",
    });
  });

  it.each([
    ["", { prompt: "" }],
    ["only words: and, a colon", { prompt: "only words: and, a colon" }],
    ["Steps: 3, Sampler: x", { prompt: "Steps: 3, Sampler: x" }],
    [
      "a\nSteps: 1e99, Seed: -1, Size: 0x, CFG scale: NaN",
      { prompt: "a", generator: "cuda", prompt_syntax: "weighted" },
    ],
  ])("makes the best of %j", (text, settings) => {
    expect(settingsOf(readInfotext(text))).toEqual(settings);
  });

  it("takes little time for a hostile text", () => {
    for (const piece of ["a: ", '"', 'a: "\\', ",", "a b-c/", "Negative prompt:\n", ": ,", " "]) {
      const begun = performance.now();
      readInfotext(piece.repeat(100_000));
      readInfotext(`x\nSteps: 1, Seed: 2, Size: 3, ${piece.repeat(100_000)}`);
      expect(performance.now() - begun, piece).toBeLessThan(1_000);
    }
  });
});
