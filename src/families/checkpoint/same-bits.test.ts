/** The same network from a folder, from one file, from pickles and from GGUF: the same pictures, bit by bit. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { gguf, oldTorchFile, safetensors, type Tensor, torchFile } from "../../../test/checkpoints/tensors.ts";
import {
  folderOf,
  originalTensors,
  type TinyModel,
  tinySd1,
  tinySd2,
  tinySdxl,
} from "../../../test/checkpoints/tiny-models.ts";
import { generate } from "../../diffusion/run.ts";
import { type LoadModelOptions, loadModel } from "../../engine/load-model.ts";
import { type Gpu, openGpu } from "../../gpu/device.ts";
import { fileOf } from "../../platform/folder-files.ts";
import { memoryFiles } from "../../platform/memory-files.ts";
import { type FileAt, type ModelFiles, readFile, textOf } from "../../platform/model-files.ts";
import { clipVocabulary } from "../../text/clip-vocabulary.ts";

let gpu: Gpu;
let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "daguerre-checkpoint-"));
  gpu = await openGpu({ adapter: { prefer: "software" } });
});
afterAll(async () => {
  gpu.close();
  await rm(root, { recursive: true, force: true });
});

async function file(name: string, content: Uint8Array): Promise<FileAt> {
  const path = join(root, name);
  await writeFile(path, content);
  return fileOf(path);
}

async function tokenizerFiles(padding: "<|endoftext|>" | "!"): Promise<Record<string, string>> {
  const files = await clipVocabulary(padding);
  const names = await files.list();
  return Object.fromEntries(
    await Promise.all(names.map(async (path) => [path, textOf(await readFile({ files, path }, 2 ** 24))] as const)),
  );
}

async function folder(model: TinyModel): Promise<ModelFiles> {
  const isXl = "text_encoder_2" in model.components;
  const isOpen = !isXl && (model.configs.text_encoder as { hidden_act: string }).hidden_act === "gelu";
  const tokenizers = {
    tokenizer: await tokenizerFiles(isOpen ? "!" : "<|endoftext|>"),
    ...(isXl && { tokenizer_2: await tokenizerFiles("!") }),
  };
  return memoryFiles(folderOf(model, tokenizers), "tiny");
}

const REQUEST = {
  prompt: "a small red fox",
  negativePrompt: "a blur",
  width: 32,
  height: 32,
  steps: 2,
  guidanceScale: 3,
  seed: 7,
};

async function drawn(from: ModelFiles | FileAt, options: Partial<LoadModelOptions> = {}): Promise<Buffer> {
  const model = await loadModel(gpu, from, { precision: "f32", ...options });
  try {
    for await (const event of generate(model, REQUEST)) {
      if (event.type === "result") return Buffer.from(event.pictures[0]!.rgba);
    }
    throw new Error("no result");
  } finally {
    model.memory.destroy();
  }
}

const isVae = ({ name }: Tensor) => name.startsWith("first_stage_model.");

it.each([
  ["Stable Diffusion 2", "sd2", tinySd2()],
  ["Stable Diffusion XL", "sdxl", tinySdxl()],
])("%s", async (_, name, model) => {
  const content = safetensors(originalTensors(model));
  expect((await drawn(await file(`${name}.safetensors`, content))).equals(await drawn(await folder(model)))).toBe(true);
});

it("Stable Diffusion 1 in all formats, with its VAE in the file and beside it", async () => {
  const model = tinySd1();
  const expected = await drawn(await folder(model));
  expect(new Set(expected).size).toBeGreaterThan(20); // a picture, and not one colour
  const tensors = originalTensors(model);
  const files: Readonly<Record<string, Uint8Array>> = {
    "sd1.safetensors": safetensors(tensors),
    "sd1.ckpt": torchFile(tensors),
    "sd1-old.pt": oldTorchFile(tensors),
    "sd1.gguf": gguf(tensors.filter(({ type }) => type !== "I64")),
  };
  for (const [base, content] of Object.entries(files)) {
    expect((await drawn(await file(base, content))).equals(expected), base).toBe(true);
  }
  const without = await file("no-vae.safetensors", safetensors(tensors.filter((tensor) => !isVae(tensor))));
  await expect(drawn(without)).rejects.toThrow(/without a VAE; give the VAE's file with --vae/);
  const renamed = tensors.filter(isVae).map((tensor) => ({ ...tensor, name: tensor.name.replace(/^\w+\./, "") }));
  const vae = await file("a.vae.pt", torchFile(renamed));
  expect((await drawn(without, { vae: join(root, vae.path) })).equals(expected)).toBe(true);
});
