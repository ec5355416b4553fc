/**
 * Every kernel that the product can assemble: each operation, each variant that can compute it, each storage, on adapters
 * that differ in subgroups, matrix units and textures; and the kernels that transform weights.
 */

import type { MatrixUnit } from "../../src/gpu/matrix-unit.ts";
import { layOut } from "../../src/graph/compile/layout.ts";
import type { PlanTarget } from "../../src/graph/compile/target.ts";
import type { Kernel, Params } from "../../src/graph/dispatch.ts";
import { finiteCheck } from "../../src/graph/ops/diffusion/finite-check.ts";
import { guidanceRescale } from "../../src/graph/ops/diffusion/guidance-rescale.ts";
import { latentToRgb } from "../../src/graph/ops/diffusion/latent-to-rgb.ts";
import { maskBlend } from "../../src/graph/ops/diffusion/mask-blend.ts";
import { modelInput } from "../../src/graph/ops/diffusion/model-input.ts";
import { packPicture } from "../../src/graph/ops/diffusion/pack-picture.ts";
import { philoxNormals } from "../../src/graph/ops/diffusion/philox-normals.ts";
import { ROW_QUADS } from "../../src/graph/ops/diffusion/rows.ts";
import { schedulerStep } from "../../src/graph/ops/diffusion/scheduler-step.ts";
import { edgeGradient, edgeLinked, edgeThin } from "../../src/graph/ops/picture/edges.ts";
import { gaussianBlur } from "../../src/graph/ops/picture/gaussian-blur.ts";
import { headPadding, Recorder } from "../../src/graph/recorder.ts";
import type { MatrixParameter, Storage, TableParameter, Tensor } from "../../src/graph/tensor.ts";
import { always, VARIANTS, type Variant } from "../../src/graph/variants.ts";
import {
  applyGainsKernel,
  applyGainsParams,
  gainsKernel,
  gainsParams,
  ONE,
  productKernel,
  productParams,
} from "../../src/memory/changed-weights.ts";
import { mergeKernel, mergeParams, vectorKernel, vectorParams } from "../../src/memory/merge-loras.ts";
import { transformKernel, transformParams } from "../../src/memory/transformed-weights.ts";
import { packingKernels, tableParams, weightsParams } from "../../src/memory/uploader.ts";

/** A kernel, and parameters that the host writes for it. */
export interface AssembledKernel {
  readonly kernel: Kernel;
  readonly params: Params;
}

const STORAGES: readonly Storage[] = ["f32", "f16"];

// NVIDIA's and Apple's.
const MATRIX_UNITS: readonly MatrixUnit[] = [
  { rows: 16, columns: 16, inner: 16 },
  { rows: 8, columns: 8, inner: 8 },
];

/** Adapters by what decides which kernels they get. */
const ADAPTERS: readonly Partial<PlanTarget>[] = [
  {},
  ...[4, 8, 16].flatMap((lanes) => [{ lanes }, { lanes, textured: () => true }]),
  ...[32, 64].flatMap((lanes) => [
    { lanes, hardware: true },
    ...MATRIX_UNITS.map((matrixUnit) => ({ lanes, hardware: true, matrixUnit, maxWorkgroupBytes: 49152 })),
  ]),
];

/** All operations, with the shapes and endings that change a kernel's code. */
export function recordAll(): Recorder {
  const g = new Recorder();
  const picture = g.input("picture", [1, 16, 16, 64]);
  const perImage = g.input("per image", [1, 64]);
  let x = g.conv2d(picture, "plain", { outputs: 64, padding: 1 });
  x = g.add(g.activation(g.add(x, perImage), "silu"), picture);
  x = g.activation(g.groupNorm(x, "norm", { groups: 32, eps: 1e-5 }), "silu");
  x = g.conv2d(g.concat(x, picture), "of two parts", { outputs: 64, padding: 1 });
  x = g.conv2d(g.upsampleNearest(x, "doubled", { height: 32, width: 32 }), "resized", { outputs: 64, padding: 1 });
  g.output("resized", g.upsampleNearest(x, "upsample", { height: 64, width: 64 }));
  g.output("narrow", g.conv2d(x, "narrow", { outputs: 4, padding: 1 }));
  g.output("strided", g.conv2d(x, "strided", { outputs: 320, kernel: 3, stride: 2, padding: 1, bias: false }));
  g.output(
    "affine",
    g.affine(g.concat(g.input("odd", [1, 4, 3]), g.input("other", [1, 4, 3])), "affine", { scale: 2 }),
  );
  const tokens = g.input("tokens", [1, 256, 64]);
  g.output(
    "gated",
    g.geglu(g.linear(g.layerNorm(tokens, "layer norm", { eps: 1e-5 }), "gated", { outputs: 512 }), "gate"),
  );
  g.output("gate apart", g.geglu(g.input("halves", [1, 4, 32]), "gate apart"));
  g.output("softmax", g.softmax(tokens, "softmax"));
  for (const width of [40, 64, 512]) {
    const view = { tensor: g.input(`heads ${width}`, [1, 256, width]), offset: 0 };
    const options = { heads: 1, head: headPadding(width) };
    g.output(`attention ${width}`, g.attention(`attention ${width}`, { query: view, key: view, value: view }, options));
  }
  const ids = g.input("ids", [77], { element: "u32" });
  const sizes = { images: 1, tokens: 77, vocabulary: 1000, positions: 77, channels: 64 };
  const added = g.input("added", [1, 3, 64], { element: "f32" });
  const embedded = g.embedding(ids, { table: "table", positions: "positions" }, sizes, added);
  g.output("gathered", g.gatherRows(embedded, g.input("row", [1], { element: "u32" }), "gather"));
  recordControl(g, picture);
  recordStep(g);
  return g;
}

