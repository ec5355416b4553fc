/** A step's input for its timestep: one of the rows that were computed for many steps at once. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { generateParameters, normals } from "../../test/generated-weights.ts";
import { createSchedule } from "../diffusion/schedulers/create-schedule.ts";
import { recordStep, writeStep } from "../diffusion/step.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { compile } from "../graph/plan.ts";
import { parseUnetConfig } from "../models/unet-config.ts";
import { timestepSinusoids } from "../models/unet-time.ts";
import { UnetStep } from "./unet-step.ts";

let gpu: Gpu;
beforeAll(async () => {
  gpu = await openGpu();
});
afterAll(() => gpu.close());

const plain = {
  in_channels: 4,
  out_channels: 4,
  block_out_channels: [16, 32],
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D"],
  up_block_types: ["CrossAttnUpBlock2D", "UpBlock2D"],
  attention_head_dim: 2,
  cross_attention_dim: 24,
  norm_num_groups: 8,
  layers_per_block: 1,
};
const shape = { slots: 2, branches: 2, tokens: 5, height: 8, width: 6, channels: 4 };
const rows = shape.slots * shape.branches;

it.each([
  { name: "without conditions", conditions: {}, inputs: {} },
  { name: "with a guidance embedding", conditions: { time_cond_proj_dim: 12 }, inputs: { guidance: 12 } },
  {
    name: "with conditions of each row's own",
    conditions: {
      addition_embed_type: "text_time",
      addition_time_embed_dim: 8,
      projection_class_embeddings_input_dim: 20,
    },
    inputs: { added: rows * 20 },
  },
])("the 41st of 50 steps is told the timestep of the 41st, $name", async ({ conditions, inputs }) => {
  const config = parseUnetConfig({ ...plain, ...conditions });
  const step = new UnetStep(config, shape.tokens);
  const recorder = recordStep(step, shape);
  const parameters = await generateParameters(gpu, recorder, "f32");
  const plan = await compile(gpu, recorder, { label: "unet", storage: "f32", parameters });
  try {
    const schedule = createSchedule("DDIMScheduler", {}, { steps: 50 }).rows;
    // All rows are alike, but for the conditions of their own.
    plan.write("text", repeated(normals(shape.tokens * plain.cross_attention_dim, 1), rows));
    for (const [name, count] of Object.entries(inputs)) {
      const values = normals(count, 2);
      plan.write(name, name === "guidance" ? repeated(values, shape.slots) : values);
    }
    const predict = async (from: typeof schedule, index: number): Promise<Float32Array> => {
      plan.write("latents", repeated(normals(shape.height * shape.width * shape.channels, 3), shape.slots));
      for (let at = 0; at <= index; at++) {
        for (let slot = 0; slot < shape.slots; slot++) {
          writeStep(plan, step, shape, slot, { rows: from, index: at, joins: false, guidanceScale: 3 });
        }
      }
      plan.run();
      return (await plan.read("model")) as Float32Array;
    };
    const late = await predict(schedule, 40);
    const alone = await predict(schedule.slice(40), 0);
    expect(difference(late, alone)).toBe(0);
    expect(difference(late, await predict(schedule, 39))).toBeGreaterThan(1e-4);
    const [first, ...others] = Array.from({ length: rows }, (_, row) => {
      return late.subarray((row * late.length) / rows, ((row + 1) * late.length) / rows);
    });
    for (const other of others) expect(difference(first!, other) > 1e-4).toBe("added" in inputs);
  } finally {
    plan.destroy();
    parameters.destroy();
  }
});

it.each([
  { sizes: 6, negative: [24, 16], positive: [24, 16] },
  { sizes: 5, negative: [2.5], positive: [6] },
])("of $sizes size conditions, the last are the target size, or each branch's aesthetic score", async (expected) => {
  const [pooled, width] = [4, 8];
  const added = pooled + expected.sizes * width;
  const config = parseUnetConfig({
    ...plain,
    addition_embed_type: "text_time",
    addition_time_embed_dim: width,
    projection_class_embeddings_input_dim: added,
  });
  const step = new UnetStep(config, shape.tokens, pooled);
  const recorder = recordStep(step, shape);
  const parameters = await generateParameters(gpu, recorder, "f32");
  const plan = await compile(gpu, recorder, { label: "unet", storage: "f32", parameters });
  try {
    const text = (seed: number) => ({
      embedding: normals(shape.tokens * plain.cross_attention_dim, seed),
      tokens: shape.tokens,
      width: plain.cross_attention_dim,
      pooled: normals(pooled, seed),
      ids: [],
    });
    const branches = [text(1), text(2)];
    const request = { width: 16, height: 24, guidanceScale: 3, sizes: { crop: [1, 2] as const } };
    for (let slot = 0; slot < shape.slots; slot++)
      await step.writeConditioning(plan, shape, slot, { branches, request });
    const written = (await plan.read("added")) as Float32Array;
    for (const [branch, last] of [expected.negative, expected.positive].entries()) {
      const numbers = timestepSinusoids([24, 16, 1, 2, ...last], width);
      const row = Float32Array.of(...branches[branch]!.pooled, ...numbers);
      for (let slot = 0; slot < shape.slots; slot++) {
        const at = (branch * shape.slots + slot) * added;
        expect(difference(written.subarray(at, at + added), row)).toBeLessThan(1e-6);
      }
    }
  } finally {
    plan.destroy();
    parameters.destroy();
  }
});

it("refuses added conditions that are no pooled vector with 5 or 6 sizes", () => {
  const config = parseUnetConfig({
    ...plain,
    addition_embed_type: "text_time",
    addition_time_embed_dim: 8,
    projection_class_embeddings_input_dim: 4 + 7 * 8,
  });
  expect(() => new UnetStep(config, 5, 4)).toThrow(
    /projection_class_embeddings_input_dim: is 60; a pooled vector of 4/,
  );
});

function repeated(values: Float32Array, times: number): Float32Array {
  return Float32Array.from({ length: values.length * times }, (_, index) => values[index % values.length]!);
}

function difference(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, index) => Math.max(most, Math.abs(value - b[index]!)), 0);
}
