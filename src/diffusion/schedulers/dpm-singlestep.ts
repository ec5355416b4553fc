// DPM-Solver and DPM-Solver++ (Lu et al. 2022, 2022b), single-step: blocks of one to three calls, each of which starts
// anew from the sample that its block began with and uses the predictions made inside the block. Each call counts as a
// step of its own, so that as many calls are made as steps are asked for. The sample that a block begins with is kept in
// slot 2, predictions in slots 0 and 1 in rotation.

import type { ConfigReader } from "./config-reader.ts";
import { plus, SAMPLE, scaled, stepRow, X0 } from "./mix.ts";
import { lambdaOf } from "./prediction.ts";
import type { StepRow } from "./schedule.ts";
import { refuseOptions, refuseThresholding, type Scheduler } from "./schedule-table.ts";
import { type SolverFrame, solverFrame } from "./solver-frame.ts";
import { roundHalfEven } from "./timesteps.ts";

const BASE_SLOT = 2;

const ALGORITHMS = ["dpmsolver++", "dpmsolver", "sde-dpmsolver++"] as const;
type Algorithm = (typeof ALGORITHMS)[number];

/** DPMSolverSinglestepScheduler. */
export const dpmSinglestep: Scheduler = (config, options) => {
  refuseOptions(config, options, ["mu"]);
  refuseThresholding(config);
  config.refuseUnless("variance_type", [], "is not supported: models that predict their variance are not");
  const choice = config.oneOf("algorithm_type", "dpmsolver++", [...ALGORITHMS, "deis"]);
  const algorithm: Algorithm = choice === "deis" ? "dpmsolver++" : choice;
  const midpoint = config.oneOf("solver_type", "midpoint", ["midpoint", "heun", "logrho", "bh1", "bh2"]) !== "heun";
  const order = config.integer("solver_order", 2, [1, algorithm.startsWith("sde-") ? 2 : 3]);
  const end = config.oneOf("final_sigmas_type", "zero", ["zero", "sigma_min"]);
  if (algorithm === "dpmsolver" && end === "zero")
    config.fail("final_sigmas_type", `must be sigma_min with ${algorithm}`);
  const frame = solverFrame(config, options, {
    end,
    clips: true,
    spaces: false,
    rounding: (timestep, respacing) => (respacing === "use_karras_sigmas" ? roundHalfEven(timestep) : timestep),
  });
  const count = frame.timesteps.length;
  const orders = ordersOf(config, count, order, end === "zero" || frame.sigmas[count] === 0);
  return {
    steps: count,
    timesteps: frame.timesteps,
    sigmas: frame.sigmas,
    initNoiseSigma: frame.initNoiseSigma,
    historySlots: BASE_SLOT + 1,
    rows: (start) =>
      Array.from({ length: count - start }, (_, index) => {
        const row = start + index;
        // A run that begins inside a block has no predictions from before it.
        return callOf(config, frame, algorithm, midpoint, row, Math.min(orders[row] as number, index + 1));
      }),
    addNoise: frame.addNoise,
  };
};

/** Calls of each block counted from 1: 1 2 3 1 2 3 …, with a shorter end if `lower_order_final` is set. */
function ordersOf(config: ConfigReader, count: number, order: number, endsAtZero: boolean): number[] {
  const orders = Array.from({ length: count }, (_, row) => (row % order) + 1);
  const remainder = count % order;
  if (config.boolean("lower_order_final", false)) {
    // The last two calls of a whole number of blocks: 1 2 1 for order 3, 1 1 for order 2.
    if (order === 3 && remainder === 0) orders.splice(-3, 3, 1, 2, 1);
    if (order === 2 && remainder === 0) orders.splice(-2, 2, 1, 1);
  } else if (remainder !== 0) {
    config.fail("steps", `must be a multiple of solver_order (${order}) unless lower_order_final is set`);
  }
  if (endsAtZero) orders[count - 1] = 1;
  return orders.slice(-count);
}

function callOf(
  config: ConfigReader,
  frame: SolverFrame,
  algorithm: Algorithm,
  midpoint: boolean,
  row: number,
  order: number,
): StepRow {
  const first = row - order + 1; // the row at which its block begins
  const base = frame.scales(first);
  const there = frame.scales(row + 1);
  const lambda = (at: number) => lambdaOf(frame.scales(at));
  const h = lambda(row + 1) - lambda(first);
  const expandsX0 = algorithm !== "dpmsolver";
  // The integral of the exponential over the step, and the two next ones; those of a step to level 0 are not needed.
  const sign = expandsX0 ? -1 : 1;
  const exponent = algorithm === "sde-dpmsolver++" ? -2 * h : sign * h;
  const grown = Math.expm1(exponent);
  const scale = -(expandsX0 ? there.alpha : there.sigma);
  const sample =
    algorithm === "sde-dpmsolver++"
      ? (there.sigma / base.sigma) * Math.exp(-h)
      : expandsX0
        ? there.sigma / base.sigma
        : there.alpha / base.alpha;
  // Weights of the block's predictions, oldest first.
  const weights = [scale * grown, 0, 0];
  const add = (parts: readonly number[], factor: number) => {
    for (const [i, part] of parts.entries()) weights[i] = (weights[i] as number) + factor * part;
  };
  const slope = -scale * sign * (grown / exponent - 1);
  if (order === 2) {
    const r = (lambda(row) - lambda(first)) / h;
    add([-1 / r, 1 / r], midpoint ? 0.5 * scale * grown : slope);
  } else if (order === 3) {
    const r1 = (lambda(first + 1) - lambda(first)) / h;
    const r2 = (lambda(first + 2) - lambda(first)) / h;
    const early = [-1 / r1, 1 / r1, 0];
    const late = [-1 / r2, 0, 1 / r2];
    if (midpoint) add(late, slope);
    else {
      const d1 = late.map((value, i) => (r2 * (early[i] as number) - r1 * value) / (r2 - r1));
      const d2 = late.map((value, i) => (2 * (value - (early[i] as number))) / (r2 - r1));
      add(d1, slope);
      add(d2, scale * ((grown - exponent) / h ** 2 - 0.5));
    }
  }
  const own = frame.predictions(row);
  const prediction = expandsX0 ? X0 : own.epsilon;
  const history = [0, 0, 0];
  for (let back = 1; back < order; back++) history[(row - back) % 2] = weights[order - 1 - back] as number;
  if (order > 1) history[BASE_SLOT] = sample;
  const isStochastic = algorithm === "sde-dpmsolver++";
  return stepRow(config.className, {
    timestep: frame.timesteps[row] as number,
    x0: own.x0,
    next: plus(scaled(order === 1 ? sample : 0, SAMPLE), scaled(weights[order - 1] as number, prediction)),
    history,
    noise: isStochastic ? there.sigma * Math.sqrt(-grown) : 0,
    drawsNoise: isStochastic,
    push: { slot: row % 2, mix: prediction },
    ...(order === 1 && { keep: BASE_SLOT }),
  });
}
