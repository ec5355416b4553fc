// Noise as `torch.Generator("cpu")` draws it, so that a seed means the same picture here as in PyTorch on the CPU.
// The engine is MT19937 (Matsumoto & Nishimura 1998); what is PyTorch's own is how words become numbers, and that calls
// on one generator share its state, including a normal kept back by short draws:
//
//   randn, 16 or more  one 24-bit uniform a number, then Box–Muller over blocks of 16; the last 16 are drawn anew where the
//                      count is not a multiple of 16
//   randn, fewer       pairs from two 53-bit uniforms each, in double; the second of a pair is kept for the next short draw
//   rand               one 24-bit uniform a number
//   randint            a word (or, for wide ranges, two) modulo the range
//
// Values agree with PyTorch to about 2·10⁻⁶: its vectorised logarithm, sine and cosine are its own. Integers are exact.
// `philox.ts` is the other generator, that of `torch.Generator("cuda")`.

import { atOnce } from "../platform/turns.ts";

/** A stream of random numbers; each call continues where the last one stopped. */
export interface NoiseGenerator {
  /** `count` normal deviates, as `torch.randn(count, generator=…)`. */
  randn(count: number): Float32Array;
  /** The same in pieces. Nothing else may be drawn until it is done. */
  randnInPieces(count: number): Generator<void, Float32Array, void>;
}

/** `torch.Generator("cpu")` after `manual_seed`. */
export interface CpuGenerator extends NoiseGenerator {
  /** `count` uniform deviates in [0, 1), as `torch.rand`. */
  rand(count: number): Float32Array;
  /**
   * `count` integers in [low, high), as `torch.randint`, exact in float64.
   * @throws RangeError unless low < high are safe integers no more than 2⁵³ − 1 apart.
   */
  randint(low: number, high: number, count: number): Float64Array;
}

/** PyTorch ≥ 2 takes two words for ranges from here on (1.13 did from 2³² on). */
const WIDE_RANGE = 2 ** 28;

/** Numbers between two yields, which take a millisecond or less; a multiple of the block. */
export const PIECE = 8192;

/** Block of the long `randn` path: eight radii, eight angles. */
const BLOCK = 16;

/**
 * A generator seeded as `torch.Generator("cpu").manual_seed(seed)`: by the low 32 bits of the seed (of its two's
 * complement where negative).
 * @throws RangeError for a number that is not a safe integer; give larger seeds as bigint.
 */
export function cpuGenerator(seed: bigint | number): CpuGenerator {
  const nextWord = mersenneTwister(Number(BigInt.asUintN(32, seedBits(seed))));
  let spareNormal: number | null = null;

  const uniform24 = (): number => (nextWord() & 0xffffff) / 2 ** 24;

  /** 53 bits of two words, the first one high. */
  const uniform53 = (): number => {
    const high = nextWord() & 0x1fffff;
    return (high * 2 ** 32 + nextWord()) / 2 ** 53;
  };

  const shortNormal = (): number => {
    if (spareNormal !== null) {
      const normal = spareNormal;
      spareNormal = null;
      return normal;
    }
    const angle = 2 * Math.PI * uniform53();
    const radius = Math.sqrt(-2 * Math.log1p(-uniform53()));
    spareNormal = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };

  function* randnInPieces(count: number): Generator<void, Float32Array, void> {
    const values = new Float32Array(count);
    if (count < BLOCK) return values.map(shortNormal);
    for (let i = 0; i < count; i++) {
      values[i] = uniform24();
      if (i % PIECE === PIECE - 1) yield;
    }
    for (let start = 0; start + BLOCK <= count; start += BLOCK) {
      normalBlock(values, start);
      if (start % PIECE === 0) yield;
    }
    if (count % BLOCK !== 0) {
      for (let i = count - BLOCK; i < count; i++) values[i] = uniform24();
      normalBlock(values, count - BLOCK);
    }
    return values;
  }

  return {
    randn: (count) => atOnce(randnInPieces(count)),
    randnInPieces,
    rand: (count) => new Float32Array(count).map(uniform24),
    randint(low, high, count) {
      const range = high - low;
      if (!Number.isSafeInteger(low) || !Number.isSafeInteger(high) || !Number.isSafeInteger(range) || range < 1) {
        throw new RangeError("randint needs safe integers low < high, no more than 2^53 - 1 apart");
      }
      const wide = (): number => {
        const high64 = BigInt(nextWord()) << 32n;
        return Number((high64 | BigInt(nextWord())) % BigInt(range));
      };
      return new Float64Array(count).map(() => low + (range >= WIDE_RANGE ? wide() : nextWord() % range));
    },
  };
}

/**
 * A seed as an unsigned 64-bit integer, negative ones in two's complement.
 * @throws RangeError for a number that is not a safe integer.
 */
export function seedBits(seed: bigint | number): bigint {
  if (typeof seed === "number" && !Number.isSafeInteger(seed)) {
    throw new RangeError("a seed must be an integer; beyond 2^53 give it as a bigint");
  }
  return BigInt.asUintN(64, BigInt(seed));
}

/** Box–Muller in place over 16 uniforms: the first eight give radii, the last eight angles. */
function normalBlock(values: Float32Array, start: number): void {
  for (let j = start; j < start + BLOCK / 2; j++) {
    const radius = Math.sqrt(-2 * Math.log(1 - (values[j] as number)));
    const angle = 2 * Math.PI * (values[j + BLOCK / 2] as number);
    values[j] = radius * Math.cos(angle);
    values[j + BLOCK / 2] = radius * Math.sin(angle);
  }
}

/** MT19937: a function that gives the next 32-bit word. */
function mersenneTwister(seed: number): () => number {
  const size = 624;
  const middle = 397;
  const state = new Uint32Array(size);
  state[0] = seed;
  for (let i = 1; i < size; i++) {
    const before = state[i - 1] as number;
    state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i;
  }
  let position = size;

  const twist = (): void => {
    for (let i = 0; i < size; i++) {
      const word = ((state[i] as number) & 0x80000000) | ((state[(i + 1) % size] as number) & 0x7fffffff);
      state[i] = (state[(i + middle) % size] as number) ^ (word >>> 1) ^ (word & 1 ? 0x9908b0df : 0);
    }
    position = 0;
  };

  return () => {
    if (position === size) twist();
    let word = state[position++] as number;
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  };
}
