// Draws with the built-in model of one checkout's build and prints a line for each picture: its SHA-256, and its name.
// Plain JavaScript over the public API, so that it runs on any checkout.
import { createHash } from "node:crypto";
import path from "node:path";
import { setImmediate } from "node:timers/promises";
import { pathToFileURL } from "node:url";

const [checkout, driver] = process.argv.slice(2);
const { createRuntime, encodePicture } = await import(pathToFileURL(path.join(checkout, "dist/index.js")).href);
const runtime = await createRuntime({
  adapter: { prefer: "software", ...(driver && { driver }) },
  loraFolder: path.join(checkout, "models/landscapes/few-step"),
});

const prompt = "a lighthouse at sunset, calm sea";
const base = { prompt, seed: 7, num_inference_steps: 6 };
const { bytes: start } = await encodePicture({ width: 128, height: 128, rgba: gradient(128, 128) }, { format: "png" });
const cases = {
  usual: base,
  "another seed": { ...base, seed: 12345678901 },
  "without guidance": { ...base, guidance_scale: 1 },
  "negative prompt": { ...base, negative_prompt: "snow" },
  "few steps": { prompt, seed: 7, few_step: true },
  "wide, previews": { ...base, width: 192, height: 64, preview_every: 2 },
  "previews in full": { ...base, preview_every: 3, preview_decoder: "full" },
  large: { ...base, width: 256, height: 256, num_inference_steps: 3 },
  "noise of CUDA": { ...base, generator: "cuda" },
  "from a picture": { ...base, image: start, strength: 0.6 },
  "two pictures": { ...base, num_images: 2 },
  LoRA: { ...base, loras: [{ name: "pytorch_lora_weights", scale: 0.5 }] },
  ...Object.fromEntries(
    ["ddim", "euler", "euler_a", "dpm++_2m", "lcm", "pndm"].map((scheduler) => [scheduler, { ...base, scheduler }]),
  ),
};

/** A picture that is not the same anywhere. */
function gradient(width, height) {
  const rgba = new Uint8Array(width * height * 4);
  for (let i = 0; i < width * height; i++) {
    rgba.set([i % width, Math.floor(i / width), (i * 7) % 256, 255], i * 4);
  }
  return rgba;
}

async function draw(name, input, options, onEvent) {
  for await (const event of runtime.textToImage(input, options)) {
    const pictures = event.type === "result" ? event.pictures : event.type === "preview" ? [event.picture] : [];
    for (const [index, { rgba }] of pictures.entries()) {
      const hash = createHash("sha256").update(rgba).digest("hex");
      console.log(`${hash} ${name}, ${event.type} ${event.step ?? index}`);
    }
    await onEvent?.(event);
  }
}

for (const [name, input] of Object.entries(cases)) await draw(name, input);

// A change of the prompt before the fourth step: through `updates`, and through `takeUpdate` on checkouts that have that.
let asked = 0;
let send;
const change = { prompt: "a desert at noon" };
const updates = (async function* () {
  yield await new Promise((resolve) => {
    send = () => resolve(change);
  });
})();
const takeUpdate = () => (asked++ === 3 ? change : undefined);
await draw("changed on the way", base, { takeUpdate, updates }, async (event) => {
  if (event.type !== "progress" || event.step !== 3) return;
  send?.();
  await setImmediate();
});
await runtime.close();
