// Noise levels in the variance-exploding convention: sigma_t = sqrt((1 − ᾱ_t) / ᾱ_t), the standard deviation of the noise
// relative to the signal, and the ways of choosing a run's levels from those of training: reading them off at (fractional)
// timesteps, or Karras et al. 2022 (equation 5, rho = 7), or evenly in the logarithm, or at the quantiles of a beta distribution.

import { betaQuantile } from "./beta-quantile.ts";
import { linspace } from "./timesteps.ts";

const f32 = Math.fround;

/** Sigma by training timestep, ascending, `[num_train_timesteps]`, in the reference's float32. */
export function trainingSigmas(alphasCumprod: Float32Array): Float32Array {
  return alphasCumprod.map((alphaBar) => Math.sqrt(f32(f32(1 - alphaBar) / alphaBar)));
}

/** `numpy.interp(timesteps, [0, 1, …], values)`: linear between entries, the end values beyond them. */
export function interpolate(timesteps: ArrayLike<number>, values: ArrayLike<number>): Float64Array {
  const last = values.length - 1;
  return Float64Array.from(timesteps, (t) => {
    if (t <= 0) return values[0] as number;
    if (t >= last) return values[last] as number;
    const low = Math.floor(t);
    const slope = (values[low + 1] as number) - (values[low] as number);
    return slope * (t - low) + (values[low] as number);
  });
}

/** Karras et al.'s levels from `most` down to `least`, `[count]`. */
export function karrasSigmas(least: number, most: number, count: number, rho = 7): Float64Array {
  const leastRoot = least ** (1 / rho);
  const mostRoot = most ** (1 / rho);
  return linspace(0, 1, count).map((ramp) => (mostRoot + ramp * (leastRoot - mostRoot)) ** rho);
}

/** Levels evenly spaced in the logarithm, from `most` down to `least`, `[count]`. */
export function exponentialSigmas(least: number, most: number, count: number): Float64Array {
  return linspace(Math.log(most), Math.log(least), count).map(Math.exp);
}

/** Both parameters of the beta distribution by whose quantiles levels may be spaced (Lee et al. 2024). */
const BETA_PARAMETER = 0.6;

/** Levels at the quantiles of a beta distribution, from `most` down to `least`, `[count]`. */
export function betaSigmas(least: number, most: number, count: number): Float64Array {
  return linspace(0, 1, count).map(
    (share) => least + betaQuantile(1 - share, BETA_PARAMETER, BETA_PARAMETER) * (most - least),
  );
}

/** Natural logarithms, in float32. */
export function logSigmas(sigmas: Float32Array): Float32Array {
  return sigmas.map(Math.log);
}

/**
 * The fractional training timestep whose sigma is `sigma`, by interpolation in the logarithm. In float32, as numpy
 * promotes a float32 array with a float64 scalar: the rounding decides some integers of Karras schedules.
 * @param logs ascending logarithms of the training sigmas
 */
export function sigmaToTimestep(sigma: number, logs: Float32Array): number {
  const logSigma = f32(Math.log(Math.max(sigma, 1e-10)));
  let low = 0;
  for (let i = 0; i < logs.length; i++) if (f32(logSigma - (logs[i] as number)) >= 0) low = i;
  low = Math.min(low, logs.length - 2);
  const lowLog = logs[low] as number;
  const weight = f32(f32(lowLog - logSigma) / f32(lowLog - (logs[low + 1] as number)));
  const clipped = Math.min(Math.max(weight, 0), 1);
  return f32(1 - clipped) * low + clipped * (low + 1);
}
