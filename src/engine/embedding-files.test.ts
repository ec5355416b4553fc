/** Files of textual inversion in the forms that programs save them in. The same vectors come from all. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { code, halves, pickledTensor, safetensors, type Tensor, zip } from "../../test/checkpoints/tensors.ts";
import { EmbeddingFolder, readEmbedding } from "./embedding-files.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "daguerre-embedding-files-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const WIDTH = 8;
const VALUES = Array.from({ length: 2 * WIDTH }, (_, at) => at / 16 - 0.5);
const tensor = (name: string): Tensor => halves(name, [2, WIDTH], VALUES);
const rows = [VALUES.slice(0, WIDTH), VALUES.slice(WIDTH)];

function archive(pickle: Uint8Array, ...tensors: readonly Tensor[]): Buffer {
  return zip({
    "archive/data.pkl": Buffer.concat([code.proto, pickle, code.stop]),
    ...Object.fromEntries(tensors.map(({ bytes }, index) => [`archive/data/${index}`, bytes])),
    "archive/version": Buffer.from("3\n"),
  });
}

/** A tensor behind `torch._utils._rebuild_parameter(tensor, True, OrderedDict())`. */
function parameter(of: Tensor, key: string): Buffer {
  const hooks = Buffer.concat([code.global("collections", "OrderedDict"), code.tuple(), code.reduce]);
  return Buffer.concat([
    code.global("torch._utils", "_rebuild_parameter"),
    code.tuple(pickledTensor(of, key), code.no, hooks),
    code.reduce,
  ]);
}

/** `torch.nn.ParameterDict` as PyTorch 1.11 pickles it: an object of the class, and its state. */
function parameterDictionary(...entries: Uint8Array[]): Buffer {
  const state = code.dict(code.text("training"), code.no, code.text("_parameters"), code.dict(...entries));
  const made = [code.global("torch.nn.modules.container", "ParameterDict"), code.tuple(), Buffer.of(0x81)];
  return Buffer.concat([...made, state, Buffer.from("b")]);
}

const word: Tensor = { name: "*", type: "I64", shape: [], bytes: new Uint8Array(BigInt64Array.of(265n).buffer) };

/** Files, and the name that prompts have for each. */
const FILES: Readonly<Record<string, readonly [bytes: () => Uint8Array, name: string]>> = {
  "fox.safetensors": [() => safetensors([tensor("<fox>")]), "<fox>"],
  "learned_embeds.bin": [
    () => archive(code.dict(code.text("<fox>"), pickledTensor(tensor("x"), "0")), tensor("x")),
    "<fox>",
  ],
  "webui.pt": [
    () =>
      archive(
        code.dict(
          ...[code.text("string_to_token"), code.dict(code.text("*"), code.int(265))],
          ...[code.text("string_to_param"), code.dict(code.text("*"), parameter(tensor("*"), "0"))],
          ...[code.text("name"), code.text("other"), code.text("step"), code.int(500)],
        ),
        tensor("*"),
      ),
    "webui",
  ],
  "first.pt": [
    () =>
      archive(
        code.dict(
          ...[code.text("string_to_token"), code.dict(code.text("*"), pickledTensor(word, "1"))],
          ...[code.text("string_to_param"), parameterDictionary(code.text("*"), parameter(tensor("*"), "0"))],
        ),
        tensor("*"),
        word,
      ),
    "first",
  ],
};

async function written(file: string, bytes: Uint8Array): Promise<string> {
  const path = join(folder, file);
  await writeFile(path, bytes);
  return path;
}

describe("readEmbedding", () => {
  it.each(Object.entries(FILES))("%s", async (file, [bytes, name]) => {
    const embedding = await readEmbedding(await written(file, bytes()), file);
    expect(embedding.name).toBe(name);
    expect([...embedding.vectors.keys()]).toEqual([WIDTH]);
    expect(embedding.vectors.get(WIDTH)!.map((vector) => [...vector])).toEqual(rows);
  });

  it("reads SDXL's two encoders from a pickle too", async () => {
    const [l, g] = [tensor("clip_l"), halves("clip_g", [2, 12], Array(24).fill(0.25))];
    const pickle = code.dict(...[l, g].flatMap((one, at) => [code.text(one.name), pickledTensor(one, String(at))]));
    const { vectors } = await readEmbedding(await written("both.pt", archive(pickle, l, g)), "both.pt");
    expect([...vectors.keys()].sort()).toEqual([12, WIDTH].sort());
  });

  it.each<[string, () => Uint8Array, string, RegExp]>([
    [
      "a pickle with code",
      () => archive(Buffer.concat([code.global("posix", "system"), code.tuple(code.text("id")), code.reduce])),
      "weights-pickle",
      /names "posix.system", which is no part of a tensor/,
    ],
    [
      "a dictionary of parameters that is called",
      () =>
        archive(Buffer.concat([code.global("torch.nn.modules.container", "ParameterDict"), code.tuple(), code.reduce])),
      "weights-pickle",
      /calls a thing that is no tensor's/,
    ],
    [
      "a pickle without tensors",
      () => archive(code.dict(code.text("a"), code.int(1))),
      "weights-pickle",
      /without tensors/,
    ],
    ["a file of many megabytes", () => new Uint8Array(17 * 2 ** 20), "weights-shape", /has 17825792 bytes/],
  ])("refuses %s", async (_, bytes, errorCode, reason) => {
    const path = await written("bad.pt", bytes());
    await expect(readEmbedding(path, "bad.pt")).rejects.toMatchObject({
      code: errorCode,
      message: expect.stringMatching(reason),
    });
  });
});

describe("EmbeddingFolder", () => {
  it("offers pickles by the name of the file and by their token, after safetensors of the same name", async () => {
    for (const [file, [bytes]] of Object.entries(FILES)) await written(file, bytes());
    await written("webui.safetensors", safetensors([halves("emb_params", [1, WIDTH], rows[0]!)]));
    const embeddings = new EmbeddingFolder(folder);
    expect(await embeddings.names()).toEqual(
      expect.arrayContaining(["<fox>", "fox", "learned_embeds", "webui", "first"]),
    );
    const found = await embeddings.in(["embedding:webui embedding:first"], "plain");
    expect(found.map(({ name, vectors }) => [name, vectors.get(WIDTH)!.length])).toEqual([
      ["first", 2],
      ["webui", 1],
    ]);
  });
});
