import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { zeroTensors } from "../../test/fixtures/safetensors-bytes.ts";
import { loraFiles } from "../engine/lora-files.ts";
import { latentRgbOf } from "../families/latent-rgb.ts";
import { folderFiles } from "../platform/folder-files.ts";
import { readClipTokenizerFiles } from "../text/tokenizer-files.ts";
import { WeightsError } from "./errors.ts";
import { readJson, readOptionalJson } from "./json-file.ts";
import { openLora } from "./lora.ts";
import { openComponentFolder, openModelDirectory } from "./model-directory.ts";
import { readRegularFile } from "./regular-file.ts";
import { openSafetensors } from "./safetensors.ts";
import { openWeights } from "./weight-files.ts";

let root: string;
let server: Server;
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "daguerre-files-"));
});
afterAll(async () => {
  server?.close();
  await rm(root, { recursive: true, force: true });
});

/** Things that may stand in a file's place, and how each is made. */
const KINDS: Record<string, (path: string) => Promise<unknown>> = {
  "a pipe": async (path) => execFileSync("mkfifo", [path]),
  "a link to a pipe": async (path) => {
    execFileSync("mkfifo", [`${path}.pipe`]);
    await symlink(`${path}.pipe`, path);
  },
  "a socket": (path) =>
    new Promise<void>((resolve) => {
      server?.close();
      server = createServer().listen(path, resolve);
    }),
  "a folder": (path) => mkdir(path),
  "a link to /dev/zero": (path) => symlink("/dev/zero", path),
  "a link to /dev/tty": (path) => symlink("/dev/tty", path),
  "a terabyte of nothing": async (path) => {
    await writeFile(path, "");
    await truncate(path, 2 ** 40);
  },
};

const SHARDED = JSON.stringify({ weight_map: { a: "shard.safetensors" } });
const INDEX = JSON.stringify({
  _class_name: "StableDiffusionPipeline",
  unet: ["diffusers", "UNet2DConditionModel"],
});

/** Every reader of a folder's files: the file it reads, what else must be there, and the call. */
const READERS: Record<
  string,
  { file: string; others?: Record<string, string | Uint8Array>; read: (folder: string) => Promise<unknown> }
> = {
  readJson: { file: "config.json", read: (folder) => readJson(join(folder, "config.json"), "config.json") },
  readOptionalJson: {
    file: "daguerre.json",
    read: (folder) => readOptionalJson(join(folder, "daguerre.json"), "daguerre.json"),
  },
  openModelDirectory: { file: "model_index.json", read: openModelDirectory },
  "openModelDirectory's components": {
    file: "unet/config.json",
    others: { "model_index.json": INDEX, "unet/x": "" },
    read: openModelDirectory,
  },
  openComponentFolder: { file: "config.json", read: openComponentFolder },
  openSafetensors: { file: "a.safetensors", read: (folder) => openSafetensors(join(folder, "a.safetensors")) },
  openLora: { file: "a.safetensors", read: (folder) => openLora(join(folder, "a.safetensors")) },
  openWeights: { file: "model.safetensors", read: (folder) => openWeights(folder, { name: "unet" }) },
  "openWeights' index": {
    file: "model.safetensors.index.json",
    read: (folder) => openWeights(folder, { name: "unet" }),
  },
  "openWeights' shards": {
    file: "shard.safetensors",
    others: { "model.safetensors.index.json": SHARDED },
    read: (folder) => openWeights(folder, { name: "unet" }),
  },
  latentRgbOf: { file: "latent_rgb.json", read: (folder) => latentRgbOf(folderFiles(folder), 4, undefined) },
  ...Object.fromEntries(
    ["vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"].map((file) => [
      `readClipTokenizerFiles ${file}`,
      { file, read: readClipTokenizerFiles },
    ]),
  ),
};

async function folderWith(files: Record<string, string | Uint8Array>): Promise<string> {
  const folder = join(root, `${count++}`);
  await mkdir(folder);
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await writeFile(join(folder, name), content);
  }
  return folder;
}

describe.each(Object.entries(READERS))("%s", (_, { file, others = {}, read }) => {
  test.each(Object.entries(KINDS))("refuses %s", { timeout: 5_000 }, async (_, make) => {
    const folder = await folderWith(others);
    await make(join(folder, file));
    const error = await read(folder).then(
      () => expect.fail("should have been refused"),
      (thrown: unknown) => thrown as Error & { file?: string },
    );
    expect(["WeightsError", "TokenizerError"]).toContain(error.name);
    expect(error.file).toContain(file.split("/").at(-1));
    expect(error.message).toMatch(/not a regular file|is 1099511627776 bytes long|begins with nothing but zeros/);
    expect(error.message).not.toContain(root);
  });
});

describe("loraFiles", () => {
  const ask = (folder: string) => loraFiles([{ name: "style", scale: 1 }], folder);

  test.each(Object.entries(KINDS).filter(([kind]) => kind !== "a terabyte of nothing"))(
    "refuses %s",
    async (_, make) => {
      const folder = await folderWith({});
      await make(join(folder, "style.safetensors"));
      await expect(ask(folder)).rejects.toMatchObject({
        name: "RequestError",
        message: expect.stringMatching(/^loras\.0\.name: "style" is not a LoRA of this server/),
      });
    },
  );

  test("takes a file, a link to a file, and says what is not there", async () => {
    const folder = await folderWith({ "style.safetensors": "x" });
    expect(await ask(folder)).toEqual([{ path: join(folder, "style.safetensors"), scale: 1 }]);
    const linked = await folderWith({ blob: "x" });
    await symlink("blob", join(linked, "style.safetensors"));
    expect(await ask(linked)).toHaveLength(1);
    await expect(ask(await folderWith({}))).rejects.toThrow(/"style" is not a LoRA of this server/);
  });
});

test("links to regular files are followed, as hub snapshots are made of them", async () => {
  const folder = await folderWith({
    "blobs/config": '{"a": 1}',
    "blobs/weights": zeroTensors({ w: ["F32", [2]] }),
    "snapshot/x": "",
  });
  await symlink("../blobs/config", join(folder, "snapshot/config.json"));
  await symlink("../blobs/weights", join(folder, "snapshot/model.safetensors"));
  expect(await readJson(join(folder, "snapshot/config.json"), "config.json")).toEqual({ a: 1 });
  const weights = await openWeights(join(folder, "snapshot"), { name: "unet" });
  expect([...weights.names()]).toEqual(["w"]);
  await weights.close();
});

test.skipIf(process.platform !== "linux")(
  "a file that says it is empty and is not, as those of /proc, is taken at its word",
  async () => {
    expect(await readRegularFile("/proc/self/status", "status", 100)).toHaveLength(0);
  },
);

test("a file of the bound's length is read, one more byte is not", async () => {
  const folder = await folderWith({ fits: "x".repeat(10), not: "x".repeat(11) });
  expect(await readRegularFile(join(folder, "fits"), "fits", 10)).toHaveLength(10);
  const error = await readRegularFile(join(folder, "not"), "not", 10).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(WeightsError);
  expect((error as WeightsError).message).toBe("not: is 11 bytes long, more than the 10 allowed");
});
