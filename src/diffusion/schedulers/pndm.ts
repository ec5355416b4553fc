// Pseudo numerical methods (Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models on Manifolds"): a transfer
// formula (equation 9) fed with a combination of noise predictions. The linear multistep part (PLMS) combines the last
// four, Adams–Bashforth; before it come either three Runge–Kutta steps of four model calls each (PRK), or, with
// `skip_prk_steps`, one step taken twice: the second model call corrects the first.
//
// Calls that redo a step start from the sample of an earlier call. That sample needs no slot of its own: the call before
// made the present sample from it linearly, next = a·base + b·model, so base = (sample − b·model) / a.
//
// History slots 0–2 hold the last three multistep predictions in rotation; 3 and 4 the inner ones of a Runge–Kutta step.

import { MODEL, plus, SAMPLE, scaled, stepRow } from "./mix.ts";
import { alphasCumprod, COMMON_BETAS, trainTimesteps } from "./noise-schedule.ts";
import { type PredictionType, predictions, scalesOfAlphaBar } from "./prediction.ts";
import type { StepRow } from "./schedule.ts";
import { alphaBarAt, preservingNoise, refuseOptions, type Scheduler } from "./schedule-table.ts";
import { checkSteps, spacedTimesteps, timestepSpacing } from "./timesteps.ts";

/** A past prediction: its slot and its weight. */
interface Past {
  readonly slot: number;
  readonly weight: number;
}

/** One model call, in the reference's terms. */
interface Call {
  readonly timestep: number;
  /** The transfer goes from timestep `from` to `to`. */
  readonly from: number;
  readonly to: number;
  /** Weight of this call's output in the combined prediction, and those of earlier ones. */
  readonly weight: number;
  readonly past: readonly Past[];
  /** The slot in which this call's output is put aside. */
  readonly slot: number | null;
  /** Slot of the output of the call before, where this call starts from that call's base instead of its result. */
  readonly redoes: number | null;
}

/** Adams–Bashforth weights by the number of predictions at hand, newest first. */
const MULTISTEP = [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]] as const;

/** Model calls of the three Runge–Kutta steps. */
const PRK_CALLS = 12;

/** PNDMScheduler. */
export const pndm: Scheduler = (config, options) => {
  refuseOptions(config, options, ["timesteps", "sigmas", "mu"]);
  const trainSteps = trainTimesteps(config);
  checkSteps(config, options.steps, trainSteps);
  const skipPrk = config.boolean("skip_prk_steps", false);
  if (!skipPrk && options.steps < 4) config.fail("steps", "must be at least 4 unless skip_prk_steps is set");
  const prediction = config.oneOf<PredictionType>("prediction_type", "epsilon", ["epsilon", "v_prediction"]);
  const alphaBars = alphasCumprod(config, COMMON_BETAS);
  const finalAlphaBar = config.boolean("set_alpha_to_one", false) ? 1 : (alphaBars[0] as number);
  const stride = Math.floor(trainSteps / options.steps);
  const spaced = spacedTimesteps(
    timestepSpacing(config, "leading"),
    trainSteps,
    options.steps,
    config.integer("steps_offset", 0, [0, trainSteps]),
  );
  const timesteps = skipPrk ? repeatSecond(spaced) : prkTimesteps(spaced, Math.floor(stride / 2));

  /** next = sample·base + model·(combined prediction), from equation 9; a v-prediction also mixes in the base. */
  const transfer = ({ from, to }: Call): { base: number; model: number } => {
    const alphaBar = alphaBarAt(config, alphaBars, from);
    const toAlphaBar = to >= 0 ? alphaBarAt(config, alphaBars, to) : finalAlphaBar;
    const denominator = alphaBar * Math.sqrt(1 - toAlphaBar) + Math.sqrt(alphaBar * (1 - alphaBar) * toAlphaBar);
    const epsilon = denominator === 0 ? 0 : -(toAlphaBar - alphaBar) / denominator;
    const mix = scaled(epsilon, predictions(prediction, scalesOfAlphaBar(alphaBar)).epsilon);
    return { base: Math.sqrt(toAlphaBar / alphaBar) + mix.sample, model: mix.model };
  };

  const rows = (start: number): StepRow[] => {
    const calls = (skipPrk ? multistepCalls : prkCalls)(timesteps, start, stride);
    return calls.map((call, index) => {
      const { base, model } = transfer(call);
      const history = new Array<number>(skipPrk ? 3 : 5).fill(0);
      for (const { slot, weight } of call.past) history[slot] = (history[slot] as number) + model * weight;
      let sample = base;
      if (call.redoes !== null) {
        const before = transfer(calls[index - 1] as Call);
        sample = base / before.base;
        history[call.redoes] = (history[call.redoes] as number) - sample * before.model;
      }
      return stepRow(config.className, {
        timestep: call.timestep,
        x0: predictions(prediction, scalesOfAlphaBar(alphaBarAt(config, alphaBars, call.timestep))).x0,
        next: plus(scaled(sample, SAMPLE), scaled(model * call.weight, MODEL)),
        history,
        ...(call.slot !== null && { push: { slot: call.slot, mix: MODEL } }),
      });
    });
  };

  return {
    steps: options.steps,
    timesteps,
    initNoiseSigma: 1,
    historySlots: skipPrk ? 3 : 5,
    rows,
    addNoise: (row) => preservingNoise(alphaBarAt(config, alphaBars, timesteps[row] as number)),
  };
};

