/**
 * Everything of a plan that is known before the device is asked for anything: the operations as they will run, where
 * their tensors lie, the dispatches they become, and how many bytes all of it takes.
 */

import type { Gpu } from "../../gpu/device.ts";
import { atOnce } from "../../platform/turns.ts";
import { type Binding, type Dispatch, paramBytes, type Scratch, type Target } from "../dispatch.ts";
import { TensorTooLargeError } from "../errors.ts";
import { lower, type Operation, readsOf } from "../ops/table.ts";
import type { Recorder } from "../recorder.ts";
import type { SplitOptions } from "../slicing.ts";
import { type MatrixParameter, type Tensor, tensorBytes } from "../tensor.ts";
import { shouldGate, shouldJoin } from "../variants.ts";
import {
  type MatrixTexture,
  parameterBytes,
  textureBytes,
  transformedTexture,
  type WeightTransform,
} from "../weights.ts";
import { fuse, joinGates, joinGroupNorms } from "./fuse.ts";
import { align, type MemoryPlan, planMemory } from "./memory.ts";
import { split } from "./split.ts";
import { type PlanTarget, targetFor } from "./target.ts";

/** A recording. */
export type Recorded = Readonly<
  Pick<Recorder, "inputs" | "states" | "outputs"> & { readonly operations: readonly Operation[] }
>;

/** The facts of a GPU that decide how tensors lie in memory. */
export type MemoryFacts = Pick<Gpu, "maxBindingBytes" | "storageAlignment" | "lanes">;

export interface LayoutOptions {
  /** Tensors over this many bytes are split. Default: as many as the adapter binds at once. */
  readonly maxTensorBytes?: number;
  /** Outputs and states that the host will read, each by way of a buffer of the plan's own. */
  readonly reads?: readonly string[];
}

export interface Layout {
  /** The operations' dispatches, the prologue's first. */
  readonly lowered: readonly { readonly prologue: boolean; readonly dispatches: readonly Dispatch[] }[];
  readonly memory: MemoryPlan;
  /** Inputs and states by name, in bytes. */
  readonly external: ReadonlyMap<string, { readonly tensor: Tensor; readonly size: number }>;
  /** Where each dispatch's block lies among all of them, and how long they are together, in bytes. */
  readonly uniforms: { readonly offsets: ReadonlyMap<Dispatch, number>; readonly size: number };
  readonly scratch: ReadonlyMap<string, Pick<Scratch, "width" | "height">>;
  /** The weights that are read transformed, and the textures that hold them. */
  readonly transformed: readonly TransformedMatrix[];
  /** Bytes that the host reads by name. */
  readonly reads: ReadonlyMap<string, number>;
}

export interface TransformedMatrix {
  readonly matrix: MatrixParameter;
  readonly transform: WeightTransform;
  readonly texture: MatrixTexture;
}

/** Device memory of a plan, in bytes. */
export interface Footprint {
  /** The part that it owns: arenas, inputs, states, parameter blocks, scratch, read-back. */
  readonly bytes: number;
  /** The part of them that is activations. */
  readonly arenas: number;
  /** The part of them that is textures between the steps of one operation. */
  readonly scratch: number;
  /** Beside it, weights transformed for faster kernels, which plans of the same weights share. */
  readonly transformed: number;
  /** All of it while it is made, at the most. */
  readonly peak: number;
}

/** An input of kernels that a dispatch does not use. */
export const BLANK_BYTES = 256;

/** @throws TensorTooLargeError if a tensor does not fit */
export function layOut(...of: Parameters<typeof layOutInPieces>): Layout {
  return atOnce(layOutInPieces(...of));
}

/** The same in pieces: a large network has thousands of operations. */
export function* layOutInPieces(
  gpu: MemoryFacts & Pick<Gpu, "uniformAlignment">,
  recorder: Recorded,
  target: PlanTarget,
  options: LayoutOptions = {},
): Generator<void, Layout, void> {
  const { storage } = target;
  const { ordered, isPrologue, memory } = yield* arrange(gpu, recorder, target, options.maxTensorBytes);
  const lowered: { readonly prologue: boolean; readonly dispatches: readonly Dispatch[] }[] = [];
  for (const operation of ordered) {
    lowered.push({ prologue: isPrologue(operation), dispatches: lower(operation, targetFor(operation, target)) });
    yield;
  }
  const dispatches = lowered.flatMap((entry) => entry.dispatches);
  const bindings = dispatches.flatMap((dispatch) => dispatch.bindings);
  const external = [...recorder.inputs, ...recorder.states].map(
    ([name, tensor]) => [name, { tensor, size: align(tensorBytes(tensor, storage), 16) }] as const,
  );
  const results = new Map([...recorder.states, ...recorder.outputs]);
  return {
    lowered,
    memory,
    external: new Map(external),
    uniforms: placeUniforms(dispatches, gpu.uniformAlignment),
    scratch: scratchShapes(bindings),
    transformed: transformedMatrices(bindings, target),
    reads: new Map((options.reads ?? []).map((name) => [name, tensorBytes(results.get(name)!, storage)])),
  };
}

/**
 * The bytes of a layout with weights stored as `target` says. `has`: those whose transform is there already.
 * `compile` takes exactly as many.
 */
