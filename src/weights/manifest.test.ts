import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { zeroTensors } from "../../test/fixtures/safetensors-bytes.ts";
import { WeightsError } from "./errors.ts";
import { type CheckOptions, checkTensors, type ExpectedTensor, sameWeight } from "./manifest.ts";
import { openSafetensors } from "./safetensors.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "daguerre-manifest-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

type Tensors = Parameters<typeof zeroTensors>[0];

/** Expected name to the name found in the file. */
async function check(tensors: Tensors, expected: ExpectedTensor[], ignore?: CheckOptions["ignore"]) {
  const path = join(folder, "vae.safetensors");
  await writeFile(path, zeroTensors(tensors));
  const set = await openSafetensors(path, { name: "vae/model.safetensors" });
  try {
    return [...checkTensors(set, expected, { component: "vae", ignore })].map(([name, entry]) => [name, entry.name]);
  } finally {
    await set.close();
  }
}

async function refusal(...args: Parameters<typeof check>): Promise<WeightsError> {
  const error = await check(...args).catch((thrown: unknown) => thrown);
  if (!(error instanceof WeightsError)) throw new Error(`no WeightsError but ${error}`);
  expect(error).toMatchObject({ code: "weights-mismatch", file: "vae/model.safetensors" });
  return error;
}

const query = { name: "attn.to_q.weight", shape: [8, 8], aliases: ["attn.query.weight"] };
const bias = { name: "attn.to_q.bias", shape: [8], aliases: ["attn.query.bias"] };

describe("checkTensors", () => {
  it("finds each tensor in the order expected", async () => {
    const found = await check({ "attn.to_q.bias": ["F16", [8]], "attn.to_q.weight": ["BF16", [8, 8]] }, [query, bias]);
    expect(found).toEqual([
      ["attn.to_q.weight", "attn.to_q.weight"],
      ["attn.to_q.bias", "attn.to_q.bias"],
    ]);
  });

  it("finds a tensor under its old name, as a 1×1 convolution or a matrix", async () => {
    const found = await check({ "attn.query.weight": ["F32", [8, 8, 1, 1]], "attn.query.bias": ["F32", [8]] }, [
      query,
      bias,
    ]);
    expect(found).toEqual([
      ["attn.to_q.weight", "attn.query.weight"],
      ["attn.to_q.bias", "attn.query.bias"],
    ]);
    const conv = { name: "proj.weight", shape: [8, 4, 1, 1] };
    expect(await check({ "proj.weight": ["F32", [8, 4]] }, [conv])).toHaveLength(1);
  });

  it("ignores tables of positions and what it is told to", async () => {
    const extras: Tensors = { "text_model.embeddings.position_ids": ["I64", [1, 77]], "ema.decay": ["F32", []] };
    expect(await check(extras, [], (name) => name.startsWith("ema."))).toEqual([]);
    expect((await refusal(extras, [])).message).toContain('"ema.decay" is not part of the model');
    for (const type of ["F32", "F16", "I32", "U8"]) {
      expect(await check({ "a.position_ids": [type, [1, 77]], position_ids: [type, [77]] }, [])).toEqual([]);
    }
  });

  it("reports everything at once", async () => {
    const error = await refusal(
      {
        "attn.to_q.weight": ["F32", [8, 9]],
        "attn.to_q.bias": ["I32", [8]],
        "attn.query.bias": ["F32", [8]],
      },
      [query, bias, { name: "conv.weight", shape: [4, 3, 3, 3] }],
    );
    expect(error.message).toBe(
      "vae/model.safetensors: 4 tensors do not fit the config of vae: " +
        '"attn.to_q.bias" is I32, where F32, F16, BF16 or FP8 is expected, ' +
        '"attn.to_q.weight" is [8, 9], where [8, 8] is expected, ' +
        '"conv.weight" [4, 3, 3, 3] is missing, ' +
        '"attn.query.bias" is not part of the model',
    );
  });

  it("says of a file of whole numbers that it is one, once", async () => {
    const many = Array.from({ length: 25 }, (_, i) => ({ name: `t${i}`, shape: [1] }));
    const { message } = await refusal(Object.fromEntries(many.map(({ name }) => [name, ["I32", [1]]])), many);
    expect(message).toBe(
      'vae/model.safetensors: 25 tensors do not fit the config of vae: 25 tensors, such as "t0", are I32, where F32, ' +
        "F16, BF16 or FP8 is expected",
    );
  });

  it("names ten of many", async () => {
    const many = Array.from({ length: 25 }, (_, i) => ({ name: `t${i}`, shape: [1] }));
    const { message } = await refusal({}, many);
    expect(message).toContain("25 tensors do not fit");
    expect(message).toMatch(/"t9" \[1\] is missing and 15 more$/);
  });
});

describe("sameWeight", () => {
  it.each<[number[], number[], boolean]>([
    [[8, 4], [8, 4], true],
    [[8, 4], [8, 4, 1, 1], true],
    [[8, 4, 1, 1], [8, 4], true],
    [[8, 4], [4, 8], false],
    [[8, 4], [8, 4, 3, 3], false],
    [[8, 4, 3], [8, 4, 3, 1], false],
    [[8], [8, 1], false],
    [[8], [8, 1, 1, 1], false],
    [[], [1], false],
    [[], [], true],
  ])("%j and %j: %s", (a, b, same) => {
    expect(sameWeight(a, b)).toBe(same);
  });
});
