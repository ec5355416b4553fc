/** Text encoder files with other names, more tensors, or in other variants; tokens that were taught. The built-in model's. */
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type TensorToWrite, writeSafetensors } from "../../test/fixtures/safetensors-writer.ts";
import type { ResultEvent } from "../engine/events.ts";
import { builtInModel, createRuntime } from "../engine/runtime.ts";
import { openSafetensors } from "../weights/safetensors.ts";

const REQUEST = {
  prompt: "a lake",
  width: 64,
  height: 64,
  num_inference_steps: 1,
  guidance_scale: 1,
  seed: 1,
  preview_every: 0,
};

let root: string;
let count = 0;
let plain: TensorToWrite[];
let expected: Uint8Array;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "daguerre-encoder-"));
  plain = await tensorsOf(join(builtInModel(), "text_encoder/model.safetensors"));
  expected = (await draw(builtInModel())).pictures[0]!.rgba;
});
afterAll(() => rm(root, { recursive: true, force: true }));

async function tensorsOf(path: string): Promise<TensorToWrite[]> {
  const set = await openSafetensors(path);
  const tensors: TensorToWrite[] = [];
  for (const name of set.names()) {
    const { dtype, shape, byteLength, read } = set.get(name)!;
    const data = new Uint8Array(byteLength);
    await read(data);
    tensors.push({ name, dtype, shape, data });
  }
  await set.close();
  return tensors;
}

/** The built-in model, of which these parts are copies that may be changed. */
async function modelWith(...parts: string[]): Promise<string> {
  const folder = join(root, `model-${count++}`);
  await mkdir(folder);
  for (const part of await readdir(builtInModel())) {
    const [from, to] = [join(builtInModel(), part), join(folder, part)];
    if (parts.includes(part)) await cp(from, to, { recursive: true });
    else await symlink(from, to);
  }
  return folder;
}

async function draw(model: string, prompt = REQUEST.prompt, variant?: string): Promise<ResultEvent> {
  const runtime = await createRuntime({ model, variant });
  try {
    for await (const event of runtime.textToImage({ ...REQUEST, prompt })) if (event.type === "result") return event;
    throw new Error("no result");
  } finally {
    await runtime.close();
  }
}

const extra = (name: string, dtype: TensorToWrite["dtype"], shape: number[], bytes: number): TensorToWrite => {
  const count = shape.reduce((product, size) => product * size, bytes);
  return { name, dtype, shape, data: new Uint8Array(count).fill(0x3c) };
};
const renamed = (change: (name: string) => string) => plain.map((tensor) => ({ ...tensor, name: change(tensor.name) }));

describe("a text encoder's file gives the same picture", () => {
  it.each<[string, () => TensorToWrite[]]>([
    ["with position_ids as F16", () => [...plain, extra("text_model.embeddings.position_ids", "F16", [1, 32], 2)]],
    ["with position_ids as I64", () => [...plain, extra("text_model.embeddings.position_ids", "I64", [1, 32], 8)]],
    ["with position_ids as F32 and no prefix", () => [...plain, extra("embeddings.position_ids", "F32", [32], 4)]],
    ["with a projection", () => [...plain, extra("text_projection.weight", "F32", [128, 128], 4)]],
    [
      "of a whole CLIP",
      () => [
        ...plain,
        extra("logit_scale", "F32", [], 4),
        extra("visual_projection.weight", "F16", [128, 64], 2),
        extra("text_projection.weight", "F16", [128, 128], 2),
        extra("vision_model.embeddings.class_embedding", "F32", [64], 4),
        extra("vision_model.encoder.layers.0.mlp.fc1.weight", "F32", [8, 8], 4),
        extra("vision_model.embeddings.position_ids", "I32", [1, 50], 4),
      ],
    ],
    ["without text_model.", () => renamed((name) => name.replace(/^text_model\./, ""))],
    [
      "without text_model., with positions",
      () => [
        ...renamed((name) => name.replace(/^text_model\./, "")),
        extra("embeddings.position_ids", "F16", [1, 32], 2),
      ],
    ],
    ["with another prefix", () => renamed((name) => `cond_stage_model.transformer.${name}`)],
    [
      "with a wrapper's prefix and a projection",
      () => [...renamed((name) => `module.${name}`), extra("module.text_projection.weight", "F32", [128, 128], 4)],
    ],
  ])("%s", async (_, tensors) => {
    const model = await modelWith("text_encoder");
    await writeSafetensors(join(model, "text_encoder/model.safetensors"), tensors());
    expect((await draw(model)).pictures[0]!.rgba).toEqual(expected);
  });

  it("unless it has something that no text encoder has", async () => {
    const model = await modelWith("text_encoder");
    await writeSafetensors(join(model, "text_encoder/model.safetensors"), [
      ...plain,
      extra("mystery.weight", "F32", [2], 4),
    ]);
    await expect(draw(model)).rejects.toThrow(/"mystery.weight" is not part of the model/);
  });
});

