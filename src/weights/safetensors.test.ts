import { mkdtemp, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { safetensorsBytes, zeroTensors } from "../../test/fixtures/safetensors-bytes.ts";
import { type TensorToWrite, writeSafetensors } from "../../test/fixtures/safetensors-writer.ts";
import { WeightsError } from "./errors.ts";
import { openSafetensors } from "./safetensors.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "daguerre-safetensors-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The error of opening these bytes as a file. */
async function refusal(bytes: Uint8Array): Promise<WeightsError> {
  const path = join(folder, "hostile.safetensors");
  await writeFile(path, bytes);
  const error = await openSafetensors(path).then(
    async (file) => {
      await file.close();
      return undefined;
    },
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof WeightsError)) throw new Error(`no WeightsError but ${error}`);
  expect(error.file).toBe("hostile.safetensors");
  expect(error.message.startsWith("hostile.safetensors: ")).toBe(true);
  expect(error.message).not.toContain(folder);
  return error;
}

const f32 = (shape: unknown, offsets: unknown) => ({ dtype: "F32", shape, data_offsets: offsets });

describe("a hostile file", () => {
  it.each<[string, Uint8Array, string, string | undefined, RegExp]>([
    ["is empty", new Uint8Array(0), "weights-truncated", undefined, /0 bytes long/],
    ["ends in the length", new Uint8Array(7), "weights-truncated", undefined, /7 bytes long/],
    [
      "has a header longer than the file",
      safetensorsBytes("{}", 4, { headerLength: 1000 }),
      "weights-truncated",
      undefined,
      /claims a header of 1000 bytes, and is 14 bytes long/,
    ],
    [
      "claims a header over 100 MB",
      safetensorsBytes("{}", 0, { headerLength: 100_000_001 }),
      "weights-header",
      undefined,
      /100000001 bytes, more than the 100000000 allowed/,
    ],
    [
      "claims a header of 2^64 - 1",
      safetensorsBytes("{}", 0, { headerLength: 2n ** 64n - 1n }),
      "weights-header",
      undefined,
      /18446744073709551615/,
    ],
    [
      "has a header that is not UTF-8",
      safetensorsBytes(Uint8Array.of(0x7b, 0xff, 0x7d)),
      "weights-header",
      undefined,
      /UTF-8/,
    ],
    ["has a header that is not JSON", safetensorsBytes("{]"), "weights-header", undefined, /not JSON/],
    ["has an unfinished string", safetensorsBytes('{"a'), "weights-header", undefined, /not JSON/],
    ["is an array", safetensorsBytes("[]"), "weights-header", undefined, /not a JSON object/],
    ["is a number", safetensorsBytes("17"), "weights-header", undefined, /not a JSON object/],
    ["is null", safetensorsBytes("null"), "weights-header", undefined, /not a JSON object/],
    [
      "has metadata that is not text",
      safetensorsBytes({ __metadata__: { epoch: 3 } }),
      "weights-header",
      undefined,
      /__metadata__/,
    ],
    ["has a tensor that is no object", safetensorsBytes({ a: 3 }), "weights-header", "a", /not an object/],
    [
      "has a tensor without dtype",
      safetensorsBytes({ a: { shape: [], data_offsets: [0, 4] } }, 4),
      "weights-header",
      "a",
      /dtype/,
    ],
    [
      "has an unknown dtype",
      safetensorsBytes({ a: { dtype: "F31", shape: [1], data_offsets: [0, 4] } }, 4),
      "weights-dtype",
      "a",
      /unknown dtype "F31"/,
    ],
    [
      "has a dtype out of Object.prototype",
      safetensorsBytes({ a: { dtype: "constructor", shape: [1], data_offsets: [0, 4] } }, 4),
      "weights-dtype",
      "a",
      /unknown dtype/,
    ],
    [
      "has a tensor without shape",
      safetensorsBytes({ a: { dtype: "F32", data_offsets: [0, 4] } }, 4),
      "weights-header",
      "a",
      /shape/,
    ],
    ["has a negative dimension", safetensorsBytes({ a: f32([-1], [0, 4]) }, 4), "weights-shape", "a", /whole number/],
    ["has half a dimension", safetensorsBytes({ a: f32([0.5], [0, 2]) }, 2), "weights-shape", "a", /whole number/],
    [
      "has an infinite dimension",
      safetensorsBytes('{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}', 4),
      "weights-shape",
      "a",
      /whole number/,
    ],
    ["has text for a dimension", safetensorsBytes({ a: f32(["1"], [0, 4]) }, 4), "weights-shape", "a", /whole number/],
    [
      "has a shape whose product overflows",
      safetensorsBytes({ a: f32([2 ** 30, 2 ** 30, 16], [0, 4]) }, 4),
      "weights-shape",
      "a",
      /overflows/,
    ],
    [
      "has fewer bytes than its shape",
      safetensorsBytes({ a: f32([2], [0, 4]) }, 4),
      "weights-shape",
      "a",
      /4 bytes where F32 \[2\] takes 8/,
    ],
    [
      "has more bytes than its shape",
      safetensorsBytes({ a: f32([1], [0, 8]) }, 8),
      "weights-shape",
      "a",
      /8 bytes where F32 \[1\] takes 4/,
    ],
    ["has one offset", safetensorsBytes({ a: f32([1], [4]) }, 4), "weights-offsets", "a", /pair/],
    ["has a negative offset", safetensorsBytes({ a: f32([1], [-4, 0]) }, 4), "weights-offsets", "a", /pair/],
    [
      "has offsets the wrong way round",
      safetensorsBytes({ a: f32([1], [4, 0]) }, 4),
      "weights-offsets",
      "a",
      /end \(0\) before they start/,
    ],
    [
      "has a tensor outside of the file",
      safetensorsBytes({ a: f32([1], [0, 4]), b: f32([1], [4, 8]) }, 4),
      "weights-truncated",
      "b",
      /bytes 4 to 8 of the data, and the file has 4/,
    ],
    [
      "has a tensor of a terabyte",
      safetensorsBytes({ a: f32([2 ** 38], [0, 2 ** 40]) }, 4),
      "weights-truncated",
      "a",
      /the file has 4/,
    ],
    [
      "has overlapping tensors",
      safetensorsBytes({ a: f32([2], [0, 8]), b: f32([2], [4, 12]) }, 12),
      "weights-offsets",
      "b",
      /overlaps/,
    ],
    [
      "has two tensors in one place",
      safetensorsBytes({ a: f32([1], [0, 4]), b: f32([1], [0, 4]) }, 4),
      "weights-offsets",
      "b",
      /overlaps/,
    ],
    [
      "has a hole",
      safetensorsBytes({ a: f32([1], [0, 4]), b: f32([1], [8, 12]) }, 12),
      "weights-offsets",
      "b",
      /bytes 4 to 8, before it, belong to no tensor/,
    ],
    ["has bytes left over", safetensorsBytes({ a: f32([1], [0, 4]) }, 7), "weights-offsets", undefined, /last 3 bytes/],
    [
      "names a tensor twice",
      safetensorsBytes(
        '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\\u0061" :{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
      ),
      "weights-header",
      undefined,
      /the name "a" occurs twice/,
    ],
    [
      "says a tensor's shape twice",
      safetensorsBytes('{"a":{"dtype":"U8","shape":[4],"shape":[0],"data_offsets":[0,0]}}'),
      "weights-header",
      undefined,
      /"shape" occurs twice/,
    ],
  ])("that %s is refused", async (_, bytes, code, tensor, reason) => {
    const error = await refusal(bytes);
    expect({ code: error.code, tensor: error.tensor }).toEqual({ code, tensor });
    expect(error.reason).toMatch(reason);
    if (tensor !== undefined) expect(error.message).toContain(`tensor "${tensor}"`);
  });

  it("that was cut short anywhere is refused", async () => {
    const whole = zeroTensors({ "a.weight": ["F32", [3]], "b.weight": ["F16", [5, 2]] });
    for (let length = 0; length < whole.length; length++) {
      const error = await refusal(whole.subarray(0, length));
      if (error.code !== "weights-truncated") expect.fail(`cut to ${length} bytes: ${error.message}`);
    }
  });

  it("cannot fill the heap with a header of small values", async () => {
    const before = process.memoryUsage().heapUsed;
    const error = await refusal(safetensorsBytes(`{"a":[${"[],".repeat(6_000_000)}[]]}`));
    expect(error.code).toBe("weights-header");
    expect(error.reason).toMatch(/more than 500000 values/);
    // 6 million empty arrays would be some 200 MB; the text itself is 24.
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(120e6);
  });

  it("cannot put its text into a message unquoted, or all of it", async () => {
    const name = `\n\u001b[31m\u009b\u202e${"x".repeat(5000)}`;
    const error = await refusal(safetensorsBytes({ [name]: 1 }));
    expect(error.tensor).toBe(name);
    expect(error.message).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    expect(error.message.length).toBeLessThan(400);
  });

  it("may be a folder, or not be there", async () => {
    await expect(openSafetensors(folder)).rejects.toMatchObject({
      code: "weights-not-found",
      reason: "is not a regular file",
    });
    const missing = await openSafetensors(join(folder, "none.safetensors")).catch((error: unknown) => error);
    expect(missing).toMatchObject({ code: "weights-not-found", file: "none.safetensors" });
    expect((missing as Error).message).toBe("none.safetensors: no such file");
  });
});

