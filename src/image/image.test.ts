import sharp from "sharp";
import { describe, expect, it } from "vitest";
import { decodePicture, pictureFormat } from "./decode.ts";
import { encodePicture, type Pixels } from "./encode.ts";
import { ImageError } from "./errors.ts";

/** Red grows to the right, green downwards. */
function gradient(width: number, height: number, alpha = 255): Pixels {
  const rgba = new Uint8Array(width * height * 4);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      rgba.set([Math.round((255 * x) / width), Math.round((255 * y) / height), 90, alpha], (y * width + x) * 4);
    }
  }
  return { width, height, rgba };
}

function meanDifference(a: Uint8Array, b: Uint8Array): number {
  expect(a.length).toBe(b.length);
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.abs(a[i]! - b[i]!);
  return sum / a.length;
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ImageError);
  return (error as ImageError).code;
}

describe("encodePicture and decodePicture", () => {
  it.each([
    ["png", 0],
    ["jpeg", 2],
    ["webp", 3],
  ] as const)("keep a picture through %s within %f of 255", async (format, limit) => {
    const picture = gradient(64, 40);
    const encoded = await encodePicture(picture, { format });
    expect(encoded).toMatchObject({ content_type: `image/${format}`, width: 64, height: 40 });
    expect(pictureFormat(encoded.bytes)).toBe(format);
    expect((await sharp(encoded.bytes).metadata()).hasAlpha).toBe(false);
    const back = await decodePicture(encoded.bytes);
    expect(back).toMatchObject({ width: 64, height: 40 });
    expect(meanDifference(back.rgba, picture.rgba)).toBeLessThanOrEqual(limit);
  });

  it("spend fewer bytes on a preview", async () => {
    const picture = gradient(256, 256);
    const preview = await encodePicture(picture, { quality: 70 });
    const result = await encodePicture(picture, { quality: 95 });
    expect(preview.bytes.length).toBeLessThan(result.bytes.length);
  });

  it("refuse pixels that are not width × height × 4", async () => {
    await expect(encodePicture({ width: 8, height: 8, rgba: new Uint8Array(255) })).rejects.toThrow(RangeError);
  });

  it("keep alpha where the format can, and lay it on white where it cannot", async () => {
    const clear = gradient(16, 16, 0);
    const png = await encodePicture(clear, { format: "png" });
    expect((await sharp(png.bytes).metadata()).hasAlpha).toBe(true);
    for (const bytes of [png.bytes, (await encodePicture(clear, { format: "jpeg" })).bytes]) {
      const back = await decodePicture(bytes);
      expect(Math.min(...back.rgba)).toBeGreaterThanOrEqual(254);
    }
  });

  it.each(["png", "webp"] as const)("keep every pixel of a %s without loss, transparent ones too", async (format) => {
    const picture = { width: 24, height: 16, rgba: Uint8Array.from({ length: 24 * 16 * 4 }, (_, i) => (i * 73) % 256) };
    const { bytes } = await encodePicture(picture, { format, lossless: true });
    expect(await decodePicture(bytes, { alpha: "keep" })).toEqual(picture);
  });

  it("resize to exactly what was asked", async () => {
    const { bytes } = await encodePicture(gradient(100, 60), { format: "png" });
    const picture = await decodePicture(bytes, { resize: () => ({ width: 64, height: 128, fit: "stretch" }) });
    expect([picture.width, picture.height, picture.rgba.length]).toEqual([64, 128, 64 * 128 * 4]);
  });

  it("turn the picture as EXIF says", async () => {
    const { bytes } = await encodePicture(gradient(64, 32), { format: "png" });
    // Orientation 6: the camera was held on its side; row 0 is the right edge.
    const turned = await sharp(bytes).withMetadata({ orientation: 6 }).jpeg().toBuffer();
    const picture = await decodePicture(turned);
    expect([picture.width, picture.height]).toEqual([32, 64]);
    const red = (x: number, y: number) => picture.rgba[(y * 32 + x) * 4]!;
    expect(red(16, 60)).toBeGreaterThan(red(16, 4) + 100);
  });

  it("decode grey and 16-bit pictures to the same four bytes a pixel", async () => {
    const grey = await sharp({ create: { width: 8, height: 8, channels: 3, background: "#808080" } })
      .toColourspace("b-w")
      .png()
      .toBuffer();
    const deep = await sharp({ create: { width: 8, height: 8, channels: 3, background: "#808080" } })
      .toColourspace("rgb16")
      .png()
      .toBuffer();
    for (const bytes of [grey, deep]) {
      const { rgba } = await decodePicture(bytes);
      expect(rgba.length).toBe(8 * 8 * 4);
      expect(Array.from(rgba.subarray(0, 4))).toEqual([128, 128, 128, 255]);
    }
  });
});

