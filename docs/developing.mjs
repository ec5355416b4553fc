// Makes docs/developing.jpg, the picture in the README: three runs of the built-in model, developing from left to right.
// `npm run docs:pictures` runs it, after `npm run build`.
import { createRuntime } from "daguerre";
import sharp from "sharp";

const PROMPTS = ["a beautiful sunset over the sea", "a lighthouse at dusk, purple sky", "northern lights over a lake"];
const STEPS = 8;
const SIDE = 160;
const GAP = 6;

const runtime = await createRuntime();
const tiles = [];
for (const [row, prompt] of PROMPTS.entries()) {
  let column = 0;
  const place = ({ width, height, rgba }) => {
    tiles.push({
      row,
      column: column++,
      image: sharp(rgba, { raw: { width, height, channels: 4 } })
        .resize(SIDE, SIDE)
        .png(),
    });
  };
  const request = { prompt, seed: 11, num_inference_steps: STEPS, preview_every: 1, preview_decoder: "full" };
  for await (const event of runtime.textToImage(request)) {
    if (event.type === "preview") place(event.picture);
    if (event.type === "result") place(event.pictures[0]);
  }
}
await runtime.close();

const size = (count) => count * (SIDE + GAP) + GAP;
const layers = await Promise.all(
  tiles.map(async ({ row, column, image }) => ({ input: await image.toBuffer(), left: size(column), top: size(row) })),
);
const canvas = { width: size(STEPS), height: size(PROMPTS.length), channels: 3, background: "#16161a" };
await sharp({ create: canvas })
  .composite(layers)
  .jpeg({ quality: 85 })
  .toFile(new URL("developing.jpg", import.meta.url).pathname);
