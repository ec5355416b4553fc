/** `environment.mjs`: what the adapter has, and whether its matrix unit multiplies as it should, with Dawn's own words where not. */

import { BufferUsage, type Gpu, openGpu } from "../../src/gpu/device.ts";
import { openAdapter } from "../../src/gpu/drivers/adapter.ts";
import type { MatrixUnit, SubgroupMatrixConfig } from "../../src/gpu/matrix-unit.ts";
import { float16BitsToFloat32, float32ToFloat16Bits } from "../../src/platform/float16.ts";
import { randomValues } from "../random.ts";

const gpu = await openGpu();
const { device, facts } = gpu;
const { features, ...rest } = facts;
console.log(JSON.stringify(rest));
console.log(`features of the adapter: ${features.join(" ")}`);
console.log(`of the device: ${[...device.features].sort().join(" ")}`);
const limits: Record<string, number> = {};
for (const name in device.limits) {
  const value = (device.limits as unknown as Record<string, unknown>)[name];
  if (typeof value === "number") limits[name] = value;
}
console.log(`limits: ${JSON.stringify(limits)}`);
// The device's own copy of them is empty in this Dawn.
const { adapter } = await openAdapter();
const info = adapter.info as GPUAdapterInfo & { subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig> };
const configs = [...(info.subgroupMatrixConfigs ?? [])];
console.log(`subgroupMatrixConfigs: ${configs.length}`);
for (const { componentType, resultComponentType, M, N, K } of configs) {
  console.log(`  ${componentType} → ${resultComponentType}  M ${M} N ${N} K ${K}`);
}
console.log(`lanes ${gpu.lanes}, unit chosen ${JSON.stringify(gpu.matrixUnit)}`);

/** Where matrices are loaded from: halves in storage or in workgroup memory, or eight of them to an element of the latter. */
type Place = "storage" | "workgroup" | "octets";

/**
 * One subgroup multiplies `rows × inner` by `inner × columns` halves, read from `from` with rows `pad` elements longer than they
 * need be, and adds in `sum`.
 */
function probe({ rows, columns, inner }: MatrixUnit, sum: string, from: Place, pad: number): string {
  const [left, right] = [inner + pad, columns + pad];
  const load = (kind: string, name: string, stride: number) => {
    const array = { storage: name, workgroup: `staged_${name}`, octets: `octets_${name}` }[from];
    return `subgroupMatrixLoad<${kind}, row_major>(&${array}, 0u, ${from === "octets" ? stride / 8 : stride}u)`;
  };
  return `
enable f16; enable subgroups; enable chromium_experimental_subgroup_matrix;
alias Left = subgroup_matrix_left<f16, ${inner}, ${rows}>;
alias Right = subgroup_matrix_right<f16, ${columns}, ${inner}>;
alias Sum = subgroup_matrix_result<${sum}, ${columns}, ${rows}>;
@group(0) @binding(0) var<storage, read> a: array<f16>;
@group(0) @binding(1) var<storage, read> b: array<f16>;
@group(0) @binding(2) var<storage, read_write> c: array<${sum}>;
var<workgroup> staged_a: array<f16, ${rows * left}>;
var<workgroup> staged_b: array<f16, ${inner * right}>;
var<workgroup> octets_a: array<vec4u, ${(rows * left) / 8}>;
var<workgroup> octets_b: array<vec4u, ${(inner * right) / 8}>;
fn pair(x: f16, y: f16) -> u32 { return bitcast<u32>(vec2<f16>(x, y)); }
@compute @workgroup_size(${gpu.lanes})
fn main(@builtin(local_invocation_index) index: u32) {
  for (var i = index; i < ${rows * left}u; i += ${gpu.lanes}u) { staged_a[i] = a[i]; }
  for (var i = index; i < ${inner * right}u; i += ${gpu.lanes}u) { staged_b[i] = b[i]; }
  for (var i = index; i < ${(rows * left) / 8}u; i += ${gpu.lanes}u) {
    let f = i * 8u;
    octets_a[i] = vec4u(pair(a[f], a[f + 1u]), pair(a[f + 2u], a[f + 3u]), pair(a[f + 4u], a[f + 5u]), pair(a[f + 6u], a[f + 7u]));
  }
  for (var i = index; i < ${(inner * right) / 8}u; i += ${gpu.lanes}u) {
    let f = i * 8u;
    octets_b[i] = vec4u(pair(b[f], b[f + 1u]), pair(b[f + 2u], b[f + 3u]), pair(b[f + 4u], b[f + 5u]), pair(b[f + 6u], b[f + 7u]));
  }
  workgroupBarrier();
  var sum: Sum;
  sum = subgroupMatrixMultiplyAccumulate(${load("Left", "a", left)}, ${load("Right", "b", right)}, sum);
  sum = subgroupMatrixMultiplyAccumulate(${load("Left", "a", left)}, ${load("Right", "b", right)}, sum);
  subgroupMatrixStore<row_major>(&c, 0u, sum, ${columns}u);
}`;
}

