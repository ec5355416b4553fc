// Makes docs/inpainting.jpg: parts of pictures of the built-in model drawn anew, developing from left to right.
// `npm run docs:pictures` runs it, after `npm run build`.
import { createRuntime } from "daguerre";
import sharp from "sharp";

const SIDE = 128;
const TILE = 160;
const GAP = 6;
const STEPS = 8;

/** A mask with a white shape of SVG in it. */
const mask = (shape) =>
  sharp(Buffer.from(`<svg width="${SIDE}" height="${SIDE}" xmlns="http://www.w3.org/2000/svg">${shape}</svg>`))
    .flatten({ background: "black" })
    .png()
    .toBuffer();

const ROWS = [
  {
    before: { prompt: "a calm lake under mountains at noon", seed: 11 },
    asked: {
      prompt: "a sailboat on a lake at noon",
      mask: await mask('<ellipse cx="64" cy="76" rx="36" ry="32" fill="white"/>'),
      mask_blur: 2,
      seed: 4,
    },
  },
  {
    before: { prompt: "a beautiful sunset over the sea", seed: 11 },
    asked: {
      prompt: "a palm tree before a sunset over the sea",
      mask: await mask('<rect x="68" y="10" width="56" height="112" fill="white"/>'),
      mask_blur: 2,
      seed: 2,
    },
  },
  {
    before: { prompt: "a lighthouse at dusk, purple sky", seed: 11 },
    asked: {
      prompt: "a lighthouse at dusk, purple sky",
      outpaint: { left: 48, top: 0, right: 48, bottom: 0 },
      mask_blur: 2,
      seed: 5,
    },
  },
];

const runtime = await createRuntime();
const size = { width: SIDE, height: SIDE };
const tiles = [];
for (const [row, { before, asked }] of ROWS.entries()) {
  const place = (column, image) => tiles.push({ row, column, image });
  const ofPixels = ({ width, height, rgba }) => sharp(rgba, { raw: { width, height, channels: 4 } });
  let image;
  for await (const event of runtime.textToImage({ ...before, ...size })) {
    if (event.type === "result") image = await ofPixels(event.pictures[0]).png().toBuffer();
  }
  place(0, sharp(image));
  place(1, asked.mask ? sharp(asked.mask) : sharp(image));
  let column = 2;
  const request = {
    ...asked,
    image,
    strength: 1,
    num_inference_steps: STEPS,
    preview_every: 2,
    preview_decoder: "full",
  };
  for await (const event of runtime.imageToImage(request)) {
    if (event.type === "preview") place(column++, ofPixels(event.picture));
    if (event.type === "result") place(column++, ofPixels(event.pictures[0]));
  }
}
await runtime.close();

const place = (count) => count * (TILE + GAP) + GAP;
const layers = await Promise.all(
  tiles.map(async ({ row, column, image }) => ({
    input: await image.resize(TILE, TILE, { fit: "contain", background: "#16161a" }).png().toBuffer(),
    left: place(column),
    top: place(row),
  })),
);
await sharp({ create: { width: place(6), height: place(ROWS.length), channels: 3, background: "#16161a" } })
  .composite(layers)
  .jpeg({ quality: 85 })
  .toFile(new URL("inpainting.jpg", import.meta.url).pathname);
