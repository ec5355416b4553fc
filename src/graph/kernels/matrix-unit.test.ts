/**
 * The kernel for matrix units (tensor cores), which no software adapter has. Its WGSL is compiled by Dawn's null backend,
 * which offers the extension and runs nothing; its arithmetic runs on an adapter with f16 with the unit's five operations
 * written out in plain WGSL; and where an adapter has a unit, the kernel itself runs.
 */

import { afterAll, describe, expect, test } from "vitest";
import { create } from "webgpu";
import source from "../../../shaders/conv2d_matrix.wgsl" with { type: "text" };
import matrixUnit from "../../../shaders/prelude/matrix_unit.wgsl" with { type: "text" };
import attentionUnit from "../../../shaders/prelude/matrix_unit_attention.wgsl" with { type: "text" };
import type { Gpu } from "../../gpu/device.ts";
import { chooseMatrixUnit } from "../../gpu/matrix-unit.ts";
import type { Target } from "../dispatch.ts";
import { lower } from "../ops/table.ts";
import { headPadding, Recorder } from "../recorder.ts";
import { expectClose } from "../testing/closeness.ts";
import { closeAll, openAdapters } from "../testing/devices.ts";
import { attention, convolution, halfWeights } from "../testing/reference.ts";
import { onDevice, run, weightsFor } from "../testing/run.ts";
import { normals, random, stored } from "../testing/values.ts";
import { always } from "../variants.ts";
import { MATRIX_TILINGS, matrixKernel } from "./convolution/matrix.ts";
import { unrolled } from "./unrolled.ts";

type MatrixVariant = keyof typeof MATRIX_TILINGS;
const MATRIX_VARIANTS = Object.keys(MATRIX_TILINGS) as MatrixVariant[];

// NVIDIA's two, Apple's and Intel's: none of the three sides is like another in all of them.
const UNITS = [
  { rows: 16, columns: 16, inner: 16 },
  { rows: 16, columns: 8, inner: 16 },
  { rows: 8, columns: 8, inner: 8 },
  { rows: 8, columns: 16, inner: 16 },
];
const title = ({ rows, columns, inner }: (typeof UNITS)[number]) => `${rows} × ${columns} × ${inner}`;

const devices = await openAdapters();
afterAll(() => closeAll(devices));

test("the largest unit of halves and f32 sums that fills the kernel's tiles is chosen", () => {
  const config = (M: number, N: number, K: number, types = ["f16", "f32"]) => ({
    componentType: types[0]!,
    resultComponentType: types[1]!,
    ...{ M, N, K },
  });
  const configs = [config(8, 8, 8), config(16, 16, 16, ["f16", "f16"]), config(16, 8, 16), config(24, 24, 24)];
  expect(chooseMatrixUnit(configs)).toEqual({ rows: 16, columns: 8, inner: 16 });
  expect(chooseMatrixUnit([config(16, 16, 32, ["u8", "u32"])])).toBeUndefined();
});

/** A convolution with an epilogue, over two tiles of pixels and of channels, and input channels that fill no step. */
function layer() {
  const [n, h, w, c, outputs] = [2, 7, 9, 37, 70];
  const recorder = new Recorder();
  const x = recorder.input("x", [n, h, w, c]);
  recorder.output("y", recorder.conv2d(x, "conv", { outputs, padding: 1 }));
  return { recorder, n, h, w, c, outputs };
}

const nullGpu = create(["enable-dawn-features=allow_unsafe_apis", "backend=null"]);

