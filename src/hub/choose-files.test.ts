import { describe, expect, it } from "vitest";
import { EVERYTHING } from "../../test/hub/hub-models.ts";
import { bytesText } from "./bytes-text.ts";
import { chooseFiles, shardsOf } from "./choose-files.ts";

const NAME = "a/b";
const INDEX = JSON.parse(String(EVERYTHING["model_index.json"])) as Record<string, unknown>;

function listing(paths: Iterable<string>): Map<string, number> {
  return new Map([...paths].map((path) => [path, 2 ** 20]));
}

function chosen(paths: Iterable<string>, index?: Record<string, unknown>, variant?: string): string[] {
  const { small, weights } = chooseFiles(NAME, listing(paths), index, variant);
  return [...small, ...weights.map(({ file }) => file)].sort();
}

describe("the files of a folder in diffusers layout", () => {
  const SMALL = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "vae/config.json",
  ];

  it.each<[string | undefined, string[]]>([
    [
      undefined,
      [
        "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
      ],
    ],
    [
      "plain",
      [
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
      ],
    ],
    [
      "non_ema",
      [
        "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
      ],
    ],
  ])("of variant %s: one of each component, no pickle, nothing of other programs", (variant, weights) => {
    expect(chosen(Object.keys(EVERYTHING), INDEX, variant)).toEqual([...SMALL, ...weights].sort());
  });

  it("of a variant that is not there is an error with those that are", () => {
    expect(() => chosen(Object.keys(EVERYTHING), INDEX, "bf16")).toThrow(
      'a/b has no variant "bf16"; it has plain weights, "fp16", "non_ema"',
    );
  });

  it("takes pickles where there is nothing else, and a model's own additions", () => {
    const files = ["vae/config.json", "vae/diffusion_pytorch_model.bin", "daguerre.json", "notes.json"];
    const lora = "few-step/pytorch_lora_weights.safetensors";
    expect(chosen([...files, lora, "other/x.json"], { vae: ["diffusers", "AutoencoderKL"], x: [null, null] })).toEqual([
      "daguerre.json",
      lora,
      "vae/config.json",
      "vae/diffusion_pytorch_model.bin",
    ]);
  });

  it("takes shards by their index", () => {
    const shards = ["1", "2"].map((n) => `diffusion_pytorch_model.fp16-0000${n}-of-00002.safetensors`);
    const index = "unet/diffusion_pytorch_model.safetensors.index.fp16.json";
    const paths = ["unet/config.json", index, ...shards.map((name) => `unet/${name}`)];
    expect(chosen(paths, { unet: ["diffusers", "UNet2DConditionModel"] })).toEqual(["unet/config.json", index].sort());
    const map = { weight_map: { a: shards[0], b: shards[1], c: shards[0], d: "../../etc/passwd", e: 1 } };
    expect(shardsOf(map, "unet")).toEqual(shards.map((name) => `unet/${name}`));
    expect(shardsOf({}, "unet")).toEqual([]);
  });

  it("of several variants, none of which is plain or fp16, are a choice", () => {
    const paths = ["unet/model.bf16.safetensors", "unet/model.ema.safetensors"];
    expect(() => chosen(paths, { unet: ["diffusers", "X"] })).toThrow(
      'unet of a/b has "bf16", "ema": choose one with --variant',
    );
  });
});

describe("the files of a repository without an index", () => {
  it.each<[string, string[], string[]]>([
    ["one checkpoint", ["README.md", "x.safetensors", "x.ckpt"], ["x.safetensors"]],
    ["a pickle alone", ["x.ckpt", "config.yaml"], ["x.ckpt"]],
    ["a GGUF file in a folder", ["files/x.gguf"], ["files/x.gguf"]],
    [
      "a component",
      ["config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin", "x.safetensors"],
      ["config.json", "diffusion_pytorch_model.safetensors"],
    ],
  ])("%s", (_, paths, wanted) => {
    expect(chosen(paths)).toEqual(wanted);
  });

  it("several checkpoints are a choice, with their sizes", () => {
    expect(() => chosen(["a.gguf", "b.gguf"])).toThrow(
      'a/b has 2 checkpoints, choose: daguerre pull a/b FILE, where FILE is one of "a.gguf" (1.0 MiB), "b.gguf" (1.0 MiB)',
    );
  });

  it("none is an error", () => {
    expect(() => chosen(["README.md", "model.onnx"])).toThrow("a/b has no model_index.json and no checkpoint");
  });
});

it.each([
  [7, "7 bytes"],
  [2048, "2 KiB"],
  [1.5 * 2 ** 30, "1.5 GiB"],
  [52 * 2 ** 30, "52 GiB"],
  [2 ** 50, "1024 TiB"],
])("%d bytes: %s", (bytes, text) => {
  expect(bytesText(bytes)).toBe(text);
});
