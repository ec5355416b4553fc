/** Files that are not what they should be, in every place where a file can be given: each is named as what it is. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { zeroTensors } from "../../test/fixtures/safetensors-bytes.ts";
import { locateModel } from "../engine/model-location.ts";
import { openCheckpoint } from "../families/checkpoint/open-checkpoint.ts";
import type { FileAt } from "../platform/model-files.ts";
import { loadClipTokenizer } from "../text/clip-tokenizer.ts";
import { openLora } from "./lora.ts";
import { openModelDirectory } from "./model-directory.ts";
import { openSafetensors } from "./safetensors.ts";
import { openWeights } from "./weight-files.ts";

let root: string;
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "daguerre-foreign-"));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const bytes = (...values: (number | string)[]) =>
  Buffer.concat(values.map((value) => (typeof value === "string" ? Buffer.from(value, "latin1") : Buffer.of(value))));

/** The beginning of a zip archive whose first entry has this name. */
function zip(name: string): Buffer {
  return bytes("PK\x03\x04", "\0".repeat(22), name.length, 0, 0, 0, name, "\x01".repeat(600));
}

const tar = Buffer.alloc(1024);
tar.write("sd-turbo/unet/config.json");
tar.write("ustar", 257);

/** Files by kind, and the beginning of what is said of each. */
const FOREIGN: readonly (readonly [kind: string, content: Uint8Array | string, said: RegExp])[] = [
  [
    "a pointer of Git LFS",
    `version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 3438167540\n`,
    /is a Git LFS pointer, not the file itself; run "git lfs pull"/,
  ],
  ["a pointer with a mark", "\ufeffversion https://git-lfs.github.com/spec/v1\noid x\n", /is a Git LFS pointer/],
  ["a web page", "<!DOCTYPE html>\n<html><head><title>Log in</title>", /is a web page, not the file itself: .*log in/],
  ["a web page in capitals", "\n\n  <HTML lang=en>", /is a web page/],
  ["an error in XML", '<?xml version="1.0"?><Error><Code>AccessDenied</Code>', /is a web page/],
  ["a pickle", bytes(0x80, 2, "}q\0(X\x05"), /is a pickle .*get it as \.safetensors/],
  ["an old pickle of PyTorch", bytes(0x80, 2, 0x8a, 0x0a, "l\xfc\x9cF\xf9 j\xa8P\x19."), /is a pickle/],
  ["a pickle of PyTorch", zip("archive/data.pkl"), /is a pickle/],
  ["a pickle of PyTorch under its own name", zip("sd15/data.pkl"), /is a pickle/],
  ["a zip archive", zip("sd-turbo/README.md"), /is a zip archive: unpack it first/],
  ["a gzip archive", bytes(0x1f, 0x8b, 8, "\0".repeat(600)), /is a gzip archive: unpack it first/],
  ["a tar archive", tar, /is a tar archive: unpack it first/],
  ["a 7z archive", bytes("7z\xbc\xaf\x27\x1c", "\0".repeat(60)), /is a 7z archive: unpack it first/],
  ["a GGUF file", bytes("GGUF", 3, 0, 0, 0, "\0".repeat(60)), /is a GGUF file, which is not supported/],
  ["a picture", bytes("\x89PNG\r\n\x1a\n", "\0".repeat(60)), /is a picture \(PNG\)/],
  ["a NumPy file", bytes("\x93NUMPY", 1, 0, "v\0{'descr'"), /is a NumPy file/],
  ["an HDF5 file", bytes("\x89HDF\r\n\x1a\n", "\0".repeat(60)), /is an HDF5 file/],
  ["an unfinished download", new Uint8Array(4096), /begins with nothing but zeros: its download was not finished/],
];

/** Texts, which a JSON file may be by right. */
const TEXTS: typeof FOREIGN = [
  ["an answer in JSON", '{"error":"Repository not found"}', /is JSON text, perhaps the error message of a download/],
  ["an answer in words", "Entry not found", /is text, perhaps the error message of a download/],
];

async function at(files: Record<string, Uint8Array | string>): Promise<string> {
  const folder = join(root, `case-${count++}`);
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), content);
  }
  return folder;
}

const INDEX = JSON.stringify({ weight_map: { a: "model-00001-of-00001.safetensors" } });
const one = zeroTensors({ a: ["F16", [2]] });

/** Opens a checkpoint of one file. */
async function openModelFile(path: string): Promise<unknown> {
  return openCheckpoint((await locateModel(path)) as FileAt);
}

/** Formats that a checkpoint of one file may have; damaged ones are tested with those formats. */
const READ_AS_MODEL = /pickle|GGUF/;