/** Operations of networks beside a denoiser, and of their pictures. */
function recordControl(g: Recorder, x: Tensor): void {
  const factors = g.input("factors", [1, 2], { element: "f32" });
  g.output("scaled", g.addScaled(x, g.averagePool(x, "pooled"), { tensor: factors, column: 1 }));
  const tokens = g.input("read", [1, 4, 64]);
  g.output("joined", g.joinTokens(tokens, tokens, "joined"));
  const blurred = gaussianBlur(g, g.input("photo", [1, 32, 32, 3]), 1, "blur");
  const thin = edgeThin(g, edgeGradient(g, blurred, "gradient"), { low: 0.3, high: 0.6 }, "thin");
  g.output("edges", edgeLinked(g, thin, "linked"));
}

function recordStep(g: Recorder): void {
  const latents = g.state("latents", [1, 8, 8, 4]);
  const history = g.state("history", [5, 8, 8, 4]);
  const rows = g.input("rows", [ROW_QUADS, 4], { element: "f32" });
  const noise = philoxNormals(g, g.input("draws", [6], { element: "u32" }), [1, 8, 8, 4], "noise");
  const model = modelInput(g, latents, rows, 2, "model input");
  g.output("guided", guidanceRescale(g, model, rows, "rescale"));
  g.output("denoised", schedulerStep(g, { latents, model, noise, history, rows }, "step"));
  const original = g.input("original", [1, 8, 8, 4], { element: "f32" });
  const mask = g.input("mask", [1, 8, 8, 1], { element: "f32" });
  const known = g.input("known", [1, 4], { element: "f32" });
  g.output("blended", maskBlend(g, { latents, original, noise, mask, known }, "blend"));
  g.output("broken", finiteCheck(g, model, latents, "finite"));
  const matrix = g.input("rgb matrix", [5, 4], { element: "f32" });
  g.output("rgba", packPicture(g, latentToRgb(g, latents, matrix, "rgb"), "pack"));
}

/** All of them, each module once. */
export function assembledKernels(): AssembledKernel[] {
  const kernels = new Map<string, AssembledKernel>();
  for (const assembled of [...planKernels(), ...weightKernels()]) {
    // A kernel that is written parameters of other names somewhere stands here for each set of them.
    const key = JSON.stringify([assembled.kernel.code, Object.keys(assembled.params)]);
    if (!kernels.has(key)) kernels.set(key, assembled);
  }
  return [...kernels.values()];
}

function* planKernels(): Generator<AssembledKernel> {
  const g = recordAll();
  const facts = { maxBindingBytes: 2 ** 27, storageAlignment: 256, uniformAlignment: 256, lanes: undefined };
  for (const adapter of ADAPTERS) {
    for (const storage of STORAGES) {
      for (const weights of STORAGES) {
        for (const variant of [undefined, ...VARIANTS] as const) {
          const target = targetOf(adapter, storage, weights, variant);
          const { lowered } = layOut(facts, g, target);
          for (const { dispatches } of lowered) for (const { kernel, params } of dispatches) yield { kernel, params };
        }
      }
    }
  }
}

function targetOf(
  adapter: Partial<PlanTarget>,
  storage: Storage,
  weights: Storage,
  variant: Variant | undefined,
): PlanTarget {
  return {
    ...{ lanes: undefined, maxBindingBytes: 2 ** 27, maxTextureDimension: 8192, transformed: true },
    ...{ storage, weightStorage: weights, choose: variant && always(variant) },
    ...adapter,
  };
}

function* weightKernels(): Generator<AssembledKernel> {
  const { parameters } = recordAll();
  const matrix = parameters.get("plain.weight") as MatrixParameter;
  const table = parameters.get("table.weight") as TableParameter;
  const run = { outputs: 64, firstRow: 0, firstChannel: 0, firstQuad: 0, packedQuads: 16, tensor: 0 };
  for (const storage of STORAGES) {
    const packing = packingKernels(storage);
    yield { kernel: packing.matrix, params: weightsParams(matrix, { ...run, format: "F16" }, 1) };
    yield {
      kernel: packing.table,
      params: tableParams(table, { rows: 1000, format: "BF16", firstRow: 0, tensor: 0 }, 1),
    };
    yield { kernel: mergeKernel(storage), params: mergeParams(matrix, 0, { rank: 4, before: storage, gridWidth: 1 }) };
    const ofOutputs = true;
    yield { kernel: applyGainsKernel(storage), params: applyGainsParams(matrix, 0, { ofOutputs, gridWidth: 1 }) };
    yield { kernel: gainsKernel(), params: gainsParams(matrix, 0, { ofOutputs, strength: 1 }) };
    yield { kernel: vectorKernel(), params: vectorParams(4, 1) };
    const place = { coefficient: 1, gridWidth: 1 };
    yield { kernel: productKernel(), params: productParams(matrix, 0, { factors: [ONE], ...place }) };
    for (const transform of ["winograd", "subpixel"] as const) {
      yield { kernel: transformKernel(transform, storage), params: transformParams(transform, matrix, 1) };
    }
  }
}