describe("compiled by Dawn", () => {
  const cases = UNITS.flatMap((unit) => MATRIX_VARIANTS.map((variant) => ({ unit, variant, title: title(unit) })));
  test.each(cases)("$variant for $title", async ({ unit, variant }) => {
    const adapter = (await nullGpu.requestAdapter())!;
    const requiredFeatures = ["chromium-experimental-subgroup-matrix", "subgroups", "shader-f16"] as GPUFeatureName[];
    const device = await adapter.requestDevice({ requiredFeatures });
    const target: Target = {
      ...{ lanes: 32, matrixUnit: unit, storage: "f16", weightStorage: "f16", choose: always(variant) },
      ...{ maxBindingBytes: 2 ** 27, maxTextureDimension: 8192, maxWorkgroupBytes: 49152 },
    };
    const { kernel } = lower(layer().recorder.operations[0]!, target)[0]!;
    expect(kernel.name).toBe("conv2d_matrix");
    const { messages } = await device.createShaderModule({ code: kernel.code }).getCompilationInfo();
    expect(messages.map(({ lineNum, message }) => `${lineNum}: ${message}`)).toEqual([]);
    device.destroy();
  });
});

test.each([8, 40, 80, 160])("compiled by Dawn: attention %s wide", async (width) => {
  const adapter = (await nullGpu.requestAdapter())!;
  const requiredFeatures = ["chromium-experimental-subgroup-matrix", "subgroups", "shader-f16"] as GPUFeatureName[];
  const device = await adapter.requestDevice({ requiredFeatures });
  const recorder = new Recorder();
  const view = { tensor: recorder.input("x", [1, 64, width]), offset: 0 };
  recorder.output(
    "y",
    recorder.attention("a", { query: view, key: view, value: view }, { heads: 1, head: headPadding(width) }),
  );
  for (const unit of UNITS) {
    const target: Target = {
      ...{ lanes: 32, matrixUnit: unit, storage: "f16", weightStorage: "f16", choose: always("matrix") },
      ...{ maxBindingBytes: 2 ** 27, maxTextureDimension: 8192, maxWorkgroupBytes: 49152 },
    };
    const { kernel } = lower(recorder.operations[0]!, target)[0]!;
    expect(kernel.name).toBe("attention_matrix");
    const { messages } = await device.createShaderModule({ code: kernel.code }).getCompilationInfo();
    expect(messages.map(({ lineNum, message }) => `${lineNum}: ${message}`)).toEqual([]);
  }
  device.destroy();
});

test("loops are written out as often as constants say, inner ones in outer ones", () => {
  const code = `
  for (var i = 0u; i < TWO; i++) { // unrolled
    for (var sum = 0u; sum < ONE; sum++) { // unrolled
      sums[i] += f(sum);
    }
  }
  for (var i = 0u; i < TWO; i++) { sums[i]++; }
`;
  expect(unrolled(code, { ONE: 1, TWO: 2 }).replaceAll(/\s+/g, " ")).toBe(
    " { { sums[0u] += f(0u); } } { { sums[1u] += f(0u); } } for (var i = 0u; i < TWO; i++) { sums[i]++; } ",
  );
});

/**
 * The unit in plain WGSL: operands stay where they are staged, and each lane has every LANES-th element of a sum. Loops end
 * where no compiler knows (a stride is small): unrolled, lavapipe compiles them for minutes.
 */
const PLAIN_UNIT = `
alias Left = u32;
alias Right = u32;
alias Sum = array<f32, MATRIX_SIZE / LANES>;
fn load_left(first: u32) -> Left { return first; }
fn load_right(first: u32) -> Right { return first; }
fn half_of(octet: vec4u, index: u32) -> f32 { return unpack2x16float(octet[index / 2u])[index % 2u]; }
fn multiply_add(left: Left, right: Right, sum: Sum) -> Sum {
  let lane = subgroupExclusiveAdd(1u);
  var next = sum;
  for (var i = 0u; i < MATRIX_SIZE / LANES + (params.stride >> 16u); i++) {
    let row = (i * LANES + lane) / MATRIX_COLUMNS;
    let column = (i * LANES + lane) % MATRIX_COLUMNS;
    for (var k = 0u; k < MATRIX_INNER + (params.stride >> 16u); k++) {
      let a = half_of(staged_input[left + row * INPUT_STRIDE + k / 8u], k % 8u);
      next[i] += a * half_of(staged_weights[right + k * WEIGHT_STRIDE + column / 8u], column % 8u);
    }
  }
  return next;
}
fn store_sum(sum: Sum, first: u32) {
  let lane = subgroupExclusiveAdd(1u);
  for (var i = 0u; i < MATRIX_SIZE / LANES; i++) {
    let row = (i * LANES + lane) / MATRIX_COLUMNS;
    let column = (i * LANES + lane) % MATRIX_COLUMNS;
    staged_sums[first + row * BATCH_QUADS + column / 4u][column % 4u] = sum[i];
  }
}
`;

