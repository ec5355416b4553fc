// Draws with the built-in model of one checkout's build, each time that it is asked, and answers with CPU milliseconds.
// Plain JavaScript over the public API, so that it runs on any checkout.
import path from "node:path";
import { pathToFileURL } from "node:url";

const [checkout, driver] = process.argv.slice(2);
const { createRuntime } = await import(pathToFileURL(path.join(checkout, "dist/index.js")).href);
const runtime = await createRuntime({
  adapter: { prefer: "software", ...(driver && { driver }) },
  loraFolder: path.join(checkout, "models/landscapes/few-step"),
});
const usual = { prompt: "a lighthouse at sunset, calm sea", seed: 7 };
const kinds = {
  picture: usual,
  "picture with previews": { ...usual, preview_every: 2 },
  LoRA: { ...usual, preview_every: 0, loras: [{ name: "pytorch_lora_weights", scale: 0.5 }] },
};

async function draw(input) {
  for await (const _ of runtime.textToImage({ preview_every: 0, ...input }));
}

const cpu = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

await runtime.warmUp();
await draw(usual);
process.send(cpu());
process.on("message", async (kind) => {
  const before = cpu();
  await draw(kinds[kind]);
  process.send(cpu() - before);
});
