/** The built-in model's folder with one thing in it changed, loaded for real. */
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SchedulerError } from "../diffusion/schedulers/scheduler-error.ts";
import { loadModel } from "../engine/load-model.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { ModelConfigError } from "../models/config.ts";
import { TokenizerError } from "../text/tokenizer-error.ts";
import { WeightsError } from "../weights/errors.ts";

const MODEL = new URL("../../models/landscapes/", import.meta.url).pathname;
const FILES = [
  "model_index.json",
  "daguerre.json",
  "latent_rgb.json",
  "words.json",
  "scheduler/scheduler_config.json",
  "text_encoder/config.json",
  "tokenizer/tokenizer_config.json",
  "tokenizer/special_tokens_map.json",
  "tokenizer/vocab.json",
  "unet/config.json",
  "vae/config.json",
];
/** Content that is nothing of a model, and content that might be an honest mistake: the latter need only not crash. */
const HOSTILE = [2e8, 9e15, -1e308, "Infinity", {}];
const ODD = [-1, 0.5];
/** Fields that nothing here reads, whatever they hold; and a length that counts as not set from a million on. */
const UNREAD =
  /^text_encoder\/config\.json (bos_token_id|pad_token_id)$|^tokenizer\/tokenizer_config\.json model_max_length$/;

let gpu: Gpu;
let root: string;
let folder: string;
beforeAll(async () => {
  gpu = await openGpu({});
  root = await mkdtemp(join(tmpdir(), "daguerre-hostile-"));
  folder = join(root, "model");
  await cp(MODEL, folder, { recursive: true, filter: (path) => !/\/(train|stages)(\/|$)|\.jpg$/.test(path) });
});
afterAll(async () => {
  gpu?.close();
  await rm(root, { recursive: true, force: true });
});

/** The error that loading gives, within seconds; undefined where it loads. */
async function refusal(): Promise<Error | undefined> {
  const begun = performance.now();
  try {
    (await loadModel(gpu, folder, { precision: "f32" })).memory.destroy();
    return undefined;
  } catch (error) {
    const typed = [WeightsError, ModelConfigError, TokenizerError, SchedulerError].some(
      (type) => error instanceof type,
    );
    if (!typed) throw error;
    expect((error as Error).message).not.toContain(root);
    expect((error as Error).message.length).toBeLessThan(2000);
    return error as Error;
  } finally {
    expect(performance.now() - begun).toBeLessThan(5_000);
  }
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** The paths of all numbers in a value, the first two of each list. */
function numbersIn(value: Json, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (typeof value === "number") return [path];
  if (typeof value !== "object" || value === null) return [];
  const entries = Array.isArray(value) ? [...value.entries()].slice(0, 2) : Object.entries(value).slice(0, 60);
  return entries.flatMap(([key, item]) => numbersIn(item, [...path, key]));
}

function changed(value: Json, [key, ...rest]: readonly (string | number)[], to: unknown): unknown {
  if (key === undefined) return to;
  const copy = structuredClone(value) as Record<string | number, Json>;
  copy[key] = changed(copy[key]!, rest, to) as Json;
  return copy;
}

test("every number of every file, made hostile, is refused by name", { timeout: 300_000 }, async () => {
  let tried = 0;
  for (const file of FILES) {
    const text = await readFile(join(folder, file), "utf8");
    const content = JSON.parse(text) as Json;
    const paths = numbersIn(content).slice(0, file.endsWith("vocab.json") ? 2 : undefined);
    for (const path of paths) {
      for (const value of [...HOSTILE, ...ODD]) {
        const what = `${file} ${path.join(".")} = ${JSON.stringify(value)}`;
        const written = JSON.stringify(changed(content, path, value === "Infinity" ? "@" : value)).replace(
          '"@"',
          "1e999",
        );
        await writeFile(join(folder, file), written);
        tried++;
        const error = await refusal().catch((thrown: unknown) => expect.fail(`${what}: ${thrown}`));
        if (error === undefined && HOSTILE.includes(value)) expect(`${file} ${path.join(".")}`, what).toMatch(UNREAD);
      }
    }
    await writeFile(join(folder, file), text);
  }
  expect(tried).toBeGreaterThan(300);
});

test.each([
  ["scheduler/scheduler_config.json", { num_train_timesteps: 2e8 }, /^DDIMScheduler: num_train_timesteps must be/],
  [
    "scheduler/scheduler_config.json",
    { trained_betas: Array(5000).fill(1e-5) },
    /trained_betas must be an array of 1000/,
  ],
  ["scheduler/scheduler_config.json", { clip_sample: true, clip_sample_range: 1e308 }, /clip_sample_range/],
  ["daguerre.json", { num_inference_steps: 5000 }, /^daguerre.json: num_inference_steps/],
  ["unet/config.json", { sample_size: 1024 }, /unet.*sample_size.*8192/],
  ["unet/config.json", { sample_size: [16, 1e9] }, /unet.*sample_size/],
  [
    "unet/config.json",
    { layers_per_block: 30, transformer_layers_per_block: 250 },
    /transformer_layers_per_block: makes/,
  ],
  ["unet/config.json", { norm_num_groups: 7 }, /norm_num_groups: 64 channels do not divide into 7/],
  ["unet/config.json", { time_cond_proj_dim: 2 }, /time_cond_proj_dim/],
  ["unet/config.json", { norm_eps: 0 }, /norm_eps/],
  ["vae/config.json", { scaling_factor: 0 }, /scaling_factor/],
  ["text_encoder/config.json", { num_hidden_layers: 100_000 }, /num_hidden_layers/],
  ["tokenizer/tokenizer_config.json", { model_max_length: 500_000 }, /model_max_length must be an integer from 2/],
  [
    "tokenizer/tokenizer_config.json",
    { model_max_length: 60_000 },
    /max_position_embeddings: is 32, and the tokenizer's/,
  ],
  [
    "tokenizer/tokenizer_config.json",
    { added_tokens_decoder: { "9e15": { content: "<a>" } } },
    /"<a>" must have an id/,
  ],
  [
    "tokenizer/tokenizer_config.json",
    { added_tokens_decoder: Object.fromEntries(Array.from({ length: 2000 }, (_, id) => [id, { content: `<${id}>` }])) },
    /more than 1000 special tokens/,
  ],
  [
    "model_index.json",
    Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`unet_${i}`, ["diffusers", "UNet2DConditionModel"]])),
    /names 2\d\d things/,
  ],
])("%s with %j is refused", async (file, change, reason) => {
  const text = await readFile(join(folder, file), "utf8");
  await writeFile(join(folder, file), JSON.stringify({ ...JSON.parse(text), ...change }));
  const error = await refusal();
  await writeFile(join(folder, file), text);
  expect(error?.message).toMatch(reason);
});
