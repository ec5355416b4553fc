/** Attention against float64: self and cross, causal or not, heads of several widths, in every form and on every device. */

import { afterAll, describe, expect, test } from "vitest";
import { compile } from "../plan.ts";
import { headPadding, Recorder } from "../recorder.ts";
import type { Storage } from "../tensor.ts";
import { expectClose } from "../testing/closeness.ts";
import { closeAll, openDevices, type TestDevice } from "../testing/devices.ts";
import { attention, halfWeights, type Reference } from "../testing/reference.ts";
import { run } from "../testing/run.ts";
import { normals, random, stored } from "../testing/values.ts";
import { type AttentionVariant, always } from "../variants.ts";

interface Case {
  readonly name: string;
  readonly images: number;
  readonly heads: number;
  readonly width: number;
  readonly queries: number;
  readonly keys: number;
  readonly causal?: boolean;
  /** Standard deviation of queries and keys, and what lies beside it. */
  readonly spread?: number;
  readonly valueMean?: number;
}

// A head's width is a constant of the pipeline, and each costs a software GPU seconds to compile. 6 and 8 share one.
const narrow: Case[] = [
  { name: "one query, one key", images: 1, heads: 1, width: 8, queries: 1, keys: 1 },
  { name: "self", images: 2, heads: 3, width: 8, queries: 37, keys: 37 },
  { name: "self, over several workgroups", images: 1, heads: 2, width: 8, queries: 131, keys: 131 },
  { name: "cross, 77 keys", images: 3, heads: 2, width: 8, queries: 19, keys: 77 },
  { name: "causal (CLIP's mask)", images: 2, heads: 2, width: 8, queries: 77, keys: 77, causal: true },
  { name: "heads that are no multiple of four", images: 2, heads: 3, width: 6, queries: 21, keys: 33 },
  { name: "scores of ±10⁴", images: 1, heads: 2, width: 8, queries: 18, keys: 45, spread: 60 },
  { name: "scores of ±10⁴, causal", images: 1, heads: 1, width: 8, queries: 33, keys: 33, causal: true, spread: 60 },
  { name: "equal scores", images: 1, heads: 1, width: 8, queries: 5, keys: 50, spread: 0 },
  { name: "values around 10⁴", images: 1, heads: 2, width: 8, queries: 9, keys: 40, valueMean: 1e4 },
];
const wide: Case[] = [
  { name: "SD 1.5's narrowest head", images: 2, heads: 2, width: 40, queries: 41, keys: 77 },
  { name: "SD 1.5's narrowest head, causal", images: 1, heads: 1, width: 40, queries: 35, keys: 35, causal: true },
];
const widest: Case[] = [{ name: "SD 1.5's widest head", images: 1, heads: 2, width: 160, queries: 17, keys: 40 }];

/** lavapipe takes seconds to compile the tiled form for one width; SwiftShader and GPUs do not. */
function casesFor({ gpu }: TestDevice): Case[] {
  if (gpu.facts.driver === "lavapipe" && gpu.lanes === undefined) return narrow;
  return [...narrow, ...wide, ...widest];
}

/** The forms that run with subgroups are several; `textured` has three quads a lane at most. */
function variantsFor({ gpu }: TestDevice, width: number, storage: Storage): readonly AttentionVariant[] {
  if (gpu.lanes === undefined) return ["tiled"];
  const matrix = gpu.matrixUnit && storage === "f16" ? (["matrix"] as const) : [];
  return width > 12 * gpu.lanes ? ["subgroup", ...matrix] : ["subgroup", "textured", ...matrix];
}

const references = new Map<string, Reference>();

const devices = await openDevices();
afterAll(() => closeAll(devices));