export function footprintOf(
  layout: Layout,
  target: PlanTarget,
  has: (matrix: MatrixParameter, transform: WeightTransform) => boolean = () => false,
): Footprint {
  const sum = (sizes: Iterable<number>) => [...sizes].reduce((total, size) => total + size, 0);
  const arenas = sum(layout.memory.arenas);
  const scratch = sum([...layout.scratch.values()].map(textureBytes));
  const inputs = sum([...layout.external.values()].map(({ size }) => size));
  const readBack = sum([...layout.reads.values()].map((size) => align(size, 16)));
  const bytes = arenas + inputs + BLANK_BYTES + layout.uniforms.size + scratch + readBack;
  let transformed = 0;
  let peak = bytes;
  for (const { matrix, transform, texture } of layout.transformed) {
    if (has(matrix, transform)) continue;
    const size = textureBytes(texture);
    transformed += size;
    // Made in a buffer, from a buffer, by a dispatch with a block of its own; then copied into its texture.
    const { textured, weightStorage } = target.components?.get(matrix.component) ?? target;
    const source = textured?.(matrix) ? sum(parameterBytes(matrix, weightStorage, target)) : 0;
    peak = Math.max(peak, bytes + transformed + size + source + TRANSFORM_BLOCK_BYTES);
  }
  return { bytes, arenas, scratch, transformed, peak };
}

const TRANSFORM_BLOCK_BYTES = 16;

/** The operations of a plan as they will run: fused, and split where they are too large. */
export function runnableOperations(gpu: MemoryFacts, recorder: Recorded, target: PlanTarget): readonly Operation[] {
  return atOnce(arrange(gpu, recorder, target)).ordered;
}

/** The operations as they will run, the prologue's first, and where their tensors lie. */
interface Arrangement {
  readonly ordered: readonly Operation[];
  readonly isPrologue: (operation: Operation) => boolean;
  readonly memory: MemoryPlan;
}

function* arrange(
  gpu: MemoryFacts,
  recorder: Recorded,
  target: PlanTarget,
  maxTensorBytes = Infinity,
): Generator<void, Arrangement, void> {
  const { storage } = target;
  const outputs = new Set(recorder.outputs.values());
  const options = { storage, maxTensorBytes: Math.min(maxTensorBytes, gpu.maxBindingBytes) };
  const fused = fuse(recorder.operations, outputs);
  yield;
  if ((target.batch ?? 1) > 1) needUncut(fused, target.batch!, options);
  const whole = split(fused, outputs, options);
  yield;
  const gated = joinGates(whole, outputs, (layer) => shouldGate(layer, targetFor(layer, target)));
  const operations = joinGroupNorms(gated, outputs, (norm) => shouldJoin(norm, targetFor(norm, target)));
  yield;
  const isPrologue = prologueOf(operations);
  const ordered = [...operations.filter(isPrologue), ...operations.filter((operation) => !isPrologue(operation))];
  const steps = ordered.filter((operation) => !isPrologue(operation));
  const madeOnce = new Set(ordered.filter(isPrologue).map((operation) => operation.output.id));
  const readByStep = steps.flatMap(readsOf).map((tensor) => tensor.id);
  const kept = new Set([...[...outputs].map((tensor) => tensor.id), ...readByStep.filter((id) => madeOnce.has(id))]);

  yield;
  const memory = planMemory(ordered, kept, {
    storage,
    alignment: Math.max(gpu.storageAlignment, 16),
    maxArenaBytes: gpu.maxBindingBytes,
  });
  return { ordered, isPrologue, memory };
}

/**
 * Sums of slices round as no part of the batch alone would.
 * @throws TensorTooLargeError if a tensor of a batch would be sliced
 */
function needUncut(operations: readonly Operation[], batch: number, { storage, maxTensorBytes }: SplitOptions): void {
  const cut = operations.find(({ output }) => tensorBytes(output, storage) > maxTensorBytes);
  if (cut === undefined) return;
  throw new TensorTooLargeError(
    `${cut.name}: a batch of ${batch} needs [${cut.output.shape}] in one piece, and this adapter binds at most ${maxTensorBytes} bytes`,
  );
}

/** Which operations follow from constant inputs alone. */
function prologueOf(operations: readonly Operation[]): (operation: Operation) => boolean {
  const constant = new Set<number>();
  const members = new Set<Operation>();
  for (const operation of operations) {
    const reads = readsOf(operation);
    if (!reads.every((tensor) => tensor.constant || constant.has(tensor.id))) continue;
    constant.add(operation.output.id);
    members.add(operation);
  }
  // A plan of which everything follows from its constants has no steps left to hoist from: it is all steps.
  return members.size === operations.length ? () => false : (operation) => members.has(operation);
}

function placeUniforms(dispatches: readonly Dispatch[], alignment: number): Layout["uniforms"] {
  const offsets = new Map<Dispatch, number>();
  let end = 0;
  for (const dispatch of dispatches) {
    offsets.set(dispatch, end);
    end = align(end + paramBytes(dispatch.params), alignment);
  }
  return { offsets, size: Math.max(end, 16) };
}

/** A texture for each name of scratch, as large as the largest of that name. */
function scratchShapes(bindings: readonly Binding[]): Layout["scratch"] {
  const shapes = new Map<string, { width: number; height: number }>();
  for (const binding of bindings) {
    if (typeof binding === "string" || !("scratch" in binding)) continue;
    const { name, width, height } = binding.scratch;
    const known = shapes.get(name) ?? { width: 0, height: 0 };
    shapes.set(name, { width: Math.max(known.width, width), height: Math.max(known.height, height) });
  }
  return shapes;
}

function transformedMatrices(bindings: readonly Binding[], target: Target): Layout["transformed"] {
  const transforms = new Map<MatrixParameter, Set<WeightTransform>>();
  const matrices: TransformedMatrix[] = [];
  for (const binding of bindings) {
    if (typeof binding === "string" || !("transformed" in binding)) continue;
    const { transformed: matrix, transform } = binding;
    const known = transforms.get(matrix) ?? new Set();
    transforms.set(matrix, known);
    if (!known.has(transform))
      matrices.push({ matrix, transform: transform, texture: transformedTexture(matrix, transform, target)! });
    known.add(transform);
  }
  return matrices;
}
