import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { halves, torchFile } from "../../test/checkpoints/tensors.ts";
import { safetensorsBytes, zeroTensors } from "../../test/fixtures/safetensors-bytes.ts";
import { WeightsError } from "./errors.ts";
import { openWeights } from "./weight-files.ts";

let root: string;
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "daguerre-weights-"));
});
afterAll(() => rm(root, { recursive: true, force: true }));

type Files = Readonly<Record<string, Uint8Array | string | object>>;

/** A new folder with these files; objects are written as JSON. */
async function folderWith(files: Files): Promise<string> {
  const folder = join(root, `case-${count++}`);
  await mkdir(folder);
  for (const [name, content] of Object.entries(files)) {
    const raw = typeof content === "string" || content instanceof Uint8Array;
    await writeFile(join(folder, name), raw ? content : JSON.stringify(content));
  }
  return folder;
}

/** Names of the tensors in the weights of such a folder. */
async function tensorsIn(files: Files, variant?: string): Promise<string[]> {
  const set = await openWeights(await folderWith(files), { name: "unet", variant });
  const names = [...set.names()];
  await set.close();
  return names;
}

async function refusal(folder: string, variant?: string): Promise<WeightsError> {
  const error = await openWeights(folder, { name: "unet", variant }).catch((thrown: unknown) => thrown);
  if (!(error instanceof WeightsError)) throw new Error(`no WeightsError but ${error}`);
  expect(error.message).not.toContain(root);
  return error;
}

/** A file with one tensor, to be told apart by its name. */
const one = (name: string) => zeroTensors({ [name]: ["F16", [2]] });
const indexOf = (map: unknown) => ({ metadata: { total_size: 8 }, weight_map: map });

describe("which file", () => {
  const all: Files = {
    "config.json": {},
    "diffusion_pytorch_model.safetensors": one("diffusers"),
    "diffusion_pytorch_model.fp16.safetensors": one("diffusers fp16"),
    "model.safetensors": one("transformers"),
    "model.ema.safetensors": one("transformers ema"),
    "diffusion_pytorch_model.bin": "a pickle",
    "diffusion_pytorch_model.fp16.safetensors.bak": "an editor's",
  };

  it("is the wished variant, or the plain one, diffusers' name before transformers'", async () => {
    expect(await tensorsIn(all)).toEqual(["diffusers"]);
    expect(await tensorsIn(all, "fp16")).toEqual(["diffusers fp16"]);
    expect(await tensorsIn(all, "ema")).toEqual(["transformers ema"]);
  });

  it("is fp16 where there is no plain one and none was wished", async () => {
    expect(await tensorsIn({ "model.fp16.safetensors": one("a"), "model.bf16.safetensors": one("b") })).toEqual(["a"]);
  });

  it("is one file rather than shards", async () => {
    const files = { "model.safetensors.index.json": indexOf({ b: "b.safetensors" }), "b.safetensors": one("b") };
    expect(await tensorsIn(files)).toEqual(["b"]);
    expect(await tensorsIn({ ...files, "diffusion_pytorch_model.safetensors": one("a") })).toEqual(["a"]);
  });

  it("must be there in the wished variant", async () => {
    const error = await refusal(await folderWith(all), "bf16");
    expect(error.code).toBe("weights-variant");
    expect(error.message).toBe('unet: has no variant "bf16", only plain weights, "ema", "fp16"');
  });

  it.each<[string, Files]>([
    ["bf16", { "model.bf16.safetensors": one("a") }],
    ["non_ema", { "diffusion_pytorch_model.non_ema.safetensors": one("a") }],
    ["ema", { "model.safetensors.index.ema.json": indexOf({ a: "x.safetensors" }), "x.safetensors": one("a") }],
    [
      "bf16, in shards",
      { "model.bf16.safetensors.index.json": indexOf({ a: "x.safetensors" }), "x.safetensors": one("a") },
    ],
  ])("is the only variant that there is: %s", async (_, files) => {
    expect(await tensorsIn({ ...files, "pytorch_model.bin": "a pickle" })).toEqual(["a"]);
  });

  it("is for the user to choose if there are several and no plain one", async () => {
    const files = { "model.bf16.safetensors": one("a"), "model.non_ema.safetensors": one("b") };
    const error = await refusal(await folderWith(files));
    expect(error.code).toBe("weights-variant");
    expect(error.message).toBe(
      'unet: has no plain weights, only "bf16", "non_ema": choose one of them with --variant (setting and option: variant)',
    );
    expect(await tensorsIn(files, "non_ema")).toEqual(["b"]);
  });

  it("cannot be shards without an index", async () => {
    const error = await refusal(await folderWith({ "model-00001-of-00002.safetensors": one("a") }));
    expect(error.message).toBe('unet: holds shards ("model-00001-of-00002.safetensors"), and no index of them');
  });

  it("is a pickle only if there is nothing else, and one of tensors", async () => {
    const pickle = torchFile([halves("p", [2], [1, 2])]);
    expect(await tensorsIn({ "pytorch_model.bin": pickle })).toEqual(["p"]);
    const both = { "pytorch_model.bin": pickle, "model.safetensors": one("a") };
    expect(await tensorsIn(both)).toEqual(["a"]);
    const error = await refusal(await folderWith({ "pytorch_model.bin": "x", "model.ckpt": "x", "config.json": {} }));
    expect(error.code).toBe("weights-format");
    expect(error.message).toMatch(/^unet\/pytorch_model.bin: is none of the formats that are read/);
  });

  it("must be there", async () => {
    expect(await refusal(await folderWith({ "config.json": {} }))).toMatchObject({
      code: "weights-not-found",
      file: "unet",
    });
    expect(await refusal(join(root, "nowhere"))).toMatchObject({ code: "weights-not-found", file: "unet" });
  });

  it("may be a link, as in a hub's cache", async () => {
    const folder = await folderWith({});
    const blobs = await folderWith({ "0c1f": one("linked") });
    await symlink(join(blobs, "0c1f"), join(folder, "model.safetensors"));
    const set = await openWeights(folder, { name: "unet" });
    expect([...set.names()]).toEqual(["linked"]);
    await set.close();
  });
});