describe("variants", () => {
  it("the only one that there is, in each component", async () => {
    const model = await modelWith("text_encoder", "vae");
    await rename(join(model, "text_encoder/model.safetensors"), join(model, "text_encoder/model.bf16.safetensors"));
    const vae = join(model, "vae/diffusion_pytorch_model");
    await rename(`${vae}.safetensors`, `${vae}.non_ema.safetensors`);
    expect((await draw(model)).pictures[0]!.rgba).toEqual(expected);
    expect((await draw(model, undefined, "non_ema")).pictures[0]!.rgba).toEqual(expected);
    await expect(draw(model, undefined, "fp16")).rejects.toThrow(
      'the model has no variant "fp16"; it has plain weights, "bf16", "non_ema"',
    );
  });

  it("the wished one, beside the plain one", async () => {
    const model = await modelWith("text_encoder");
    const other = plain.map((tensor) => ({
      ...tensor,
      data: (tensor.data as Uint8Array).map((byte, i) => (i % 4 === 1 ? byte ^ 255 : byte)),
    }));
    await writeSafetensors(join(model, "text_encoder/model.ema.safetensors"), other);
    expect((await draw(model)).pictures[0]!.rgba).toEqual(expected);
    expect((await draw(model, undefined, "ema")).pictures[0]!.rgba).not.toEqual(expected);
  });
});

describe("tokens that a model was taught", () => {
  /** The model with one row more in its table of tokens. */
  async function taught(): Promise<string> {
    const model = await modelWith("text_encoder", "tokenizer");
    const config = JSON.parse(await readFile(join(model, "text_encoder/config.json"), "utf8"));
    await writeFile(join(model, "text_encoder/config.json"), JSON.stringify({ ...config, vocab_size: 911 }));
    const tensors = plain.map((tensor) => {
      if (!tensor.name.endsWith("token_embedding.weight")) return tensor;
      const before = tensor.data as Uint8Array;
      const row = before.byteLength / 910;
      // The new token means what another one does.
      return { ...tensor, shape: [911, 128], data: Buffer.concat([before, before.subarray(40 * row, 41 * row)]) };
    });
    await writeSafetensors(join(model, "text_encoder/model.safetensors"), tensors);
    return model;
  }
  const put = (model: string, file: string, content: object) =>
    writeFile(join(model, "tokenizer", file), JSON.stringify(content));

  it("are read from added_tokens.json as from added_tokens_decoder", async () => {
    const pieces = await draw(await taught(), "a <cat-toy>");
    expect(pieces.warnings).toContainEqual(
      "Words that the model was taught may be read in pieces: text_encoder has a token that tokenizer does not name " +
        "(is tokenizer/added_tokens.json missing?).",
    );
    const old = await taught();
    await put(old, "added_tokens.json", { "<cat-toy>": 910 });
    const fresh = await taught();
    const config = JSON.parse(await readFile(join(fresh, "tokenizer/tokenizer_config.json"), "utf8"));
    await put(fresh, "tokenizer_config.json", { ...config, added_tokens_decoder: { 910: { content: "<cat-toy>" } } });
    const [byFile, byConfig] = [await draw(old, "a <cat-toy>"), await draw(fresh, "a <cat-toy>")];
    expect(byFile.pictures[0]!.rgba).toEqual(byConfig.pictures[0]!.rgba);
    expect(byFile.pictures[0]!.rgba).not.toEqual(pieces.pictures[0]!.rgba);
    for (const { warnings = [] } of [byFile, byConfig]) expect(warnings.join()).not.toMatch(/in pieces/);
  });

  it("that the encoder has no row for, or that have no id, are a warning in prompts with them", async () => {
    const model = await modelWith("tokenizer");
    await put(model, "added_tokens.json", { "<far>": 910 });
    await put(model, "special_tokens_map.json", { additional_special_tokens: ["<lost>"] });
    const { warnings = [] } = await draw(model, "a lake <far> <lost>");
    expect(warnings.filter((warning) => warning.includes("read in pieces"))).toEqual([
      '"<lost>" is read in pieces: tokenizer lists it, and text_encoder has no row for it.',
      '"<far>" is read in pieces: tokenizer lists it, and text_encoder has no row for it.',
    ]);
    expect((await draw(model)).warnings).toBeUndefined();
  });

  it.each([
    ["tokenizer_config.json", ["tokenizer_config.json"]],
    ["all that is optional", ["tokenizer_config.json", "special_tokens_map.json"]],
  ])("a tokenizer without %s is CLIP's usual one", async (_, missing) => {
    const model = await modelWith("tokenizer");
    for (const file of missing) await rm(join(model, "tokenizer", file));
    const { pictures, warnings } = await draw(model);
    expect(warnings).toBeUndefined();
    expect(pictures[0]!.rgba).toEqual(expected);
  });
});
