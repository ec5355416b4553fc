// Noise as `torch.randn(count, device="cuda", generator=…)` draws it: Philox4x32-10 (Salmon et al. 2011, "Parallel Random
// Numbers: As Easy as 1, 2, 3"), four words a counter, two normals a pair of words by Box–Muller as in cuRAND. A value
// depends only on its index, so a kernel can make any of them alone. This file is the definition; the WGSL kernel and the
// machines without one follow it.
//
// Layout. PyTorch launches `threads = 256 · min(ceil(count / 256), multiprocessors · floor(threadsPerMultiprocessor / 256))`
// threads (`calc_execution_policy` in ATen/native/cuda/DistributionTemplates.h), and thread t, in its k-th turn, makes the
// four elements t + threads·(4k + lane), lane 0 to 3, from the four words of one counter. So for element i:
//
//   t = i mod threads,  row = floor(i / threads),  lane = row mod 4,  k = floor(row / 4)
//   words   = philox4x32(counter = [call + k  (64 bits, low word first), t  (64 bits)], key = seed  (64 bits, low first))
//   (x, y)  = lane < 2 ? words[0..1] : words[2..3]
//   u       = x · 2⁻³² + 2⁻³³,  v = y · 2π·2⁻³² + 2π·2⁻³³      (float32, each with a single rounding, x and y as float32)
//   value   = sqrt(−2 ln u) · (lane even ? sin v : cos v)
//
// `call` is 0 after seeding; a draw of `count` advances it by ceil(count / (4·threads)): the whole turns of all threads.
//
// While count ≤ 256 · (the device's blocks) there is one element a thread, threads ≥ count and only lane 0 is used: the
// result is then the same on every such GPU. That holds to 40,960 elements on a T4, 125,952 on a 3090, 221,184 on an A100;
// a 512×512 SD image has 16,384, a 1024×1024 SDXL image 65,536 (times the images a prompt drawn in one call). Above it
// the number of threads, and so the picture, depends on the GPU.
//
// CUDA's fast sine and cosine (`__sincosf`) differ from these by up to about 10⁻⁶.

import { atOnce } from "../platform/turns.ts";
import { type NoiseGenerator, PIECE, seedBits } from "./noise.ts";

const f32 = Math.fround;

/** The two figures of a CUDA device that the layout of large draws depends on. */
export interface CudaDevice {
  readonly multiprocessors: number;
  readonly threadsPerMultiprocessor: number;
}

/** NVIDIA A100: the layout used unless another is asked for. */
export const A100: CudaDevice = { multiprocessors: 108, threadsPerMultiprocessor: 2048 };

/** Everything a kernel needs to make element i of one draw; plain 32-bit integers. */
export interface PhiloxDraw {
  /** Low and high word of the seed. */
  readonly key: readonly [number, number];
  /** Low and high word of the counter's first half at turn 0. */
  readonly call: readonly [number, number];
  /** Threads of the launch being imitated. */
  readonly threads: number;
}

/** `torch.Generator("cuda")` after `manual_seed`. */
export interface CudaGenerator extends NoiseGenerator {
  /** Parameters of the next draw of `count` normals for a kernel to make, and the generator moved past it. */
  draw(count: number): PhiloxDraw;
}

/** Block size of PyTorch's random kernels, in threads. */
const BLOCK_THREADS = 256;
/** Elements a thread makes of one counter. */
const LANES = 4;

/**
 * A generator seeded as `torch.Generator("cuda").manual_seed(seed)`: by all 64 bits.
 * @throws RangeError for a number that is not a safe integer; give larger seeds as bigint.
 */
export function cudaGenerator(seed: bigint | number, device: CudaDevice = A100): CudaGenerator {
  const key = words64(seedBits(seed));
  let call = 0n;
  const draw = (count: number): PhiloxDraw => {
    const threads = launchThreads(count, device);
    const parameters = { key, call: words64(call), threads };
    call += BigInt(Math.ceil(count / (LANES * threads)));
    return parameters;
  };
  function* randnInPieces(count: number): Generator<void, Float32Array, void> {
    const values = new Float32Array(count);
    if (count === 0) return values;
    const parameters = draw(count);
    for (let i = 0; i < count; i++) {
      values[i] = philoxNormal(parameters, i);
      if (i % PIECE === PIECE - 1) yield;
    }
    return values;
  }
  return { draw, randn: (count) => atOnce(randnInPieces(count)), randnInPieces };
}

/** Threads PyTorch launches to make `count` normals on `device`; at least one block. */
export function launchThreads(count: number, device: CudaDevice): number {
  const blocksPerMultiprocessor = Math.floor(device.threadsPerMultiprocessor / BLOCK_THREADS);
  const most = device.multiprocessors * blocksPerMultiprocessor;
  return BLOCK_THREADS * Math.max(1, Math.min(Math.ceil(count / BLOCK_THREADS), most));
}

/** Element `index` of a draw. */
export function philoxNormal(draw: PhiloxDraw, index: number): number {
  const thread = index % draw.threads;
  const row = Math.floor(index / draw.threads);
  const lane = row % LANES;
  const turn = Math.floor(row / LANES);
  const low = draw.call[0] + turn;
  const carry = low >= 2 ** 32 ? 1 : 0;
  const words = philox4x32([low >>> 0, (draw.call[1] + carry) >>> 0, thread, 0], draw.key);
  const [x, y] = lane < 2 ? [words[0], words[1]] : [words[2], words[3]];
  const [first, second] = boxMuller(x, y);
  return lane % 2 === 0 ? first : second;
}

/**
 * Philox4x32 with ten rounds: four pseudo-random words from a counter and a key, all unsigned 32-bit integers.
 */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = multiply32(0xd2511f53, c0);
    const [high1, low1] = multiply32(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

const TWO_POW_MINUS_32 = 2 ** -32;
/** cuRAND's constant is a float32 product, rounded once more than 2π·2⁻³² itself. */
const TWO_PI_TWO_POW_MINUS_32 = f32(f32(2.3283064e-10) * f32(6.2831855));

/** Two normals from two words, in cuRAND's order: sine first. */
function boxMuller(x: number, y: number): [number, number] {
  const u = f32(f32(x) * TWO_POW_MINUS_32 + TWO_POW_MINUS_32 / 2);
  const v = f32(f32(y) * TWO_PI_TWO_POW_MINUS_32 + TWO_PI_TWO_POW_MINUS_32 / 2);
  const radius = f32(Math.sqrt(f32(-2 * f32(Math.log(u)))));
  return [f32(f32(Math.sin(v)) * radius), f32(f32(Math.cos(v)) * radius)];
}

/** High and low word of the 64-bit product of two words, by 16-bit halves. */
function multiply32(a: number, b: number): [number, number] {
  const [aHigh, aLow] = [a >>> 16, a & 0xffff];
  const [bHigh, bLow] = [b >>> 16, b & 0xffff];
  const low = aLow * bLow;
  const middle = aHigh * bLow + (low >>> 16);
  const cross = aLow * bHigh + (middle % 0x10000);
  const high = aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(cross / 0x10000);
  return [high >>> 0, Math.imul(a, b) >>> 0];
}

function words64(value: bigint): [number, number] {
  const bits = BigInt.asUintN(64, value);
  return [Number(bits & 0xffffffffn), Number(bits >> 32n)];
}