describe("a sound file", () => {
  const values = Float32Array.from({ length: 24 }, (_, i) => i - 7);
  const tensors: TensorToWrite[] = [
    { name: "flags", dtype: "U8", shape: [3], data: Uint8Array.of(1, 2, 3) },
    { name: "empty", dtype: "F16", shape: [0, 4], data: new Uint8Array(0) },
    {
      name: "weight",
      dtype: "F32",
      shape: [4, 6],
      *data() {
        const bytes = new Uint8Array(values.buffer);
        yield bytes.subarray(0, 5);
        yield bytes.subarray(5, 5);
        yield bytes.subarray(5);
      },
    },
    { name: "alpha", dtype: "I64", shape: [], data: new Uint8Array(BigInt64Array.of(-5n).buffer) },
    { name: "__proto__", dtype: "F16", shape: [1], data: Uint8Array.of(0, 0x3c) },
  ];

  it("comes back as it was written", async () => {
    const path = join(folder, "round.safetensors");
    await writeSafetensors(path, tensors, { metadata: { format: "pt" } });
    const file = await openSafetensors(path, { name: "unet/round.safetensors" });
    expect(file.source).toBe("unet/round.safetensors");
    expect([...file.metadata]).toEqual([["format", "pt"]]);
    // Larger elements first, otherwise as given.
    expect([...file.names()]).toEqual(["alpha", "weight", "empty", "__proto__", "flags"]);
    expect(file.totalBytes).toBe(8 + 96 + 0 + 2 + 3);
    const weight = file.get("weight")!;
    expect(weight).toMatchObject({ dtype: "F32", shape: [4, 6], byteLength: 96, file: "unet/round.safetensors" });
    const whole = new Float32Array(24);
    await weight.read(new Uint8Array(whole.buffer));
    expect(whole).toEqual(values);
    const part = new Uint8Array(10);
    await weight.read(part, 37);
    expect(part).toEqual(new Uint8Array(values.buffer).slice(37, 47));
    const last = new Uint8Array(3);
    await file.get("flags")!.read(last);
    expect([...last]).toEqual([1, 2, 3]);
    await file.get("empty")!.read(new Uint8Array(0));
    expect(file.get("none")).toBeUndefined();
    await expect(weight.read(new Uint8Array(10), 87)).rejects.toThrow(RangeError);
    await expect(weight.read(new Uint8Array(1), -1)).rejects.toThrow(RangeError);
    await file.close();
    await expect(weight.read(part)).rejects.toMatchObject({ code: "weights-closed", tensor: "weight" });
  });

  it("lies on disk as the format says", async () => {
    // The example in the reference implementation's tests (`test_serialization`).
    const path = join(folder, "bytes.safetensors");
    const data = new Uint8Array(Float32Array.of(0, 1, 2, 3, 4, 5).buffer);
    await writeSafetensors(path, [{ name: "attn.0", dtype: "F32", shape: [1, 2, 3], data }]);
    const header = '{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}';
    expect(Uint8Array.from(await readFile(path))).toEqual(Uint8Array.from(safetensorsBytes(header, data)));
    // And its `test_empty`.
    await writeSafetensors(path, []);
    expect([...(await readFile(path))]).toEqual([8, 0, 0, 0, 0, 0, 0, 0, 123, 125, 32, 32, 32, 32, 32, 32]);
    await (await openSafetensors(path)).close();
  });

  it("may be cut short while it is open", async () => {
    const path = join(folder, "shrinks.safetensors");
    await writeFile(path, zeroTensors({ weight: ["F32", [100]] }));
    const file = await openSafetensors(path);
    await truncate(path, 200);
    await expect(file.get("weight")!.read(new Uint8Array(400))).rejects.toMatchObject({
      code: "weights-truncated",
      tensor: "weight",
    });
    await file.close();
  });

  it.each<[string, TensorToWrite, RegExp]>([
    ["too little data", { name: "a", dtype: "F32", shape: [2], data: new Uint8Array(7) }, /7 bytes of the 8/],
    ["too much data", { name: "a", dtype: "F32", shape: [2], data: new Uint8Array(9) }, /longer than the 8/],
    ["a name that is taken", { name: "b", dtype: "U8", shape: [0], data: new Uint8Array(0) }, /taken/],
  ])("is not written with %s, and nothing is left behind", async (_, tensor, reason) => {
    const path = join(folder, "unwritten.safetensors");
    const other: TensorToWrite = { name: "b", dtype: "U8", shape: [1], data: new Uint8Array(1) };
    await expect(writeSafetensors(path, [other, tensor])).rejects.toThrow(reason);
    await expect(stat(path)).rejects.toThrow("ENOENT");
    await expect(stat(`${path}.partial`)).rejects.toThrow("ENOENT");
  });
});