/** The second timestep twice: for the call that corrects the first step. A single timestep stays single. */
function repeatSecond(spaced: Float64Array): Float64Array {
  return Float64Array.of(...spaced.subarray(0, 2), ...spaced.subarray(1));
}

/** Each of the first three intervals as begin, middle, middle, end; then the rest for the multistep part. */
function prkTimesteps(spaced: Float64Array, half: number): Float64Array {
  const inner = [0, 1, 2].flatMap((i) => {
    const [begin, end] = [spaced[i] as number, spaced[i + 1] as number];
    return [begin, end + half, end + half, end];
  });
  return Float64Array.of(...inner, ...spaced.subarray(3));
}

/** Calls of the multistep part without Runge–Kutta steps before it. */
function multistepCalls(timesteps: Float64Array, start: number, stride: number): Call[] {
  return Array.from(timesteps.subarray(start), (timestep, call) => {
    if (call === 1) {
      const past = [{ slot: 0, weight: 1 / 2 }];
      return { timestep, from: timestep + stride, to: timestep, weight: 1 / 2, past, slot: null, redoes: 0 };
    }
    return multistepCall(timestep, stride, call === 0 ? 0 : call - 1);
  });
}

/** The multistep call that finds `earlier` predictions before it. */
function multistepCall(timestep: number, stride: number, earlier: number): Call {
  const [weight, ...older] = MULTISTEP[Math.min(earlier, 3) as 0 | 1 | 2 | 3];
  const past = older.map((value, back) => ({ slot: (earlier - 1 - back) % 3, weight: value }));
  return { timestep, from: timestep, to: timestep - stride, weight, past, slot: earlier % 3, redoes: null };
}

/**
 * Calls of a run that begins with Runge–Kutta steps; classical weights 1/6, 1/3, 1/3, 1/6. The reference counts them from
 * the run's own first call but takes the intervals they begin at from the whole table, wherever the run starts.
 */
function prkCalls(timesteps: Float64Array, start: number, stride: number): Call[] {
  const half = Math.floor(stride / 2);
  return Array.from(timesteps.subarray(start), (timestep, call) => {
    if (call >= PRK_CALLS) return multistepCall(timestep, stride, 3 + call - PRK_CALLS);
    const step = Math.floor(call / 4);
    const from = timesteps[step * 4] as number;
    const to = call % 2 === 0 ? timestep - half : timestep;
    switch (call % 4) {
      case 0:
        return { timestep, from, to, weight: 1, past: [], slot: step, redoes: null };
      case 1:
        return { timestep, from, to, weight: 1, past: [], slot: 3, redoes: step };
      case 2:
        return { timestep, from, to, weight: 1, past: [], slot: 4, redoes: 3 };
      default: {
        const past = [
          { slot: step, weight: 1 / 6 },
          { slot: 3, weight: 1 / 3 },
          { slot: 4, weight: 1 / 3 },
        ];
        return { timestep, from, to, weight: 1 / 6, past, slot: null, redoes: 4 };
      }
    }
  });
}
