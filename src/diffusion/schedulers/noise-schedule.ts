// The forward process a model was trained with: beta_t, and ᾱ_t = Π (1 − beta_s), "alphas_cumprod". Later stages read ᾱ
// at integer timesteps, so the values here are rounded to float32 where the reference holds float32 tensors; all else in
// this folder is float64. Formulas: Ho et al. 2020 (linear), Rombach et al. 2022 (scaled_linear), Nichol & Dhariwal 2021
// (squaredcos_cap_v2), Lin et al. 2023, algorithm 1 (zero terminal SNR).

import type { Bounds, ConfigReader } from "./config-reader.ts";

const f32 = Math.fround;

/** Defaults of the three fields, which differ by class. */
export interface BetaDefaults {
  readonly start: number;
  readonly end: number;
  readonly schedule: "linear" | "scaled_linear";
}

/** The defaults of most classes of the reference. */
export const COMMON_BETAS: BetaDefaults = { start: 0.0001, end: 0.02, schedule: "linear" };

/** Public models have 1000. It is the length of several arrays, which are made anew for each run. */
const MOST_TRAIN_TIMESTEPS = 10_000;

/** A beta is the share of variance that a step replaces by noise. */
const BETA: Bounds = [0, 1];

/** `num_train_timesteps` of the configuration. */
export function trainTimesteps(config: ConfigReader): number {
  return config.integer("num_train_timesteps", 1000, [1, MOST_TRAIN_TIMESTEPS]);
}

/**
 * ᾱ by training timestep, `[num_train_timesteps]`.
 * `keepTerminal` is the small value given to the last entry under `rescale_betas_zero_snr` by the classes that divide by
 * it (2⁻²⁴, the smallest half-precision subnormal); without it that entry is 0.
 * @throws SchedulerError for an unknown `beta_schedule`, bad `trained_betas`, or betas that cannot be rescaled.
 */
export function alphasCumprod(config: ConfigReader, defaults: BetaDefaults, keepTerminal?: number): Float32Array {
  let betas = trainingBetas(config, defaults);
  const rescale = config.boolean("rescale_betas_zero_snr", false);
  if (rescale) betas = rescaleZeroTerminalSnr(betas);
  // A last beta of 0, or as good as 0, makes two steps without signal: the second divides 0 by 0.
  if (betas.some(Number.isNaN))
    config.fail("rescale_betas_zero_snr", "must be false with these betas: the last are too small");
  const cumulative = cumulativeProduct(betas.map((beta) => 1 - beta));
  if (rescale && keepTerminal !== undefined) cumulative[cumulative.length - 1] = keepTerminal;
  return cumulative;
}

function trainingBetas(config: ConfigReader, defaults: BetaDefaults): Float32Array {
  const count = trainTimesteps(config);
  const trained = config.optionalNumbers("trained_betas", count, BETA);
  if (trained !== null) return Float32Array.from(trained);
  const start = config.number("beta_start", defaults.start, BETA);
  const end = config.number("beta_end", defaults.end, BETA);
  const schedule = config.oneOf("beta_schedule", defaults.schedule, ["linear", "scaled_linear", "squaredcos_cap_v2"]);
  switch (schedule) {
    case "linear":
      return linspaceFloat32(start, end, count);
    case "scaled_linear":
      return linspaceFloat32(Math.sqrt(start), Math.sqrt(end), count).map((root) => root * root);
    case "squaredcos_cap_v2":
      return Float32Array.from({ length: count }, (_, t) =>
        Math.min(1 - cosineAlphaBar((t + 1) / count) / cosineAlphaBar(t / count), 0.999),
      );
    default:
      return schedule satisfies never;
  }
}

function cosineAlphaBar(t: number): number {
  return Math.cos((((t + 0.008) / 1.008) * Math.PI) / 2) ** 2;
}

/**
 * `torch.linspace` in float32 as PyTorch's AVX2 build computes it, bit for bit: counted from the nearer end with a float32
 * step, in vectors of eight whose first element is a fused multiply-add and whose others are that plus multiples of the
 * step. The last bit of a beta decides the last bits of every ᾱ after it, and, rarely, an integer of a Karras schedule.
 */
export function linspaceFloat32(start: number, end: number, count: number): Float32Array {
  const first = f32(start);
  const last = f32(end);
  if (count === 1) return Float32Array.of(first);
  const step = f32(f32(last - first) / (count - 1));
  const half = Math.floor(count / 2);
  const single = (i: number): number => f32(i < half ? first + step * i : last - step * (count - 1 - i));
  const lanes = 8;
  const vectorised = count - (count % lanes);
  return Float32Array.from({ length: count }, (_, i) => {
    if (i >= vectorised) return single(i);
    const lane = i % lanes;
    return single(i - lane) + f32(step * lane);
  });
}

/** `torch.cumprod` of a float32 tensor on the CPU: the running product is kept in double, its values stored in float32. */
function cumulativeProduct(values: Float32Array): Float32Array {
  let product = 1;
  return values.map((value) => (product *= value));
}

/** Shifts and scales sqrt(ᾱ) so that its last value is 0 and its first unchanged, then returns to betas. */
function rescaleZeroTerminalSnr(betas: Float32Array): Float32Array {
  const roots = cumulativeProduct(betas.map((beta) => 1 - beta)).map(Math.sqrt);
  const first = roots[0] as number;
  const last = roots.at(-1) as number;
  const scale = f32(first / f32(first - last));
  const rescaled = roots.map((root) => f32(f32(root - last) * scale) ** 2);
  return rescaled.map((alphaBar, t) => 1 - f32(t === 0 ? alphaBar : alphaBar / (rescaled[t - 1] as number)));
}
