// DEIS (Zhang & Chen 2023, "Fast Sampling of Diffusion Models with Exponential Integrator"), the multistep form in log rho,
// rho = sigma/alpha: the past predictions of noise are interpolated by a polynomial in log rho, which is integrated exactly
// over rho.

import { plus, SAMPLE, scaled, stepRow } from "./mix.ts";
import type { StepRow } from "./schedule.ts";
import { refuseOptions, refuseThresholding, type Scheduler } from "./schedule-table.ts";
import { solverFrame } from "./solver-frame.ts";
import { roundHalfEven } from "./timesteps.ts";

/** Fewer steps than this are ended with lower orders where `lower_order_final` is set. */
const FEW_STEPS = 15;

/** DEISMultistepScheduler. */
export const deis: Scheduler = (config, options) => {
  refuseOptions(config, options, ["mu"]);
  refuseThresholding(config);
  config.oneOf("algorithm_type", "deis", ["deis", "dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"]);
  config.oneOf("solver_type", "logrho", ["logrho", "midpoint", "heun", "bh1", "bh2"]);
  const order = config.integer("solver_order", 2, [1, 3]);
  const lowerOrderFinal = config.boolean("lower_order_final", true);
  const frame = solverFrame(config, options, {
    end: "sigma_min", // the logarithm of level 0 is not finite
    clips: false,
    spaces: true,
    rounding: (timestep, respacing) =>
      respacing === "use_karras_sigmas" ? roundHalfEven(timestep) : Math.trunc(timestep),
  });
  const { timesteps, sigmas } = frame;
  const count = timesteps.length;
  const rho = (row: number): number => {
    const { alpha, sigma } = frame.scales(row);
    return sigma / alpha;
  };

  const orderOf = (row: number, start: number): number => {
    const left = count - row;
    const few = lowerOrderFinal && count < FEW_STEPS;
    const toZero = sigmas[row + 1] === 0;
    return Math.min(order, row - start + 1, toZero ? 1 : few ? left : order);
  };

  const rowAt = (row: number, start: number): StepRow => {
    const [here, there] = [frame.scales(row), frame.scales(row + 1)];
    const used = orderOf(row, start);
    const levels = Array.from({ length: used }, (_, back) => rho(row - back));
    const weights = levels.map((_, i) => there.alpha * integral(levels, i, rho(row), rho(row + 1)));
    const own = frame.predictions(row);
    const slots = order - 1;
    const slotOf = (back: number): number => (row - start - back) % slots;
    const history = new Array<number>(slots).fill(0);
    for (let back = 1; back < used; back++) history[slotOf(back)] = weights[back] as number;
    return stepRow(config.className, {
      timestep: timesteps[row] as number,
      x0: own.x0,
      next: plus(scaled(there.alpha / here.alpha, SAMPLE), scaled(weights[0] as number, own.epsilon)),
      history,
      ...(slots > 0 && { push: { slot: slotOf(0), mix: own.epsilon } }),
    });
  };

  return {
    steps: count,
    timesteps,
    sigmas,
    initNoiseSigma: frame.initNoiseSigma,
    historySlots: order - 1,
    rows: (start) => Array.from({ length: count - start }, (_, index) => rowAt(start + index, start)),
    addNoise: frame.addNoise,
  };
};

/** ∫ over rho, `from` to `to`, of the Lagrange polynomial in log rho that is 1 at level `at` and 0 at the others. */
function integral(levels: readonly number[], at: number, from: number, to: number): number {
  const own = Math.log(levels[at] as number);
  const others = levels.filter((_, i) => i !== at).map(Math.log);
  const denominator = others.reduce((product, other) => product * (own - other), 1);
  // Antiderivatives of 1, of log r − c, and of (log r − c)(log r − d).
  const antiderivative = (r: number): number => {
    const [c = 0, d = 0] = others;
    const log = r === 0 ? 0 : Math.log(r);
    if (others.length === 0) return r;
    if (others.length === 1) return r * (log - 1 - c);
    return r * (log * log - 2 * log + 2 - (c + d) * (log - 1) + c * d);
  };
  return (antiderivative(to) - antiderivative(from)) / denominator;
}