describe("a large file", () => {
  it("is written and read through one buffer", { timeout: 60_000 }, async () => {
    const path = join(folder, "large.safetensors");
    const rows = 5;
    const rowBytes = 24 * 2 ** 20;
    const buffer = new Uint8Array(16 * 2 ** 20);
    const start = process.memoryUsage();
    let most = 0;
    const sample = () => {
      const now = process.memoryUsage();
      most = Math.max(most, now.heapUsed - start.heapUsed, now.arrayBuffers - start.arrayBuffers);
    };
    function* tensors(): Generator<TensorToWrite> {
      for (let row = 0; row < rows; row++) {
        yield {
          name: `row.${row}`,
          dtype: "F16",
          shape: [rowBytes / 2],
          *data() {
            const piece = buffer.subarray(0, 4 * 2 ** 20);
            for (let done = 0; done < rowBytes; done += piece.length) {
              piece.fill(row * 16 + done / piece.length);
              sample();
              yield piece;
            }
          },
        };
      }
    }
    await writeSafetensors(path, tensors());
    const file = await openSafetensors(path);
    expect(file.totalBytes).toBe(rows * rowBytes);
    for (let row = 0; row < rows; row++) {
      const entry = file.get(`row.${row}`)!;
      for (let offset = 0; offset < rowBytes; offset += buffer.length) {
        const piece = buffer.subarray(0, Math.min(buffer.length, rowBytes - offset));
        piece.fill(255);
        await entry.read(piece, offset);
        sample();
        for (let at = 0; at < piece.length; at += 2 ** 20)
          if (piece[at] !== row * 16 + Math.floor((offset + at) / (4 * 2 ** 20)))
            expect.fail(`row ${row}, byte ${offset + at}: ${piece[at]}`);
      }
    }
    await file.close();
    expect(most).toBeLessThan(50e6);
    await rm(path);
  });
});
