/**
 * Distilled UNets draw what the whole UNet draws if the parts that they lack do nothing there: a residual block whose last
 * convolution is zero, a transformer whose projection or whose sums are zero.
 */

import { afterAll, beforeAll, expect, it } from "vitest";
import { builtInFile, changedModel, changedTensors, WEIGHTS, withoutTensors } from "../../test/changed-weights.ts";
import { generate } from "../diffusion/run.ts";
import { loadModel } from "../engine/load-model.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";

let gpu: Gpu;
beforeAll(async () => {
  gpu = await openGpu();
});
afterAll(() => gpu.close());

const weights = builtInFile(WEIGHTS.unet);
const config = JSON.parse(new TextDecoder().decode(builtInFile("unet/config.json")));
const zeroed = (file: Uint8Array, pattern: RegExp) => changedTensors(file, pattern, (values) => values.fill(0), "F16");

/** The latents of a run. */
async function drawn(file: Uint8Array, change: object = {}): Promise<Float32Array> {
  const files = changedModel({ [WEIGHTS.unet]: file, "unet/config.json": JSON.stringify({ ...config, ...change }) });
  const model = await loadModel(gpu, files, { precision: "f32" });
  try {
    const request = { prompt: "a lake", width: 64, height: 64, steps: 2, guidanceScale: 2, seed: 3 };
    for await (const event of generate(model, request)) {
      if (event.type === "result") return await event.latents();
    }
    throw new Error("no result");
  } finally {
    model.memory.destroy();
  }
}

/** Sums in another order, and no more. */
const ROUNDING = 1e-4;

function difference(one: Float32Array, other: Float32Array): number {
  return one.reduce((most, value, index) => Math.max(most, Math.abs(value - other[index]!)), 0);
}

it("without a middle block, and with its first residual block alone", async () => {
  const usual = await drawn(weights);
  const idle = zeroed(weights, /^mid_block\.(resnets\.\d\.conv2|attentions\.0\.proj_out)\./);
  const none = await drawn(withoutTensors(weights, /^mid_block\./), { mid_block_type: null });
  expect(difference(await drawn(idle), none)).toBeLessThan(ROUNDING);
  expect(difference(usual, none)).toBeGreaterThan(10 * ROUNDING);

  const first = zeroed(weights, /^mid_block\.(resnets\.1\.conv2|attentions\.0\.proj_out)\./);
  const rest = withoutTensors(weights, /^mid_block\.(resnets\.1|attentions)\./);
  const alone = await drawn(rest, { mid_block_type: "UNetMidBlock2D" });
  expect(difference(await drawn(first), alone)).toBeLessThan(ROUNDING);
  expect(difference(none, alone)).toBeGreaterThan(10 * ROUNDING);
});

it("with no transformer layers in some attentions", async () => {
  const block = /^up_blocks\.0\.attentions\.1\.transformer_blocks\.0\./;
  const idle = zeroed(weights, /^up_blocks\.0\.attentions\.1\.transformer_blocks\.0\.(attn\d\.to_out\.0|ff\.net\.2)\./);
  const depths = {
    transformer_layers_per_block: [1, [1], 1],
    reverse_transformer_layers_per_block: [[1, 0], [1, 1], 1],
  };
  const shallow = await drawn(withoutTensors(weights, block), depths);
  expect(difference(await drawn(idle), shallow)).toBeLessThan(ROUNDING);
  expect(difference(await drawn(weights), shallow)).toBeGreaterThan(10 * ROUNDING);
});
