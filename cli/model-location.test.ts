/** A path that is no model: the same sentence from a command, from a configuration file and from the library, and at once. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRuntime } from "../src/engine/runtime.ts";
import { daguerre } from "../test/run-command.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "daguerre-location-"));
  await mkdir(path.join(folder, "empty"));
  await writeFile(path.join(folder, "sd15.ckpt"), Uint8Array.of(0x80, 2, 0x7d));
});
afterAll(() => rm(folder, { recursive: true }));

async function run(...args: readonly string[]) {
  const { output, ended } = daguerre(args, {}, folder);
  const code = await ended;
  return { ...output, code };
}

describe.each([
  [
    "a model's name on a hub",
    "stabilityai/sd-turbo",
    /^model "[^"]*stabilityai\/sd-turbo": there is no such folder, nor a model of that name in the hub's cache: run "daguerre pull stabilityai\/sd-turbo" first$/,
  ],
  [
    "an empty folder",
    "./empty",
    /^model "[^"]*empty": is an empty folder; a model is a folder in diffusers layout, with a model_index\.json, or a checkpoint in one file \(/,
  ],
  ["a pickle that is cut off", "./sd15.ckpt", /^sd15\.ckpt: is a pickle that has .* beyond its end$/],
])("%s", (_, given, sentence) => {
  it("on the command line", async () => {
    await expectSentence(["generate", "a lake", "-o", "out.png", "--model", given], sentence);
  });

  it("in a configuration file", async () => {
    const file = path.join(folder, "settings.json");
    await writeFile(file, JSON.stringify({ model: given, port: 0 }));
    await expectSentence(["serve", "--config", file], sentence);
  });

  it("in a program", async () => {
    const model = given.startsWith("./") ? path.join(folder, given) : given;
    await expect(createRuntime({ model })).rejects.toThrow(sentence);
  });
});

it.each(["serve --port 0", "bench", "tune", "profile"])("%s says it too", async (command) => {
  await expectSentence([...command.split(" "), "--model", "./empty"], /empty": is an empty folder; /);
});

async function expectSentence(args: readonly string[], sentence: RegExp): Promise<void> {
  const { stdout, stderr, code } = await run(...args);
  expect({ stdout, code }).toEqual({ stdout: "", code: 1 });
  expect(stderr).toMatch(/^daguerre: [^\n]+\n$/);
  expect(stderr.trim().slice("daguerre: ".length)).toMatch(sentence);
}

it("a folder of LoRAs that is none is an error of the start", async () => {
  const { stderr, code } = await run("serve", "--port", "0", "--lora-dir", "./none");
  expect({ stderr, code }).toEqual({
    stderr: expect.stringMatching(/^daguerre: --lora-dir: there is no folder ".*none"\n$/),
    code: 1,
  });
});