/** The same for attention: an operand says where it is staged, too. */
const PLAIN_ATTENTION_UNIT = `
struct Left { first: u32, of_queries: bool }
struct Right { first: u32, of_keys: bool }
alias Sum = array<f32, MATRIX_SIZE / LANES>;
alias Halves = array<f32, MATRIX_INNER>;
// Queries stay in registers while keys take their place: each lane keeps the rows of its own sums, which repeat every SPAN.
const SPAN = max(MATRIX_ROWS * MATRIX_COLUMNS / LANES, 1u);
var<private> kept: array<array<Halves, SPAN>, HEAD_INNERS>;
fn half_of(octet: vec4u, index: u32) -> f32 { return unpack2x16float(octet[index / 2u])[index % 2u]; }
fn load_left(first: u32) -> Left {
  let lane = subgroupExclusiveAdd(1u);
  let slot = first % ROW_STRIDE / (MATRIX_INNER / 8u);
  for (var i = 0u; i < SPAN + (params.images >> 16u); i++) {
    for (var k = 0u; k < MATRIX_INNER + (params.images >> 16u); k++) {
      let row = (i * LANES + lane) / MATRIX_COLUMNS;
      kept[slot][i][k] = half_of(staged_rows[first + row * ROW_STRIDE + k / 8u], k % 8u);
    }
  }
  return Left(slot, true);
}
fn load_weights(first: u32) -> Left { return Left(first, false); }
fn load_key(first: u32) -> Right { return Right(first, true); }
fn load_value(first: u32) -> Right { return Right(first, false); }
fn multiply_add(left: Left, right: Right, sum: Sum) -> Sum {
  let lane = subgroupExclusiveAdd(1u);
  var next = sum;
  for (var i = 0u; i < MATRIX_SIZE / LANES + (params.images >> 16u); i++) {
    let row = (i * LANES + lane) / MATRIX_COLUMNS;
    let column = (i * LANES + lane) % MATRIX_COLUMNS;
    for (var k = 0u; k < MATRIX_INNER + (params.images >> 16u); k++) {
      var a = 0.0;
      if (left.of_queries) { a = kept[left.first][i][k]; } else {
        let quad = staged_weights[left.first + row * WEIGHT_STRIDE * 2u + k / 4u];
        a = half_of(vec4u(quad, quad), k % 4u);
      }
      var b = 0.0;
      if (right.of_keys) { b = half_of(staged_rows[right.first + column * ROW_STRIDE + k / 8u], k % 8u); }
      else { b = half_of(staged_values[right.first + k * ROW_STRIDE + column / 8u], column % 8u); }
      next[i] += a * b;
    }
  }
  return next;
}
fn store_sum(sum: Sum, first: u32) {
  let lane = subgroupExclusiveAdd(1u);
  for (var i = 0u; i < MATRIX_SIZE / LANES; i++) {
    let row = (i * LANES + lane) / MATRIX_COLUMNS;
    let column = (i * LANES + lane) % MATRIX_COLUMNS;
    staged_sums[first + row * SCORE_QUADS + column / 4u][column % 4u] = sum[i];
  }
}
`;

/** `gpu` as if it had this unit. A convolution's loops are left as they are: written out, they compile for minutes too. */
function withPlainUnit(gpu: Gpu, unit: (typeof UNITS)[number], variant: MatrixVariant): Gpu {
  const plain = (code: string) =>
    code
      .replace(matrixUnit, PLAIN_UNIT)
      .replace(attentionUnit, PLAIN_ATTENTION_UNIT)
      .replace(matrixKernel(MATRIX_TILINGS[variant], unit, gpu.lanes!).source, source)
      .replace("enable chromium_experimental_subgroup_matrix;", "");
  return Object.create(gpu, {
    matrixUnit: { value: unit },
    pipeline: { value: (label: string, code: string) => gpu.pipeline(label, plain(code)) },
  }) as Gpu;
}