describe("pictures of cameras", () => {
  it("are refused if reading them would take more memory than may be taken", async () => {
    const resize = () => ({ width: 64, height: 64, fit: "crop" as const });
    const { bytes } = await encodePicture(gradient(64, 64), { format: "png" });
    const progressive = await sharp(bytes).jpeg({ progressive: true, chromaSubsampling: "4:4:4" }).toBuffer();
    // The frame's header (SOF2) promises 8064 × 6048: it is refused by that alone.
    const frame = progressive.indexOf(Buffer.from([0xff, 0xc2]));
    progressive.writeUInt16BE(6048, frame + 5);
    progressive.writeUInt16BE(8064, frame + 7);
    await expect(decodePicture(progressive, { resize })).rejects.toThrow(
      /^has 8064x6048 pixels; at most \d+ in all are allowed of a progressive JPEG$/,
    );
  });

  it("keep their proportions if the size is not theirs: the middle is taken", async () => {
    const { bytes } = await encodePicture(gradient(96, 32), { format: "png" });
    const { rgba } = await decodePicture(bytes, { resize: () => ({ width: 32, height: 32, fit: "crop" }) });
    const whole = (await decodePicture(bytes)).rgba;
    const [middle, first] = [Array.from(rgba.subarray(0, 4)), Array.from(whole.subarray(32 * 4, 33 * 4))];
    for (const [colour, value] of middle.entries()) expect(Math.abs(value - first[colour]!)).toBeLessThan(4);
  });
});

describe("decodePicture refuses", () => {
  it("what is not a picture, SVG included", async () => {
    expect(await codeOf(decodePicture(new TextEncoder().encode("hello")))).toBe("image-format");
    expect(await codeOf(decodePicture(new Uint8Array()))).toBe("image-format");
    const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>';
    expect(await codeOf(decodePicture(new TextEncoder().encode(svg)))).toBe("image-format");
  });

  it("more pixels than allowed, by the header alone", async () => {
    const { bytes } = await encodePicture(gradient(100, 100), { format: "png" });
    expect(await codeOf(decodePicture(bytes, { maxPixels: 9999 }))).toBe("image-too-large");
    // A header that promises 60000 × 60000 in a file of a few bytes.
    const bomb = Buffer.from(bytes);
    bomb.writeUInt32BE(60_000, 16);
    bomb.writeUInt32BE(60_000, 20);
    bomb.writeUInt32BE(crc32(bomb.subarray(12, 29)), 29);
    expect(await codeOf(decodePicture(bomb))).toBe("image-too-large");
  });

  it.each(["png", "jpeg", "webp"] as const)("a %s cut short", async (format) => {
    const { bytes } = await encodePicture(gradient(100, 100), { format });
    expect(await codeOf(decodePicture(bytes.subarray(0, bytes.length / 2)))).toBe("image-damaged");
    expect(await codeOf(decodePicture(bytes.subarray(0, 16)))).toBe("image-damaged");
  });
});

/** CRC-32 as PNG chunks carry it (Node 20 has none). */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}
