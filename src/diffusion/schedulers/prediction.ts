// A model's prediction becomes the tensors that a scheduler needs. With x = α·x0 + σ·ε (α² + σ² = 1) a model learns
// ε ("epsilon"), x0 ("sample") or v = α·ε − σ·x0 ("v_prediction", Salimans & Ho 2022). The same three are needed once
// more in the variance-exploding convention x' = x0 + s·ε of the Euler classes, whose model input is x'/sqrt(s² + 1).

import { MODEL, plus, SAMPLE, scaled } from "./mix.ts";
import type { Mix } from "./schedule.ts";

export type PredictionType = "epsilon" | "v_prediction" | "sample";

export const PREDICTION_TYPES = ["epsilon", "v_prediction", "sample"] as const;

/** The two predictions as mixes of sample and model. */
export interface Predictions {
  readonly x0: Mix;
  readonly epsilon: Mix;
}

/** Signal and noise scales of the variance-preserving process. */
export interface Scales {
  readonly alpha: number;
  readonly sigma: number;
}

/** Scales at ᾱ. */
export function scalesOfAlphaBar(alphaBar: number): Scales {
  return { alpha: Math.sqrt(alphaBar), sigma: Math.sqrt(1 - alphaBar) };
}

/** Scales at the variance-exploding noise level `sigma`. */
export function scalesOfSigma(sigma: number): Scales {
  const alpha = 1 / Math.sqrt(sigma * sigma + 1);
  return { alpha, sigma: sigma * alpha };
}

/** Predictions in the variance-preserving convention. */
export function predictions(type: PredictionType, { alpha, sigma }: Scales): Predictions {
  switch (type) {
    case "epsilon":
      return { x0: plus(scaled(1 / alpha, SAMPLE), scaled(-sigma / alpha, MODEL)), epsilon: MODEL };
    case "sample":
      return { x0: MODEL, epsilon: plus(scaled(1 / sigma, SAMPLE), scaled(-alpha / sigma, MODEL)) };
    case "v_prediction":
      return {
        x0: plus(scaled(alpha, SAMPLE), scaled(-sigma, MODEL)),
        epsilon: plus(scaled(sigma, SAMPLE), scaled(alpha, MODEL)),
      };
    default:
      return type satisfies never;
  }
}

/** Scales of rectified flow at level `sigma`: x = (1 − sigma)·x0 + sigma·noise. */
export function scalesOfFlow(sigma: number): Scales {
  return { alpha: 1 - sigma, sigma };
}

/** Predictions of a model that gives the velocity noise − x0 of rectified flow. */
export function flowPredictions({ sigma }: Scales): Predictions {
  return { x0: plus(SAMPLE, scaled(-sigma, MODEL)), epsilon: plus(SAMPLE, scaled(1 - sigma, MODEL)) };
}

/** Log signal-to-noise ratio; infinite without noise. */
export function lambdaOf({ alpha, sigma }: Scales): number {
  return Math.log(alpha) - Math.log(sigma);
}

/** x0 in the variance-exploding convention, at noise level `sigma`. */
export function explodingX0(type: PredictionType, sigma: number): Mix {
  switch (type) {
    case "epsilon":
      return plus(SAMPLE, scaled(-sigma, MODEL));
    case "sample":
      return MODEL;
    case "v_prediction": {
      const variance = sigma * sigma + 1;
      return plus(scaled(1 / variance, SAMPLE), scaled(-sigma / Math.sqrt(variance), MODEL));
    }
    default:
      return type satisfies never;
  }
}
