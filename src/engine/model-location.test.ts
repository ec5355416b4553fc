/** Paths that people give for a model, and the sentence that each gets. */
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { zeroTensors } from "../../test/fixtures/safetensors-bytes.ts";
import { WeightsError } from "../weights/errors.ts";
import { locateModel } from "./model-location.ts";

let root: string;
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "daguerre-location-"));
});
afterAll(() => rm(root, { recursive: true, force: true }));

type Files = Readonly<Record<string, string | Uint8Array>>;
const INDEX = { "model_index.json": "{}" };

/** A new folder with these files. */
async function folderWith(files: Files): Promise<string> {
  const folder = join(root, `case-${count++}`);
  await mkdir(folder);
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), content);
  }
  return folder;
}

async function refusal(given: string): Promise<string> {
  const error = await locateModel(given).then(
    () => expect.fail("should have been refused"),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(WeightsError);
  const { code, message } = error as WeightsError;
  expect(code).toBe("model-location");
  expect(message.split("\n")).toHaveLength(1);
  expect(message.startsWith(`model ${JSON.stringify(given)}: `), message).toBe(true);
  return message.slice(`model ${JSON.stringify(given)}: `.length);
}

const below = (prefix: string, files: Files): Files =>
  Object.fromEntries(Object.entries(files).map(([name, content]) => [`${prefix}/${name}`, content]));
const CACHED = "models--stabilityai--sd-turbo";

describe("a path that leads to a model", () => {
  it.each<[string, Files, string, string]>([
    ["its folder", INDEX, "", ""],
    ["its folder, with a slash", INDEX, "/", "/"],
    ["its index", INDEX, "/model_index.json", ""],
    [
      "a model in a hub's cache",
      below(`${CACHED}/snapshots/b261bac`, INDEX),
      `/${CACHED}`,
      `/${CACHED}/snapshots/b261bac`,
    ],
    [
      "its snapshots",
      below(`${CACHED}/snapshots/b261bac`, INDEX),
      `/${CACHED}/snapshots`,
      `/${CACHED}/snapshots/b261bac`,
    ],
    ["a cache of one model", below(`${CACHED}/snapshots/b261bac`, INDEX), "", `/${CACHED}/snapshots/b261bac`],
    [
      "the folder above a cache",
      below(`hub/${CACHED}/snapshots/b261bac`, INDEX),
      "",
      `/hub/${CACHED}/snapshots/b261bac`,
    ],
    [
      "a model in a cache with two snapshots, of which one is the current",
      {
        ...below(`${CACHED}/snapshots/a`, INDEX),
        ...below(`${CACHED}/snapshots/b`, { ...INDEX, current: "" }),
        [`${CACHED}/refs/main`]: "b",
      },
      `/${CACHED}`,
      `/${CACHED}/snapshots/b`,
    ],
  ])("is %s", async (_, files, given, expected) => {
    const folder = await folderWith({ ...files, ...(expected === "" ? { mark: "" } : {}) });
    if (expected !== "" && expected !== "/") await writeFile(join(folder + expected, "mark"), "");
    const found = await locateModel(folder + given);
    const names = "path" in found ? [] : await found.list();
    expect(names).toContain("model_index.json");
    if (expected !== "/") expect(names).toContain("mark");
  });
});

describe("a path that leads to a checkpoint in one file", () => {
  const tensors = zeroTensors({ "model.diffusion_model.out.2.bias": ["F16", [2]] });
  it.each<[string, Files, string, string]>([
    ["the file", { "sd15.safetensors": tensors }, "/sd15.safetensors", "sd15.safetensors"],
    ["a pickle", { "sd15.ckpt": Uint8Array.of(0x80, 2, 0x8a, 10) }, "/sd15.ckpt", "sd15.ckpt"],
    ["a GGUF file", { "sd15.gguf": "GGUF\x03\0\0\0" }, "/sd15.gguf", "sd15.gguf"],
    ["the only one of a folder", { "sd15.safetensors": tensors, "v1.yaml": "" }, "", "sd15.safetensors"],
    [
      "a snapshot of one file",
      { "refs/main": "a", ...below("snapshots/a", { "sd.safetensors": tensors }) },
      "/snapshots/a/sd.safetensors",
      "sd.safetensors",
    ],
    [
      "one beside the components of a model",
      { ...INDEX, "sd15-pruned.safetensors": tensors },
      "/sd15-pruned.safetensors",
      "sd15-pruned.safetensors",
    ],
  ])("%s", async (_, files, given, path) => {
    expect(await locateModel((await folderWith(files)) + given)).toMatchObject({ path });
  });
});

describe("a path that leads to no model says what it is and what to do", () => {
  const LAYOUT =
    "a model is a folder in diffusers layout, with a model_index.json, or a checkpoint in one file (.safetensors, .ckpt, .gguf)";
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 12\n`;

  it.each<[string, string, RegExp | string]>([
    [
      "a name on a hub",
      "stabilityai/sd-turbo",
      "there is no such folder, nor a model of that name in the hub's cache: " +
        'run "daguerre pull stabilityai/sd-turbo" first',
    ],
    [
      "a file of a model on a hub",
      "stabilityai/sd-turbo/x.safetensors@v2",
      "there is no such file, nor a model of that name in the hub's cache: " +
        'run "daguerre pull stabilityai/sd-turbo@v2 x.safetensors" first',
    ],
    [
      "an address",
      "https://models.example/x.safetensors",
      'nothing was downloaded from this address: run "daguerre pull https://models.example/x.safetensors" first',
    ],
    ["a home folder", "~/models/sdxl", /only a shell knows ~/],
    ["a missing folder", "./models/none", `there is no such folder; ${LAYOUT}`],
    ["a missing file", "sd15.safetensors", "there is no such file"],
    ["nothing", " ", `names nothing; ${LAYOUT}`],
  ])("%s", async (_, given, reason) => {
    const said = await refusal(given);
    if (typeof reason === "string") expect(said).toBe(reason);
    else expect(said).toMatch(reason);
  });

  it("a name on a hub in a configuration file", async () => {
    const folder = await folderWith({ "daguerre.config.json": "{}" });
    expect(await refusal(join(folder, "stabilityai/sd-turbo"))).toContain('run "daguerre pull stabilityai/sd-turbo"');
    expect(await refusal(join(folder, "models"))).toBe(`there is no such folder; ${LAYOUT}`);
  });

  it.each<[string, string, string | Uint8Array, RegExp]>([
    ["a zip archive", "model.zip", zip("sd-turbo/model_index.json"), /is a zip archive: unpack it first/],
    ["a pointer", "sd15.safetensors", pointer, /is a Git LFS pointer.*git lfs pull/],
    ["a web page", "sd15.safetensors", "<!DOCTYPE html><html>", /is a web page/],
    ["a text", "README.md", "# Stable Diffusion", /is a file of text; a model is a folder/],
    ["an empty file", "sd15.safetensors", "", /is an empty file/],
    ["an unfinished file", "sd15.safetensors", new Uint8Array(64), /begins with nothing but zeros/],
  ])("%s", async (_, name, content, reason) => {
    const folder = await folderWith({ [name]: content });
    expect(await refusal(join(folder, name))).toMatch(reason);
  });

  it.each<[string, Files, RegExp | string]>([
    ["an empty folder", {}, `is an empty folder; ${LAYOUT}`],
    ["a folder of other things", { "notes.txt": "" }, `has no model_index.json; ${LAYOUT}`],
    [
      "a folder of several files",
      { "sd15.safetensors": "", "sdxl.ckpt": "" },
      /has no model_index.json, and 2 files that may be models; name one: ".*\/sd15.safetensors", ".*\/sdxl.ckpt"$/,
    ],
    [
      "a folder of models",
      { ...below("a", INDEX), ...below("b", INDEX) },
      /^holds models in its folders; name one: ".*\/a", ".*\/b"$/,
    ],
    ["a folder with a model in it", below("sdxl", INDEX), /^holds a model in its folders; name it: ".*\/sdxl"$/],
    ["a component", { "config.json": '{"_class_name": "AutoencoderKL"}' }, /^holds one component \("AutoencoderKL"\)/],
    [
      "a component that transformers saved",
      { "config.json": '{"architectures": ["CLIPTextModel"]}' },
      /component \("CLIPTextModel"\)/,
    ],
    [
      "a cache of several models",
      { ...below("models--a--b/snapshots/1", INDEX), ...below("models--c--d/snapshots/1", INDEX) },
      /^is a hub's cache of 2 models; name one of them: ".*models--a--b", ".*models--c--d"$/,
    ],
    [
      "a cached model with several snapshots",
      { "refs/pr/1": "", ...below("snapshots/a", INDEX), ...below("snapshots/b", INDEX) },
      /^is a model in a hub's cache with 2 snapshots; name one of them: ".*\/snapshots\/a", ".*\/snapshots\/b"$/,
    ],
  ])("%s", async (_, files, reason) => {
    const said = await refusal(await folderWith(files));
    if (typeof reason === "string") expect(said).toBe(reason);
    else expect(said).toMatch(reason);
  });

  it("a file or a folder of a model", async () => {
    const folder = await folderWith({ ...INDEX, "unet/config.json": "{}", "daguerre.json": "{}" });
    for (const part of ["unet/config.json", "daguerre.json"]) {
      expect(await refusal(join(folder, part))).toBe(
        `is one file of the model in ${JSON.stringify(folder)}: name that folder`,
      );
    }
    expect(await refusal(join(folder, "unet"))).toMatch(/^is one component of the model in .*: name that folder$/);
  });

  it("a device, and a link to nothing", async () => {
    expect(await refusal("/dev/null")).toBe(`is neither a folder nor a file; ${LAYOUT}`);
    await symlink(join(root, "nowhere"), join(root, "link"));
    expect(await refusal(join(root, "link"))).toContain("there is no such folder");
  });

  it("shows no character that acts on a terminal", async () => {
    const error = await locateModel("a\u001b[31m\u202eb").catch((thrown: Error) => thrown);
    expect((error as Error).message).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  });
});

/** The beginning of a zip archive whose first entry has this name. */
function zip(name: string): Uint8Array {
  const header = Buffer.alloc(30);
  header.write("PK\x03\x04", "latin1");
  header.writeUInt16LE(name.length, 26);
  return Buffer.concat([header, Buffer.from(name), Buffer.alloc(32, 1)]);
}