/** Opens something with `content` in the place of a file. */
type Place = (content: Uint8Array | string) => Promise<unknown>;

const WEIGHTS: Readonly<Record<string, Place>> = {
  "a file of weights": async (content) =>
    openSafetensors(join(await at({ "a.safetensors": content }), "a.safetensors")),
  "a component": async (content) => openWeights(await at({ "model.safetensors": content }), { name: "unet" }),
  "a component's variant": async (content) =>
    openWeights(await at({ "model.safetensors": one, "model.fp16.safetensors": content }), {
      name: "u",
      variant: "fp16",
    }),
  "a shard": async (content) =>
    openWeights(await at({ "model.safetensors.index.json": INDEX, "model-00001-of-00001.safetensors": content }), {
      name: "unet",
    }),
  "a LoRA": async (content) => openLora(join(await at({ "ink.safetensors": content }), "ink.safetensors")),
  "a LoRA by the name of a pickle": async (content) => openLora(join(await at({ "ink.pt": content }), "ink.pt")),
  "a model's single file": async (content) =>
    openModelFile(join(await at({ "sd.safetensors": content }), "sd.safetensors")),
};

const JSON_FILES: Readonly<Record<string, Place>> = {
  "a model's index": async (content) => openModelDirectory(await at({ "model_index.json": content })),
  "a component's config": async (content) =>
    openModelDirectory(
      await at({
        "model_index.json": JSON.stringify({
          _class_name: "StableDiffusionPipeline",
          unet: ["diffusers", "UNet2DConditionModel"],
        }),
        "unet/config.json": content,
      }),
    ),
  "an index of shards": async (content) =>
    openWeights(await at({ "model.safetensors.index.json": content }), { name: "u" }),
  "a vocabulary": async (content) => loadClipTokenizer(await at({ "vocab.json": content, "merges.txt": "#" })),
  "a list of merges": async (content) => loadClipTokenizer(await at({ "vocab.json": "{}", "merges.txt": content })),
  "a tokenizer": async (content) => loadClipTokenizer(await at({ "tokenizer.json": content })),
};

async function refusal(opening: Promise<unknown>): Promise<string> {
  const error = await opening.then(
    () => expect.fail("should have been refused"),
    (thrown: unknown) => thrown as Error,
  );
  expect(["WeightsError", "TokenizerError"]).toContain(error.name);
  expect(error.message.split("\n")).toHaveLength(1);
  return error.message;
}

describe.each(Object.entries(WEIGHTS))("in the place of %s", (place, open) => {
  const isModel = place.includes("single file");
  const cases = isModel ? FOREIGN.filter(([kind]) => !READ_AS_MODEL.test(kind)) : [...FOREIGN, ...TEXTS];
  it.each(cases)("%s", async (_, content, said) => {
    const message = await refusal(open(content));
    if (place.includes("pickle") && /is (JSON )?text/.test(String(said))) expect(message).toMatch(/is a pickle/);
    else expect(message).toMatch(said);
  });
});

describe.each(Object.entries(JSON_FILES))("in the place of %s", (_, open) => {
  it.each(FOREIGN)("%s", async (_kind, content, said) => {
    expect(await refusal(open(content))).toMatch(said);
  });
});

describe("a sound file of something else", () => {
  const embedding = zeroTensors({ "<cat-toy>": ["F32", [8]] });
  it.each<[string, Uint8Array, RegExp]>([
    ["an embedding", zeroTensors({ emb_params: ["F32", [2, 8]] }), /is a textual-inversion embedding/],
    ["diffusers' embedding", embedding, /is a textual-inversion embedding/],
    [
      "SDXL's embedding",
      zeroTensors({ clip_g: ["F16", [2, 8]], clip_l: ["F16", [2, 8]] }),
      /is a textual-inversion emb/,
    ],
    ["a whole checkpoint", zeroTensors({ "model.diffusion_model.out.2.bias": ["F16", [4]] }), /a whole checkpoint/],
    ["a ControlNet", zeroTensors({ "controlnet_cond_embedding.conv_in.bias": ["F16", [4]] }), /a ControlNet/],
    ["an autoencoder", zeroTensors({ "decoder.conv_in.bias": ["F16", [4]] }), /an autoencoder/],
    ["a text encoder", zeroTensors({ "text_model.final_layer_norm.bias": ["F16", [4]] }), /a text encoder/],
  ])("is named in the place of a LoRA and of a model: %s", async (_, content, said) => {
    const folder = await at({ "a.safetensors": content });
    for (const open of [openLora, openModelFile]) {
      expect(await refusal(open(join(folder, "a.safetensors")))).toMatch(said);
    }
  });
});