/** The names of the kernels that `gpu` is asked for. */
function watched(gpu: Gpu): { readonly kernels: readonly string[]; readonly gpu: Gpu } {
  const kernels: string[] = [];
  const pipeline = (label: string, code: string) => {
    kernels.push(label);
    return gpu.pipeline(label, code);
  };
  return { kernels, gpu: Object.create(gpu, { pipeline: { value: pipeline } }) as Gpu };
}

/** Attention of queries that fill no workgroup over keys that fill no block, twice as many of them as are staged at a time. */
async function expectAttentionRight(gpu: Gpu, width: number, causal: boolean): Promise<void> {
  const [images, heads, tokens] = [2, 2, 77];
  const head = headPadding(width);
  const row = 3 * heads * head.padded;
  const recorder = new Recorder();
  const tensor = recorder.input("qkv", [images, tokens, row]);
  const view = (part: number) => ({ tensor, offset: part * heads * head.padded });
  const views = { query: view(0), key: view(1), value: view(2) };
  recorder.output("y", recorder.attention("attention", views, { heads, head, causal }));
  const values = stored(normals(random(6), images * tokens * row), "f16");
  const { kernels, gpu: asked } = watched(gpu);
  const ran = await run(asked, { recorder, storage: "f16", inputs: { qkv: values }, choose: always("matrix") });
  expect(kernels).toContain("attention_matrix");
  const read = (part: number) => ({ values, row, offset: part * heads * head.padded });
  const of = { images, heads, queries: tokens, keys: tokens, width, padded: head.padded, causal };
  const reference = attention({ query: read(0), key: read(1), value: read(2) }, of);
  expectClose(ran.outputs.y!, halfWeights(reference, values), "f16");
}

async function expectRight(gpu: Gpu, variant: MatrixVariant): Promise<void> {
  const { recorder, n, h, w, c, outputs } = layer();
  const values = random(5);
  const weights = weightsFor(recorder, values, { type: "F16" });
  const input = stored(normals(values, n * h * w * c), "f16");
  const { kernels, gpu: asked } = watched(gpu);
  const ran = await run(asked, { recorder, storage: "f16", weights, inputs: { x: input }, choose: always(variant) });
  expect(kernels).toContain("conv2d_matrix");
  const reference = convolution({
    ...{ input, shape: [n, h, w, c], outputs, kernel: { height: 3, width: 3 }, stride: 1 },
    ...{ before: { top: 1, left: 1 }, output: { height: h, width: w } },
    weight: onDevice(weights, "conv.weight", "f16"),
    bias: onDevice(weights, "conv.bias", "f16"),
  });
  expectClose(ran.outputs.y!, reference, "f16");
}

describe.each(devices)("$name", ({ gpu }) => {
  const canPlay = gpu.lanes !== undefined && gpu.device.features.has("shader-f16");
  // Most with one buffer, as that compiles in half a second on lavapipe, and with two in seven.
  test.runIf(canPlay).each(
    UNITS.map((unit, index) => ({
      ...{ unit, title: title(unit) },
      variant: index < 3 ? ("matrix" as const) : ("matrix-64x128" as const),
    })),
  )("a convolution by a unit of $title in plain WGSL: $variant", ({ unit, variant }) =>
    expectRight(withPlainUnit(gpu, unit, variant), variant),
  );

  test.runIf(canPlay).each([
    { width: 8, causal: true, unit: UNITS[2]! },
    { width: 40, causal: false, unit: UNITS[0]! },
  ])("an attention $width wide in plain WGSL", ({ width, causal, unit }) =>
    expectAttentionRight(withPlainUnit(gpu, unit, "matrix"), width, causal),
  );

  test.runIf(gpu.matrixUnit !== undefined).each(MATRIX_VARIANTS)(
    "a convolution by this adapter's own unit: %s",
    (variant) => expectRight(gpu, variant),
  );
});