function halfBits(values: Float32Array): Uint16Array<ArrayBuffer> {
  return Uint16Array.from(values, float32ToFloat16Bits);
}

/** The largest difference from twice the product in float64, of the largest value. */
async function differenceOf(of: Gpu, unit: MatrixUnit, sum: "f16" | "f32", from: Place, pad: number) {
  const { rows, columns, inner } = unit;
  const code = probe(unit, sum, from, pad);
  const pipeline = await of.pipeline(`probe ${sum} ${from}`, code);
  const [left, right] = [inner + pad, columns + pad];
  const values = {
    a: randomValues("a", rows * left, { deviation: 1, half: true }),
    b: randomValues("b", inner * right, { deviation: 1, half: true }),
  };
  const buffers = Object.entries(values).map(([name, numbers]) => {
    const bits = halfBits(numbers);
    const buffer = of.createBuffer(name, bits.byteLength);
    of.write(buffer, 0, bits.buffer);
    return buffer;
  });
  const bytes = rows * columns * (sum === "f32" ? 4 : 2);
  const out = of.createBuffer("c", bytes, BufferUsage.STORAGE | BufferUsage.COPY_SRC);
  const resources = [...buffers, out].map((buffer) => ({ buffer }));
  const group = of.bind("probe", pipeline, resources);
  of.submit("probe", (encoder) => {
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(1);
    pass.end();
  });
  const raw = await of.read(out, 0, bytes);
  const answer =
    sum === "f32" ? new Float32Array(raw.buffer) : Float32Array.from(new Uint16Array(raw.buffer), float16BitsToFloat32);
  let [worst, largest] = [0, 0];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      let exact = 0;
      for (let k = 0; k < inner; k++) exact += 2 * values.a[row * left + k]! * values.b[k * right + column]!;
      worst = Math.max(worst, Math.abs(answer[row * columns + column]! - exact));
      largest = Math.max(largest, Math.abs(exact));
    }
  }
  return worst / largest;
}

const halves = configs.filter(({ componentType }) => componentType === "f16");
for (const { M, N, K, resultComponentType: sum } of halves) {
  for (const from of ["storage", "workgroup", "octets"] as const) {
    for (const pad of [0, 8]) {
      const unit = { rows: M, columns: N, inner: K };
      const title = `unit ${M} × ${N} × ${K} f16 → ${sum} from ${from}, rows ${pad} longer`;
      try {
        const difference = await differenceOf(gpu, unit, sum as "f16" | "f32", from, pad);
        console.log(`${title}: ${difference < 5e-3 ? "right" : "WRONG"}, off by ${difference.toExponential(1)}`);
      } catch (error) {
        console.log(`${title}: FAILED\n${(error as Error).message}`);
      }
    }
  }
}
process.exit(0);
