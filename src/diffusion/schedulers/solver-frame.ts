// Shared by the solvers of the DPM family: levels, and at each of them the scales of signal and noise and the model's
// predictions as mixes; in the variance-preserving convention, or in rectified flow's.

import type { ConfigReader } from "./config-reader.ts";
import { type Levels, type SolverLevelOptions, solverLevels, usesFlow } from "./levels.ts";
import {
  flowPredictions,
  PREDICTION_TYPES,
  type Predictions,
  type PredictionType,
  predictions,
  type Scales,
  scalesOfFlow,
  scalesOfSigma,
} from "./prediction.ts";
import type { ScheduleOptions } from "./schedule-table.ts";

export interface SolverFrame extends Levels {
  readonly initNoiseSigma: number;
  /** Scales at the level of a row, or after the last. */
  scales(row: number): Scales;
  /** Predictions of the call of a row. */
  predictions(row: number): Predictions;
  readonly addNoise: (row: number) => { readonly original: number; readonly noise: number };
  /** Factor of the model's input; 1 in conventions whose latents keep their variance. */
  inputScale?(row: number): number;
}

/** The frame of a configuration. @throws SchedulerError */
export function solverFrame(config: ConfigReader, options: ScheduleOptions, how: SolverLevelOptions): SolverFrame {
  const isFlow = usesFlow(config);
  const type = config.oneOf<PredictionType | "flow_prediction">(
    "prediction_type",
    isFlow ? "flow_prediction" : "epsilon",
    isFlow ? ["flow_prediction"] : PREDICTION_TYPES,
  );
  const levels = solverLevels(config, options, how);
  const scales = (row: number): Scales => {
    const sigma = levels.sigmas[row] as number;
    return isFlow ? scalesOfFlow(sigma) : scalesOfSigma(sigma);
  };
  return {
    ...levels,
    initNoiseSigma: 1,
    scales,
    predictions: (row) => (type === "flow_prediction" ? flowPredictions(scales(row)) : predictions(type, scales(row))),
    addNoise: (row) => {
      const { alpha, sigma } = scales(row);
      return { original: alpha, noise: sigma };
    },
  };
}