describe("shards", () => {
  const shards: Files = {
    "model-00001-of-00002.safetensors": zeroTensors({ a: ["F16", [2]], b: ["F32", [3]] }),
    "model-00002-of-00002.safetensors": zeroTensors({ c: ["F16", [2, 2]] }),
  };
  const map = {
    a: "model-00001-of-00002.safetensors",
    b: "model-00001-of-00002.safetensors",
    c: "model-00002-of-00002.safetensors",
  };

  it.each([
    ["model.safetensors.index.json", undefined],
    ["diffusion_pytorch_model.safetensors.index.json", undefined],
    ["diffusion_pytorch_model.safetensors.index.fp16.json", "fp16"],
    ["model.safetensors.index.fp16.json", "fp16"],
    ["model.fp16.safetensors.index.json", "fp16"],
    ["model.fp16.safetensors.index.json", undefined],
  ])("are one set by %s, variant %s", async (index, variant) => {
    const set = await openWeights(await folderWith({ ...shards, [index]: indexOf(map) }), { name: "unet", variant });
    expect([...set.names()].sort()).toEqual(["a", "b", "c"]);
    expect(set.source).toBe(`unet/${index}`);
    expect(set.totalBytes).toBe(4 + 12 + 8);
    expect(set.get("c")).toMatchObject({ shape: [2, 2], file: "unet/model-00002-of-00002.safetensors" });
    const bytes = new Uint8Array(8).fill(1);
    await set.get("c")!.read(bytes);
    expect(bytes).toEqual(new Uint8Array(8));
    await set.close();
    await expect(set.get("a")!.read(bytes.subarray(0, 4))).rejects.toMatchObject({ code: "weights-closed" });
  });

  it.each<[string, Files, string, string | undefined, RegExp]>([
    ["whose index is not JSON", { "model.safetensors.index.json": "{" }, "model-config", undefined, /not JSON/],
    ["without a map", { "model.safetensors.index.json": {} }, "weights-index", undefined, /weight_map/],
    [
      "with a map to numbers",
      { "model.safetensors.index.json": indexOf({ a: 1 }) },
      "weights-index",
      undefined,
      /weight_map/,
    ],
    [
      "of which one is missing",
      { "model.safetensors.index.json": indexOf({ ...map, d: "model-00003.safetensors" }) },
      "weights-not-found",
      undefined,
      /no such file/,
    ],
    [
      "that lack a tensor of the index",
      { "model.safetensors.index.json": indexOf({ ...map, d: map.c }) },
      "weights-index",
      "d",
      /is not in "model-00002-of-00002.safetensors"/,
    ],
    [
      "with a tensor that the index lacks",
      { "model.safetensors.index.json": indexOf({ a: map.a, c: map.c }) },
      "weights-index",
      "b",
      /the index does not name it/,
    ],
    [
      "with a tensor in another file than the index says",
      { "model.safetensors.index.json": indexOf({ ...map, b: map.c }) },
      "weights-index",
      "b",
      /the index has it in "model-00002/,
    ],
    [
      "of which one is cut short",
      {
        "model.safetensors.index.json": indexOf(map),
        "model-00002-of-00002.safetensors": safetensorsBytes(
          { c: { dtype: "F16", shape: [4], data_offsets: [0, 8] } },
          7,
        ),
      },
      "weights-truncated",
      "c",
      /the file has 7/,
    ],
  ])("%s are refused", async (_, files, code, tensor, reason) => {
    const error = await refusal(await folderWith({ ...shards, ...files }));
    expect({ code: error.code, tensor: error.tensor }).toEqual({ code, tensor });
    expect(error.message).toMatch(reason);
    expect(error.file).toMatch(/^unet\/model.*(\.safetensors|\.json)$/);
  });

  it.each([
    "../secret.safetensors",
    "sub/secret.safetensors",
    "/etc/secret.safetensors",
    "..\\secret.safetensors",
    "C:secret.safetensors",
    "secret\u0000.safetensors",
    "..",
    "",
    "secret.bin",
    "file:///secret.safetensors",
  ])("cannot lie in %j", async (path) => {
    const folder = await folderWith({ ...shards, "model.safetensors.index.json": indexOf({ ...map, c: path }) });
    // The file it aims at exists, so that only the check of the name can refuse it.
    await writeFile(join(root, "secret.safetensors"), one("c"));
    const error = await refusal(folder);
    expect(error).toMatchObject({ code: "weights-index", file: "unet/model.safetensors.index.json", tensor: "c" });
    expect(error.message).toContain("no name of a .safetensors file in the same folder");
  });

  it("cannot be thousands", async () => {
    const many = Object.fromEntries(Array.from({ length: 1025 }, (_, i) => [`t${i}`, `s${i}.safetensors`]));
    const error = await refusal(await folderWith({ "model.safetensors.index.json": indexOf(many) }));
    expect(error.message).toContain("names 1025 files, more than the 1024 allowed");
  });
});
