// Rectified flow (Esser et al. 2024, "Scaling Rectified Flow Transformers"): x = (1 − sigma)·x0 + sigma·noise, the model
// gives the velocity noise − x0, and Euler's method follows it. `shift` moves levels towards the noisy end for large
// pictures, by a constant or, with `use_dynamic_shifting`, by exp(mu), mu growing with the number of image tokens.

import { type Bounds, readConfig, type SchedulerConfig } from "./config-reader.ts";
import { EULER_RESPACINGS, RESPACINGS, respacingOf } from "./levels.ts";
import { MODEL, plus, SAMPLE, scaled, stepRow } from "./mix.ts";
import { trainTimesteps } from "./noise-schedule.ts";
import { refuseOptions, type Scheduler } from "./schedule-table.ts";
import { checkSteps, linspace } from "./timesteps.ts";

const f32 = Math.fround;

/** Public models have 1 to 12. */
const SHIFT: Bounds = [0.001, 1000];
/** Its logarithm, 0.5 to 1.15. */
const LOG_SHIFT: Bounds = [-7, 7];
/** 256 and 4096, of pictures up to 1024 × 1024. */
const TOKENS: Bounds = [1, 1_000_000];

const UNSUPPORTED = ["invert_sigmas", "stochastic_sampling"];

/** FlowMatchEulerDiscreteScheduler. */
export const flowMatchEuler: Scheduler = (config, options) => {
  refuseOptions(config, options, ["timesteps"]);
  for (const field of UNSUPPORTED) config.refuseUnless(field, [false], "is not supported");
  config.refuseUnless("shift_terminal", [0], "is not supported");
  config.refuseUnless("time_shift_type", ["exponential"], "is not supported; exponential is");
  const trainSteps = trainTimesteps(config);
  const shift = config.number("shift", 1, SHIFT);
  const dynamic = config.boolean("use_dynamic_shifting", false);
  if (dynamic && !Number.isFinite(options.mu)) config.fail("mu", "must be given with use_dynamic_shifting");
  let levels: Float64Array;
  if (options.sigmas !== undefined) {
    const valid = options.sigmas.length > 0 && options.sigmas.every((sigma) => sigma > 0 && sigma <= 1);
    if (!valid) config.fail("sigmas", "must be numbers above 0 and at most 1");
    levels = Float64Array.from(options.sigmas, f32);
  } else {
    checkSteps(config, options.steps, trainSteps);
    // The least level is shifted here and again below, as the reference does.
    const [most, least] = [1, f32(1 / trainSteps)].map((sigma) => (dynamic ? sigma : shiftBy(shift, sigma, f32)));
    levels = linspace((most as number) * trainSteps, (least as number) * trainSteps, options.steps);
    levels = levels.map((timestep) => timestep / trainSteps);
  }
  // Given levels are a float32 array in the reference and stay so; its own are float64 until they are stored.
  const round = options.sigmas === undefined ? (value: number) => value : f32;
  const shifted = levels.map((sigma) =>
    dynamic ? shiftByExponential(options.mu as number, sigma, round) : shiftBy(shift, sigma, round),
  );
  const respacing = respacingOf(config, EULER_RESPACINGS);
  const spaced =
    respacing === undefined
      ? shifted
      : RESPACINGS[respacing](shifted.at(-1) as number, shifted[0] as number, shifted.length);
  const sigmas = Float64Array.of(...spaced.map(f32), 0);
  const timesteps = sigmas.subarray(0, -1).map((sigma) => f32(sigma * trainSteps));

  return {
    steps: timesteps.length,
    timesteps,
    sigmas,
    initNoiseSigma: 1,
    historySlots: 0,
    rows: (start) =>
      Array.from(timesteps.subarray(start), (timestep, index) => {
        const sigma = sigmas[start + index] as number;
        const next = sigmas[start + index + 1] as number;
        return stepRow(config.className, {
          timestep,
          x0: plus(SAMPLE, scaled(-sigma, MODEL)),
          next: plus(SAMPLE, scaled(next - sigma, MODEL)),
        });
      }),
    addNoise: (row) => ({ original: 1 - (sigmas[row] as number), noise: sigmas[row] as number }),
  };
};

type Round = (value: number) => number;

/** shift·σ / (1 + (shift − 1)·σ). */
function shiftBy(shift: number, sigma: number, round: Round): number {
  return round(round(shift * sigma) / round(1 + round((shift - 1) * sigma)));
}

/** The same with shift = exp(mu), in the order of operations of the reference's `time_shift`. */
function shiftByExponential(mu: number, sigma: number, round: Round): number {
  const shift = round(Math.exp(mu));
  return round(shift / round(shift + round(round(1 / sigma) - 1)));
}

/**
 * `mu` for `use_dynamic_shifting`: linear in the number of image tokens between the configuration's two anchors.
 * @param tokens image tokens the transformer sees, (height / 16) · (width / 16) for the published models
 * @throws SchedulerError for a configuration field of the wrong type.
 */
export function flowShift(config: SchedulerConfig, tokens: number): number {
  const fields = readConfig("FlowMatchEulerDiscreteScheduler", config);
  const low = fields.integer("base_image_seq_len", 256, TOKENS);
  const high = fields.integer("max_image_seq_len", 4096, TOKENS);
  if (high <= low) fields.fail("max_image_seq_len", `must be above base_image_seq_len (${low})`);
  const [least, most] = [fields.number("base_shift", 0.5, LOG_SHIFT), fields.number("max_shift", 1.15, LOG_SHIFT)];
  return least + ((most - least) / (high - low)) * (tokens - low);
}
