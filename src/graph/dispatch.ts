/**
 * A lowered operation: dispatches of kernels over tensors and parameters. Pipelines and buffers come later, in
 * `compile/`.
 */

import activation from "../../shaders/prelude/activation.wgsl" with { type: "text" };
import storageF16 from "../../shaders/prelude/storage_f16.wgsl" with { type: "text" };
import storageF32 from "../../shaders/prelude/storage_f32.wgsl" with { type: "text" };
import weightsF16 from "../../shaders/prelude/weights_f16.wgsl" with { type: "text" };
import weightsF32 from "../../shaders/prelude/weights_f32.wgsl" with { type: "text" };
import type { MatrixUnit } from "../gpu/matrix-unit.ts";
import type { Choose } from "./choice.ts";
import type { MatrixParameter, Parameter, Storage, Tensor } from "./tensor.ts";
import type { WeightTransform } from "./weights.ts";

/** The adapter and the choices that kernels are made for. */
export interface Target {
  /** True if the adapter is a real GPU. Default: a software driver. */
  readonly hardware?: boolean;
  /** Subgroup size, if it is known; without it the workgroup-tiled variants run. */
  readonly lanes: number | undefined;
  /** The adapter's matrix unit, if it has one that takes halves and adds in f32. */
  readonly matrixUnit?: MatrixUnit;
  /** How activations are stored. */
  readonly storage: Storage;
  /** How weights are stored. */
  readonly weightStorage: Storage;
  readonly maxBindingBytes: number;
  readonly maxTextureDimension: number;
  /** Memory of a workgroup, in bytes. Default: as much as WebGPU guarantees. */
  readonly maxWorkgroupBytes?: number;
  /** True if transforms of the weights can be had. */
  readonly transformed?: boolean;
  /** True if a matrix lies in a texture. Default: all lie in buffers. */
  readonly textured?: (matrix: MatrixParameter) => boolean;
  /** Overrules which of several variants does an operation. */
  readonly choose?: Choose;
  /** Independent parts of the first dimension: kernels are chosen as for one, so that its bits do not depend on the others. */
  readonly batch?: number;
}

/** Invocations of a workgroup that WebGPU guarantees. */
export const MAX_WORKGROUP_SIZE = 256;
// Memory of a workgroup that WebGPU guarantees.
const WORKGROUP_BYTES = 16384;

export function maxWorkgroupBytes(target: Target): number {
  return target.maxWorkgroupBytes ?? WORKGROUP_BYTES;
}

/** Subgroups of so few lanes have kernels of their own. */
export const QUAD_LANES = 4;

/** A range of a tensor, in bytes from its start; the whole where no range is given. */
export interface TensorBinding {
  readonly tensor: Tensor;
  readonly offset?: number;
  readonly size?: number;
}

/** A parameter's buffer; `piece` for a table that is stored in several. */
export interface ParameterBinding {
  readonly parameter: Parameter;
  readonly piece?: number;
}

/** A texture that dispatches pass to those right after them; all of one name share one, as large as any of them asks. */
export interface Scratch {
  readonly name: string;
  readonly width: number;
  readonly height: number;
}

/** "blank": an input of the kernel that this dispatch does not use; "unused": a number that the kernel has nothing at. */
export type Binding =
  | TensorBinding
  | ParameterBinding
  | { readonly scratch: Scratch }
  /** The transformed weights of a 3 × 3 convolution. */
  | { readonly transformed: MatrixParameter; readonly transform: WeightTransform }
  | "blank"
  | "unused";

export interface Kernel {
  readonly name: string;
  readonly code: string;
}

export interface Dispatch {
  readonly kernel: Kernel;
  /** The layer's name. */
  readonly label: string;
  readonly params: Params;
  /** Bindings 1, 2, … of the kernel; 0 is `params`. */
  readonly bindings: readonly Binding[];
  readonly workgroups: readonly [number, number, number];
}

/** A number that the kernel reads as f32; plain numbers are u32. */
export interface Float {
  readonly f32: number;
}

/** A kernel's uniform block: the 32-bit fields of its struct `Params`, by their names and in their order there. */
export type Params = Readonly<Record<string, number | boolean | Float>>;

/** Bytes of a uniform block. */
export function paramBytes(params: Params): number {
  return Math.ceil(Object.keys(params).length / 4) * 16;
}

/** A uniform block as it lies in memory. */
export function packParams(params: Params): ArrayBuffer {
  const bytes = new ArrayBuffer(paramBytes(params));
  const view = new DataView(bytes);
  Object.values(params).forEach((field, index) => {
    if (typeof field === "object") view.setFloat32(index * 4, field.f32, true);
    else view.setUint32(index * 4, Number(field), true);
  });
  return bytes;
}

// Below WebGPU's guaranteed 65535 workgroups a dimension.
const MAX_GRID_WIDTH = 32768;

/** One dimension of workgroups folded into two. */
export function fold(count: number): { width: number; height: number } {
  const width = Math.min(Math.max(count, 1), MAX_GRID_WIDTH);
  return { width, height: Math.ceil(Math.max(count, 1) / width) };
}

/** Workgroups of 64 for `invocations`, and the width to tell the kernel. */
export function grid(invocations: number): { workgroups: [number, number, number]; width: number } {
  const { width, height } = fold(Math.ceil(invocations / 64));
  return { workgroups: [width, height, 1], width };
}

export interface KernelOptions {
  /** Preludes between the storage types and the kernel's own file. */
  readonly preludes?: readonly string[];
  readonly weightStorage?: Storage;
  readonly subgroups?: number;
  /** Extensions of WGSL that the kernel needs besides subgroups. */
  readonly extensions?: readonly string[];
  readonly constants?: Readonly<Record<string, number>>;
}

/** The whole module of a kernel: constants of this pipeline, element types, shared functions, then its own file. */
export function kernel(name: string, source: string, storage: Storage, options: KernelOptions = {}): Kernel {
  const constants = { ...options.constants, ...(options.subgroups ? { LANES: options.subgroups } : {}) };
  const parts = [
    ...(options.subgroups ? ["enable subgroups;"] : []),
    ...(options.extensions ?? []).map((extension) => `enable ${extension};`),
    ...Object.entries(constants).map(([constant, value]) => `const ${constant} = ${value}u;`),
    storage === "f16" ? storageF16 : storageF32,
    ...(options.weightStorage ? [options.weightStorage === "f16" ? weightsF16 : weightsF32] : []),
    activation,
    ...(options.preludes ?? []),
    source,
  ];
  return sharedKernel(name, parts);
}

interface Step {
  readonly next: Map<string, Step>;
  kernel?: Kernel;
}

const kernels: Step = { next: new Map() };

/** One kernel, and one string of its code, for the same parts: a plan may have tens of thousands of dispatches. */
function sharedKernel(name: string, parts: readonly string[]): Kernel {
  let step = kernels;
  for (const part of [name, ...parts]) {
    const next = step.next.get(part) ?? { next: new Map() };
    step.next.set(part, next);
    step = next;
  }
  step.kernel ??= { name, code: parts.join("\n") };
  return step.kernel;
}
