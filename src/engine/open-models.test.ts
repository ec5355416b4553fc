import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { builtInModel, openModels } from "./open-models.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "daguerre-models-"));
  await symlink(builtInModel(), join(folder, "hills"));
  await symlink(builtInModel(), join(folder, "coast"));
  await mkdir(join(folder, "empty"));
  await writeFile(join(folder, "torn.safetensors"), "no tensors");
  await writeFile(join(folder, "notes.txt"), "not looked at");
  await writeFile(join(folder, ".hidden.safetensors"), "not looked at");
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const names = async (...of: Parameters<typeof openModels>) => (await openModels(...of)).map(({ name }) => name);

describe("a folder of models", () => {
  it("has a model in each folder and checkpoint file; the others are left out, and it is said why", async () => {
    const notes: string[] = [];
    expect(await names({ modelFolder: folder, onNote: (note) => notes.push(note) })).toEqual(["coast", "hills"]);
    expect(notes).toEqual([
      expect.stringMatching(/^the model "empty" is left out: .* is an empty folder/),
      expect.stringMatching(/^the model "torn" is left out: /),
    ]);
  });

  it("stands behind the model that is named besides, which is the default, and models with names", async () => {
    expect(await names({ model: builtInModel(), modelFolder: folder })).toEqual(["landscapes", "coast", "hills"]);
    const models = { hills: { model: builtInModel(), keepAlive: 5 } };
    const opened = await openModels({ models, modelFolder: folder, keepAlive: 60, preload: ["coast"] });
    expect(opened.map(({ name, keepAlive, preload }) => [name, keepAlive, preload])).toEqual([
      ["hills", 5, false],
      ["coast", 60, true],
    ]);
  });

  it("that is none, or holds none, is refused", async () => {
    const absent = join(folder, "absent");
    await expect(openModels({ modelFolder: absent })).rejects.toThrow("there is no folder of models");
    await expect(openModels({ modelFolder: join(folder, "empty") })).rejects.toThrow(
      "holds no model that can be opened",
    );
  });
});

it("a model that is named must be one, under a name of its own, and what is preloaded must be there", async () => {
  await expect(openModels({ models: { torn: { model: join(folder, "torn.safetensors") } } })).rejects.toThrow();
  const models = { landscapes: { model: builtInModel() } };
  await expect(openModels({ model: builtInModel(), models })).rejects.toThrow('two models are named "landscapes"');
  await expect(openModels({ models, preload: ["sdxl"] })).rejects.toMatchObject({ status: 404, field: "model" });
  expect(await names({})).toEqual(["landscapes"]);
});
