// Algebra on `Mix`es, so that a scheduler's file can be read against its paper: `plus(scaled(a, X0), scaled(b, epsilon))`
// instead of three coefficient sums. `stepRow` closes a row: it folds the unclamped x0 away and refuses coefficients that
// are not finite, which is how a combination of settings that divides by zero shows itself.

import type { Mix, StepRow } from "./schedule.ts";
import { SchedulerError } from "./scheduler-error.ts";

export const SAMPLE: Mix = { sample: 1, model: 0, x0: 0 };
export const MODEL: Mix = { sample: 0, model: 1, x0: 0 };
/** The row's own prediction of the clean latents, after clamping. */
export const X0: Mix = { sample: 0, model: 0, x0: 1 };

/** A multiple of a mix. A factor of 0 gives 0 even of an infinite coefficient: an absent term is absent. */
export function scaled(factor: number, mix: Mix): Mix {
  const times = (value: number) => (factor === 0 || value === 0 ? 0 : factor * value);
  return { sample: times(mix.sample), model: times(mix.model), x0: times(mix.x0) };
}

export function plus(...mixes: readonly Mix[]): Mix {
  return mixes.reduce((sum, mix) => ({
    sample: sum.sample + mix.sample,
    model: sum.model + mix.model,
    x0: sum.x0 + mix.x0,
  }));
}

/** The terms of a scheduler's row; parts that are left out are absent from the formula. */
export interface RowTerms {
  readonly timestep: number;
  readonly inputScale?: number;
  /** x0 before clamping: a mix of sample and model. */
  readonly x0: Mix;
  readonly clamp?: number;
  readonly next: Mix;
  readonly history?: readonly number[];
  readonly noise?: number;
  readonly drawsNoise?: boolean;
  readonly denoised?: Mix;
  readonly push?: { readonly slot: number; readonly mix: Mix };
  readonly keep?: number;
}

/**
 * Builds the row.
 * @throws SchedulerError where a coefficient is not finite.
 */
export function stepRow(className: string, terms: RowTerms): StepRow {
  const clamp = terms.clamp ?? Number.POSITIVE_INFINITY;
  const folded = (mix: Mix): Mix =>
    clamp === Number.POSITIVE_INFINITY ? { ...plus({ ...mix, x0: 0 }, scaled(mix.x0, terms.x0)), x0: 0 } : mix;
  const row: StepRow = {
    timestep: terms.timestep,
    inputScale: terms.inputScale ?? 1,
    x0: { sample: terms.x0.sample, model: terms.x0.model, clamp },
    next: { ...folded(terms.next), history: terms.history ?? [], noise: terms.noise ?? 0 },
    denoised: folded(terms.denoised ?? X0),
    push: terms.push ? { ...folded(terms.push.mix), slot: terms.push.slot } : null,
    keep: terms.keep ?? null,
    drawsNoise: terms.drawsNoise ?? false,
  };
  const numbers = [
    ...[row.timestep, row.inputScale, row.x0.sample, row.x0.model, row.next.noise, ...row.next.history],
    ...[row.next, row.denoised, ...(row.push ? [row.push] : [])].flatMap((mix) => [mix.sample, mix.model, mix.x0]),
  ];
  // The device has them in single precision, where a finite double may be infinite.
  if (!numbers.every((value) => Number.isFinite(Math.fround(value)))) {
    throw new SchedulerError(
      className,
      "prediction_type",
      `and the noise schedule leave no finite step at timestep ${terms.timestep} (a schedule with zero terminal SNR needs v_prediction or sample)`,
    );
  }
  return row;
}
