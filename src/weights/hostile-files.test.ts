/** Files of tensors from strangers who mean harm, in each format that a model may have, and the sentence that each gets. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  code,
  gguf,
  halves,
  oldTorchFile,
  pickledTensor,
  statePickle,
  type Tensor,
  zip,
} from "../../test/checkpoints/tensors.ts";
import { safetensorsBytes } from "../../test/fixtures/safetensors-bytes.ts";
import { openTensorFile } from "./tensor-file.ts";

let root: string;
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "daguerre-hostile-"));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const one = [halves("a", [2, 2], [1, 2, 3, 4])];
const data = new Uint8Array(8);
const archive = (pickle: Uint8Array, more: Readonly<Record<string, Uint8Array>> = { "x/data/0": data }) =>
  zip({ "x/data.pkl": pickle, ...more });
const program = (...parts: Uint8Array[]) => archive(Buffer.concat([code.proto, ...parts, code.stop]));
const tensor = (shape: readonly number[], more: Parameters<typeof pickledTensor>[2] = {}) =>
  program(code.dict(code.text("a"), pickledTensor({ type: "F16", shape }, "0", more)));
const op = (...bytes: (number | string)[]) =>
  Buffer.concat(bytes.map((byte) => (typeof byte === "string" ? Buffer.from(byte, "latin1") : Buffer.of(byte))));
const call = (module: string, name: string, argument: string) =>
  program(code.global(module, name), code.tuple(code.text(argument)), code.reduce);
const entry = (change: object) => gguf(one, { entry: (own) => ({ ...own, ...change }) });
const header = (tensors: object, bytes = 8) => safetensorsBytes(tensors, bytes);
const f16 = (shape: readonly unknown[], offsets: readonly number[]) => ({ dtype: "F16", shape, data_offsets: offsets });

const RUNS = /which is no part of a tensor: it is not read, since it may run a program$/;

const PICKLES: readonly (readonly [string, Uint8Array, RegExp])[] = [
  ["runs a command", call("os", "system", "rm -rf ~"), RUNS],
  ["runs a command by another name", call("posix", "system", "id"), RUNS],
  ["evaluates a text", call("builtins", "eval", "1"), RUNS],
  ["imports by getattr", call("__builtin__", "getattr", "x"), RUNS],
  ["starts a process", call("subprocess", "Popen", "id"), RUNS],
  ["runs code of torch", call("torch.hub", "load", "x"), RUNS],
  ["loads a nested pickle", call("torch", "load", "x"), RUNS],
  ["loads a storage from elsewhere", call("torch.storage", "_load_from_bytes", "x"), RUNS],
  ["names a constructor of objects", call("constructor", "constructor", "x"), RUNS],
  ["names a prototype", call("torch", "__proto__", "x"), RUNS],
  ["names by the stack", program(code.text("os"), code.text("system"), op(0x93)), RUNS],
  ["names with a path", call("../../os", "system", "x"), /names "\.\.\/\.\.\/os\.system"/],
  ["makes an object", program(op("(ios\nsystem\n")), /uses the instruction INST, which no file of tensors needs/],
  ["makes an object of the stack", program(op("(", "cos\nsystem\n", "o")), RUNS],
  [
    "makes an object anew",
    program(code.global("torch", "HalfStorage"), code.tuple(), op(0x81)),
    /makes an object of a class/,
  ],
  ["uses an extension", program(op(0x82, 1)), /uses the instruction EXT1/],
  ["refers by a line", program(op("Pstorage\n")), /uses the instruction PERSID/],
  ["uses no instruction", program(op(0xff)), /uses the instruction 255/],
  ["calls a text", program(code.text("x"), code.tuple(), code.reduce), /calls a thing that is no tensor's/],
  [
    "calls a storage",
    program(code.global("torch", "HalfStorage"), code.tuple(), code.reduce),
    /calls a thing that is no/,
  ],
  ["takes from an empty stack", program(op("0")), /takes a value where there is none/],
  ["ends what was not begun", program(op("t")), /ends a list that was not begun/],
  ["recalls what it has not stored", program(op("h", 9)), /recalls value 9, which it has not stored/],
  ["claims a text of 4 GiB", program(op("X", 0xff, 0xff, 0xff, 0xff)), /has 4294967295 bytes at \d+, beyond its end/],
  ["claims a text of 2^63 bytes", program(op(0x8d, 0, 0, 0, 0, 0, 0, 0, 0x80)), /bytes at \d+, beyond its end/],
  ["claims a number of 255 bytes", program(op(0x8a, 0xff)), /has a number of 255 bytes/],
  ["has no end", archive(op(0x80, 2)), /has 1 bytes at 2, beyond its end/],
  ["is of protocol 9", archive(op(0x80, 9, "N.")), /of a protocol that is not known/],
  [
    "sets entries of a number",
    program(code.int(1), code.text("a"), code.int(2), op("s")),
    /sets entries of no dictionary/,
  ],
  ["appends to a text", program(code.text("x"), code.int(2), op("a")), /appends to no list/],
  ["has no tensors", program(code.dict(code.text("a"), code.int(1))), /is a pickle without tensors/],
  ["is a number", program(code.int(1)), /is a pickle without tensors/],
  ["has a tensor of negative size", tensor([-1, 2], { count: 4 }), /with a shape that is no shape/],
  [
    "has a tensor larger than its storage",
    tensor([1000, 1000], { count: 4 }),
    /takes 1000000 numbers from 0 on of a storage of 4$/,
  ],
  ["repeats a number a billion times", tensor([32_768, 32_768], { count: 1, strides: [0, 0] }), /of a storage of 1$/],
  ["begins beyond its storage", tensor([2, 2], { offset: 3 }), /takes 4 numbers from 3 on of a storage of 4/],
  ["strides beyond its storage", tensor([2, 2], { strides: [100, 1] }), /takes 4 numbers from 0 on/],
  [
    "has a storage that is not there",
    archive(statePickle(one), {}),
    /lies in storage "0", which the file does not have/,
  ],
  [
    "has a storage that is shorter than it claims",
    archive(statePickle(one), { "x/data/0": new Uint8Array(2) }),
    /of a storage of 1$/,
  ],
  [
    "names a storage with ..",
    program(code.dict(code.text("a"), pickledTensor({ type: "F16", shape: [1] }, "../../secret"))),
    /lies in storage "\.\.\/\.\.\/secret", which/,
  ],
];

const ZIPS: readonly (readonly [string, Uint8Array, RegExp])[] = [
  [
    "is compressed: a bomb",
    zip({ "x/data.pkl": statePickle(one) }, { method: 8 }),
    /is compressed, which PyTorch never does/,
  ],
  ["is encrypted", zip({ "x/data.pkl": statePickle(one) }, { flags: 1 }), /is encrypted$/],
  [
    "claims entries beyond its directory",
    zip({ "x/data.pkl": data }, { entries: 60_000 }),
    /directory ends after 1 of 60000 entries/,
  ],
  ["claims an entry of 4 GiB", zip({ "x/data.pkl": data }, { bytes: 0xfffffff0 }), /ends beyond the archive/],
  ["has no end", zip({ "x/data.pkl": data }).subarray(0, 60), /is a zip archive without an end/],
  ["has another archive's pickle", zip({ "a/b/data.pkl": data }), /is a zip archive: unpack it first/],
  ["has numbers in another order", archive(statePickle(one), { "x/byteorder": Buffer.from("big") }), /big-endian/],
];

const GGUF: readonly (readonly [string, Uint8Array, RegExp])[] = [
  ["claims 2^32 tensors", gguf(one, { tensors: 2 ** 32 }), /claims 4294967296 tensors, more than the 100000 allowed/],
  ["claims 2^40 key-values", gguf(one, { keys: 2 ** 40 }), /claims 1099511627776 key-values/],
  ["claims more tensors than it has", gguf(one, { tensors: 9 }), /has \d+ dimensions, more than 4|within its header/],
  ["is of version 9", gguf(one, { version: 9 }), /is GGUF of version 9; versions 2 and 3 are read/],
  ["is big-endian", gguf(one, { version: 0x03000000 }), /is GGUF of version 50331648/],
  ["has a name of 4 KiB", entry({ name: "n".repeat(4096) }), /a tensor's name of 4096 bytes, more than the 1024/],
  ["has nine dimensions", entry({ shape: Array(9).fill(1) }), /has 9 dimensions, more than 4/],
  ["has a shape that overflows", entry({ shape: [2 ** 40, 2 ** 40] }), /the product of the shape overflows/],
  [
    "has a tensor beyond the file",
    entry({ shape: [2 ** 20] }),
    /lies at bytes 0 to 2097152 of the data, and the file has/,
  ],
  ["has a type of tomorrow", entry({ type: 99 }), /is of ggml's type 99, which is not supported/],
  ["has half a block", entry({ type: 2, shape: [4] }), /has rows of 4 weights, no whole number of blocks/],
  ["has a tensor between two places", entry({ offset: 4 }), /begins at byte 4, no multiple of 32/],
  [
    "has overlapping tensors",
    gguf([...one, ...one], { entry: (own, i) => ({ ...own, name: `t${i}`, offset: 0 }) }),
    /overlaps the tensor before it, at byte 0/,
  ],
  ["has a name twice", gguf([...one, ...one]), /the name "a" occurs twice/],
];

const SAFETENSORS: readonly (readonly [string, Uint8Array, RegExp])[] = [
  [
    "claims a header of 200 MB",
    safetensorsBytes({}, 0, { headerLength: 200_000_000 }),
    /claims a header of 200000000 bytes, more than/,
  ],
  [
    "claims a header of 2^64 bytes",
    safetensorsBytes({}, 0, { headerLength: 2n ** 64n - 1n }),
    /claims a header of 18446744073709551615/,
  ],
  ["has overlapping tensors", header({ a: f16([2], [0, 4]), b: f16([2], [2, 6]) }), /overlaps the tensor before it/],
  ["has a negative size", header({ a: f16([-4], [0, 8]) }), /a dimension is not a whole number/],
  ["has a tensor beyond the file", header({ a: f16([400], [0, 800]) }), /and the file has 8/],
  ["has a name that acts on a terminal", header({ "\u001b[2J": f16([9], [0, 8]) }), /^[^\p{Cc}]*$/u],
];

async function refusal(content: Uint8Array): Promise<string> {
  const path = join(root, `${count++}.file`);
  await writeFile(path, content);
  const error = await openTensorFile(path).then(
    async (file) => {
      await file.close();
      return expect.fail("should have been refused");
    },
    (thrown: unknown) => thrown as Error,
  );
  expect(error.name).toBe("WeightsError");
  expect(error.message).not.toContain(root);
  expect(error.message.split("\n")).toHaveLength(1);
  return error.message;
}

describe.each([
  ["a pickle that", PICKLES],
  ["an archive that", ZIPS],
  ["a GGUF file that", GGUF],
  ["a safetensors file that", SAFETENSORS],
])("%s", (_, cases) => {
  it.each(cases)("%s", async (_name, content, said) => {
    expect(await refusal(content)).toMatch(said);
  });
});

it("an old file that is cut within its storages", async () => {
  const whole = oldTorchFile(one);
  expect(await refusal(whole.subarray(0, whole.length - 1))).toMatch(/ends within storage "0"/);
});

describe("a sound file", () => {
  const numbers = async (content: Uint8Array, name = "a") => {
    const path = join(root, `${count++}.pt`);
    await writeFile(path, content);
    const file = await openTensorFile(path);
    const found = file.get(name)!;
    const bytes = new Uint8Array(found.byteLength);
    await found.read(bytes);
    await file.close();
    return { shape: found.shape, dtype: found.dtype, bits: [...new Uint16Array(bytes.buffer)] };
  };
  const bits = (tensors: readonly Tensor[]) => [...new Uint16Array(tensors[0]!.bytes.buffer)];

  it("whose tensor lies transposed in its storage", async () => {
    const [a, b, c, d] = bits(one);
    const pickle = Buffer.concat([
      code.proto,
      code.dict(code.text("a"), pickledTensor({ type: "F16", shape: [2, 2] }, "0", { strides: [1, 2] })),
      code.stop,
    ]);
    const content = archive(pickle, { "x/data/0": one[0]!.bytes });
    expect(await numbers(content)).toMatchObject({ shape: [2, 2], bits: [a, c, b, d] });
  });

  it("with what trainers leave beside the tensors, which makes nothing", async () => {
    const callbacks = code.dict(
      code.global("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
      code.dict(
        code.text("best"),
        Buffer.concat([code.global("numpy.core.multiarray", "scalar"), code.tuple(code.int(1)), code.reduce]),
      ),
    );
    const state = code.dict(code.text("a"), pickledTensor({ type: "F16", shape: [2, 2] }, "0"));
    const pickle = [
      code.proto,
      code.dict(code.text("callbacks"), callbacks, code.text("state_dict"), state),
      code.stop,
    ];
    const content = archive(Buffer.concat(pickle), { "x/data/0": one[0]!.bytes });
    expect((await numbers(content)).bits).toEqual(bits(one));
  });

  it.each([
    // Exponent 15 of E4M3 is a number; the largest is 448, the least 2^-9.
    ["F8_E4M3", [0x00, 0x80, 0x38, 0xc0, 0x7e, 0x01], [0, -0, 1, -2, 448, 2 ** -9]],
    ["F8_E5M2", [0x00, 0x80, 0x3c, 0xc0, 0x7b, 0x01], [0, -0, 1, -2, 57_344, 2 ** -16]],
  ] as const)("in %s, as F16 without loss", async (type, bytes, values) => {
    const content = safetensorsBytes({ a: { dtype: type, shape: [6], data_offsets: [0, 6] } }, Uint8Array.from(bytes));
    const expected = halves("a", [6], values);
    expect(await numbers(content)).toEqual({ shape: [6], dtype: "F16", bits: bits([expected]) });
  });
});