describe.each(devices)("$name", (device) => {
  const { gpu } = device;

  describe.each(["f32", "f16"] as Storage[])("%s", (storage) => {
    test.each(casesFor(device))("$name ($width wide)", async (of) => {
      const { images, heads, width, queries, keys, causal = false, spread = 1, valueMean = 0 } = of;
      const head = headPadding(width);
      const inner = heads * head.padded;
      const recorder = new Recorder();
      const source = random(11);
      const fill = (rows: number, row: number, distribution: { mean?: number; deviation?: number }) =>
        stored(zeroPadding(normals(source, rows * row, distribution), head), storage);
      let inputs: Record<string, Float32Array>;
      let views: Parameters<Recorder["attention"]>[1];
      let held: Parameters<typeof attention>[0];
      if (queries === keys) {
        // One product made all three.
        const x = recorder.input("qkv", [images, queries, 3 * inner]);
        const values = fill(images * queries, 3 * inner, { deviation: spread });
        if (valueMean) throw new Error("a mean of values needs a tensor of their own");
        inputs = { qkv: values };
        const view = (part: number) => ({ tensor: x, offset: part * inner });
        views = { query: view(0), key: view(1), value: view(2) };
        const read = (part: number) => ({ values, row: 3 * inner, offset: part * inner });
        held = { query: read(0), key: read(1), value: read(2) };
      } else {
        const q = recorder.input("q", [images, queries, inner]);
        const kv = recorder.input("kv", [images, keys, inner + 4]);
        const v = recorder.input("v", [images, keys, inner]);
        inputs = {
          q: fill(images * queries, inner, { deviation: spread }),
          kv: stored(normals(source, images * keys * (inner + 4), { deviation: spread }), storage),
          v: fill(images * keys, inner, { mean: valueMean }),
        };
        // Keys at an offset in wider rows.
        inputs.kv = inputs.kv!.map((value, i) => (((i % (inner + 4)) - 4) % head.padded >= width ? 0 : value));
        views = { query: { tensor: q, offset: 0 }, key: { tensor: kv, offset: 4 }, value: { tensor: v, offset: 0 } };
        held = {
          query: { values: inputs.q!, row: inner, offset: 0 },
          key: { values: inputs.kv, row: inner + 4, offset: 4 },
          value: { values: inputs.v!, row: inner, offset: 0 },
        };
      }
      const out = recorder.attention("attention", views, { heads, head, causal });
      recorder.output("y", out);
      expect(out.shape).toEqual([images, queries, inner]);
      const key = `${storage} ${of.name}`;
      let reference = references.get(key);
      if (!reference) {
        reference = attention(held, { images, heads, queries, keys, width, padded: head.padded, causal });
        references.set(key, reference);
      }
      for (const variant of variantsFor(device, width, storage)) {
        const { outputs } = await run(gpu, { recorder, storage, inputs, choose: always(variant) });
        const allowed = variant === "matrix" ? halfWeights(reference, held.value.values) : reference;
        expectClose(outputs.y!, allowed, storage);
      }
    });
  });

  test("a causal query sees no later key", async () => {
    const [tokens, width] = [40, 8];
    const recorder = new Recorder();
    const x = recorder.input("x", [1, tokens, width]);
    const view = { tensor: x, offset: 0 };
    const head = headPadding(width);
    recorder.output(
      "y",
      recorder.attention("a", { query: view, key: view, value: view }, { heads: 1, head, causal: true }),
    );
    const values = normals(random(12), tokens * width);
    const changed = values.map((value, i) => (i >= 25 * width ? -5 * value : value));
    const first = (await run(gpu, { recorder, storage: "f32", inputs: { x: values } })).outputs.y!;
    const second = (await run(gpu, { recorder, storage: "f32", inputs: { x: changed } })).outputs.y!;
    expect(second.subarray(0, 25 * width)).toEqual(first.subarray(0, 25 * width));
    expect(second.subarray(25 * width)).not.toEqual(first.subarray(25 * width));
  });

  test("the score matrix is never stored: memory grows with the tokens, not with their square", async () => {
    const tokens = 3000; // their scores would be 36 MB
    const recorder = new Recorder();
    const x = recorder.input("x", [1, tokens, 8]);
    const view = { tensor: x, offset: 0 };
    recorder.output(
      "y",
      recorder.attention("a", { query: view, key: view, value: view }, { heads: 1, head: headPadding(8) }),
    );
    const before = gpu.memory;
    const plan = await compile(gpu, recorder, {
      label: "long",
      storage: "f32",
      parameters: { storage: "f32", get: () => [] },
    });
    // Input and output, 8 channels of 4 bytes each, the three operands in a texture, and small change for uniforms.
    expect(gpu.memory.bytes - before.bytes).toBeLessThan((2 + 3) * tokens * 8 * 4 + 4096);
    plan.destroy();
  });
});

/** The channels between two heads are zero, as padded weights leave them. */
function zeroPadding(values: Float32Array, { width, padded }: { width: number; padded: number }): Float32Array {
  return values.map((value, i) => (i % padded < width ? value : 0));
}
