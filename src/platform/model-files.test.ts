import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { folderFiles } from "./folder-files.ts";
import { memoryFiles } from "./memory-files.ts";
import { FileError, fileAt, type ModelFiles, readFile, subfolder, textOf } from "./model-files.ts";

const CONTENTS = { "model_index.json": "{}", "unet/config.json": '{"a": 1}', "unet/deep/x.bin": "0123456789" };

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "daguerre-model-files-"));
  for (const [path, content] of Object.entries(CONTENTS)) {
    await mkdir(dirname(join(root, "model", path)), { recursive: true });
    await writeFile(join(root, "model", path), content);
  }
  await writeFile(join(root, "secret"), "x");
});
afterAll(() => rm(root, { recursive: true }));

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => expect.fail("should have been refused"),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(FileError);
  expect((error as Error).message).not.toContain(root);
  return (error as FileError).code;
}

describe.each<[string, () => ModelFiles]>([
  ["a folder on disk", () => folderFiles(join(root, "model"))],
  ["memory", () => memoryFiles(CONTENTS, "model")],
])("files in %s", (_, make) => {
  it("are listed folder by folder", async () => {
    const files = make();
    expect(files.name).toBe("model");
    expect(await files.list()).toEqual(["model_index.json", "unet"]);
    expect(await files.list("unet")).toEqual(["config.json", "deep"]);
    expect(await codeOf(files.list("vae"))).toBe("absent");
    const unet = subfolder(files, "unet");
    expect(unet.name).toBe("unet");
    expect(await unet.list()).toEqual(["config.json", "deep"]);
    expect(await unet.list("deep")).toEqual(["x.bin"]);
  });

  it("are read from any place on", async () => {
    const file = await subfolder(make(), "unet").open("deep/x.bin");
    expect(file.bytes).toBe(10);
    const three = new Uint8Array(3);
    expect(await file.read(three, 4)).toBe(3);
    expect(textOf(three)).toBe("456");
    expect(await file.read(three, 9)).toBe(1);
    expect(await file.read(three, 10)).toBe(0);
    await file.close();
  });

  it("are read whole up to a bound", async () => {
    const file = fileAt(make(), "unet/deep/x.bin");
    expect(textOf(await readFile(file, 10))).toBe("0123456789");
    expect(await codeOf(readFile(file, 9))).toBe("too-long");
  });

  it("are told apart from folders and from nothing", async () => {
    const files = make();
    expect(await codeOf(files.open("unet"))).toBe("irregular");
    expect(await codeOf(files.open("vae"))).toBe("absent");
    expect(await codeOf(files.open("model_index.json/x"))).toBe("absent");
  });

  it.each(["../secret", "unet/../../secret", "/etc/hostname", "", ".", "unet//config.json"])(
    "do not lead out: %j",
    async (path) => {
      expect(await codeOf(make().open(path))).toBe("absent");
    },
  );
});

it("text keeps a byte order mark", () => {
  expect(textOf(Uint8Array.of(0xef, 0xbb, 0xbf, 0x61))).toBe("\ufeffa");
});
