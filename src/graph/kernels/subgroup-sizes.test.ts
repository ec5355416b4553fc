/**
 * The subgroup kernels where a lane loads no more than one pixel or key: subgroups of 16 and more. SwiftShader's have 4
 * lanes and lavapipe's mostly 8, which other tests run on; Mesa lets lavapipe's be chosen before it is loaded
 * (`LP_NATIVE_VECTOR_WIDTH`, in bits of 32-bit lanes), and this file has a process of its own.
 */

import { afterAll, test } from "vitest";
import { type Gpu, openGpu } from "../../gpu/device.ts";
import { AdapterError } from "../../gpu/errors.ts";
import { headPadding, Recorder } from "../recorder.ts";
import { expectClose } from "../testing/closeness.ts";
import { attention, convolution } from "../testing/reference.ts";
import { onDevice, run, weightsFor } from "../testing/run.ts";
import { normals, random } from "../testing/values.ts";

process.env.LP_NATIVE_VECTOR_WIDTH = "512";

async function lavapipe(): Promise<Gpu | undefined> {
  try {
    return await openGpu({ adapter: { driver: "lavapipe" } });
  } catch (error) {
    if (error instanceof AdapterError) return undefined; // not installed here
    throw error;
  }
}
const gpu = await lavapipe();
afterAll(() => gpu?.close());

// Another Mesa or CPU may not offer it.
const isWide = gpu?.lanes === 16;

// Mesa takes some 20 s of CPU time to compile this one, the first time on a machine.
const COMPILING = 300_000;

test.runIf(isWide)("a convolution by subgroups of 16", { timeout: COMPILING }, async () => {
  const source = random(71);
  const [n, h, w, c, outputs] = [2, 5, 7, 21, 70]; // 70 pixels of 16 at a time, 70 channels of 64
  const recorder = new Recorder();
  recorder.output("y", recorder.conv2d(recorder.input("x", [n, h, w, c]), "conv", { outputs, padding: 1 }));
  const weights = weightsFor(recorder, source);
  const input = normals(source, n * h * w * c);
  const ran = await run(gpu!, { recorder, storage: "f32", weights, inputs: { x: input } });
  const reference = convolution({
    input,
    shape: [n, h, w, c],
    weight: onDevice(weights, "conv.weight", "f32"),
    outputs,
    kernel: { height: 3, width: 3 },
    stride: 1,
    before: { top: 1, left: 1 },
    output: { height: h, width: w },
    bias: onDevice(weights, "conv.bias", "f32"),
  });
  expectClose(ran.outputs.y!, reference, "f32");
});

test.runIf(isWide)("attention by subgroups of 16", async () => {
  const [images, heads, width, tokens] = [2, 2, 8, 77]; // two workgroups of 64 queries, five blocks of 16 keys
  const recorder = new Recorder();
  const row = 3 * heads * width;
  const x = recorder.input("x", [images, tokens, row]);
  const view = (part: number) => ({ tensor: x, offset: part * heads * width });
  const views = { query: view(0), key: view(1), value: view(2) };
  const values = normals(random(72), images * tokens * row);
  const read = (part: number) => ({ values, row, offset: part * heads * width });
  for (const causal of [false, true]) {
    recorder.output(`${causal}`, recorder.attention("attention", views, { heads, head: headPadding(width), causal }));
  }
  const { outputs } = await run(gpu!, { recorder, storage: "f32", inputs: { x: values } });
  for (const causal of [false, true]) {
    const shape = { images, heads, queries: tokens, keys: tokens, width, padded: width, causal };
    expectClose(outputs[`${causal}`]!, attention({ query: read(0), key: read(1), value: read(2) }, shape), "f32");
  }
});
