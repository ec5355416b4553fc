/** Pictures of cameras, read by processes of their own: the peak of each is that of its picture. */
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { expect, it } from "vitest";

/** Rows of colours, 8064 × 6048 pixels unless said otherwise. */
function photo(width = 8064, height = 6048) {
  const rows = Buffer.from(Array.from({ length: 16 * 12 * 3 }, (_, i) => (i * 37) % 256));
  const small = sharp(rows, { raw: { width: 16, height: 12, channels: 3 } });
  return small.resize(width, height, { kernel: "nearest", fit: "fill" });
}

it.each([
  ["48 megapixels, turned", () => photo().jpeg().withMetadata({ orientation: 6 }), 32],
  ["48 megapixels, progressive", () => photo().jpeg({ progressive: true }), 176],
  ["24 megapixels, PNG", () => photo(5712, 4284).png({ compressionLevel: 1 }), 80],
])("a picture of %s is shrunk while it is read, in little memory", async (_, encode, mebibytes) => {
  const folder = await mkdtemp(join(tmpdir(), "daguerre-photo-"));
  try {
    const file = join(folder, "photo");
    await writeFile(file, await encode().toBuffer());
    const script = `
      import { readFileSync } from "node:fs";
      import { decodePicture } from ${JSON.stringify(join(import.meta.dirname, "decode.ts"))};
      import { encodePicture } from ${JSON.stringify(join(import.meta.dirname, "encode.ts"))};
      const peak = () => Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) / 1024;
      const { bytes } = await encodePicture({ width: 8, height: 8, rgba: new Uint8Array(256) });
      await decodePicture(bytes, { resize: () => ({ width: 8, height: 8, fit: "crop" }) });
      const photo = readFileSync(process.argv[1]);
      const before = peak();
      const picture = await decodePicture(photo, {
        resize: ({ width, height }) => ({ width: 512, height: Math.round((512 * height) / width), fit: "crop" }),
      });
      console.log(JSON.stringify({ width: picture.width, height: picture.height, mebibytes: peak() - before }));`;
    const loader = join(import.meta.dirname, "../../tooling/run.mjs");
    const args = ["--import", loader, "--input-type=module", "--eval", script, file];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
    expect(stderr).toBe("");
    expect(status).toBe(0);
    const seen = JSON.parse(stdout);
    expect(seen.width).toBe(512);
    expect([384, 683]).toContain(seen.height);
    expect(seen.mebibytes).toBeLessThan(mebibytes);
  } finally {
    await rm(folder, { recursive: true });
  }
});
