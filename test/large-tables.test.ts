/** Embedding tables that no binding could hold (SDXL's second one in f32 has 253 MB) lie in several buffers. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { type Gpu, openGpu } from "../src/gpu/device.ts";
import { compile } from "../src/graph/plan.ts";
import { Recorder } from "../src/graph/recorder.ts";
import type { Storage } from "../src/graph/tensor.ts";
import { generateParameters } from "./generated-weights.ts";

let gpu: Gpu;
beforeAll(async () => {
  gpu = await openGpu();
});
afterAll(() => gpu.close());

const ROWS = 1031;
const CHANNELS = 38;
const IMAGES = 2;
const TOKENS = 77;
// Holds the embedded tokens, and about a fifth of the table.
const LIMIT = IMAGES * TOKENS * Math.ceil(CHANNELS / 4) * 16 + 1000;

async function embed(on: Gpu, storage: Storage): Promise<{ values: Float32Array; pieces: number }> {
  const g = new Recorder();
  const ids = g.input("ids", [IMAGES * TOKENS], { element: "u32" });
  const names = { table: "token", positions: "position" };
  const sizes = { images: IMAGES, tokens: TOKENS, vocabulary: ROWS, positions: TOKENS, channels: CHANNELS };
  g.output("out", g.embedding(ids, names, sizes));
  const parameters = await generateParameters(on, g, storage);
  const plan = await compile(on, g, { label: "table", storage: "f32", parameters });
  try {
    // From all over the table, in no order.
    plan.write(
      "ids",
      Uint32Array.from({ length: IMAGES * TOKENS }, (_, i) => (i * 370) % ROWS),
    );
    plan.run();
    const table = [...g.parameters.values()].find((parameter) => parameter.key === "token.weight")!;
    return { values: (await plan.read("out")) as Float32Array, pieces: parameters.get(table).length };
  } finally {
    plan.destroy();
    parameters.destroy();
  }
}

it.each(["f32", "f16"] as const)("looks tokens up in a %s table of several pieces as in one", async (storage) => {
  const whole = await embed(gpu, storage);
  const pieces = await embed(Object.create(gpu, { maxBindingBytes: { value: LIMIT } }), storage);
  expect(whole.pieces).toBe(1);
  expect(pieces.pieces).toBe(storage === "f32" ? 7 : 4);
  expect(pieces.values).toEqual(whole.values);
  expect(whole.values.some((value) => Math.abs(value) > 0.1)).toBe(true);
});
