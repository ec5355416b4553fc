// A scheduler is a table in Daguerre. Every scheduler we have is, per model call, one linear combination of a few
// tensors, so a class of the reference becomes a pure function from its configuration to rows of float64 coefficients,
// and one kernel applies any row of any scheduler. `applyStepRow` below is that kernel on the CPU: the definition the
// GPU's is tested against, never the way pictures are made.
//
// Vocabulary, for one row and one latent element:
//   sample     the latents before the step
//   model      the model's output for `sample * inputScale` at `timestep`, classifier-free guidance already folded in
//   x0         the row's prediction of the clean latents, a mix of sample and model, clamped where the configuration asks
//   history    tensors that earlier rows put aside, in numbered slots
//   noise      a fresh N(0, 1) tensor
//
//   x0        = clamp(row.x0.sample·sample + row.x0.model·model, −row.x0.clamp, +row.x0.clamp)
//   next      = n.sample·sample + n.model·model + n.x0·x0 + Σ_k n.history[k]·slot[k] + n.noise·noise     (n = row.next)
//   denoised  = d.sample·sample + d.model·model + d.x0·x0                                        (d = row.denoised)
//   slot[p.slot] ← p.sample·sample + p.model·model + p.x0·x0          where row.push is not null  (p = row.push)
//   slot[row.keep] ← sample                                           where row.keep is not null
//
// A row reads its slots before it writes one, so a slot may be read and overwritten by the same row. Slots a row does not
// read have coefficient 0 and may hold garbage: skip them, do not multiply. Where nothing is clamped (`clamp` is
// Infinity) every `.x0` coefficient is 0, folded into sample and model.

/** Coefficients of one linear combination of `sample`, `model` and the row's `x0`. */
export interface Mix {
  readonly sample: number;
  readonly model: number;
  readonly x0: number;
}

/** One model call: what to give the model, and how its answer moves the latents. */
export interface StepRow {
  /** The model's input; fractional for some Euler schedules. */
  readonly timestep: number;
  /** Model input = sample · inputScale. */
  readonly inputScale: number;
  /** Prediction of the clean latents; `clamp` is Infinity where nothing is clamped. */
  readonly x0: { readonly sample: number; readonly model: number; readonly clamp: number };
  /** The latents after the step. `history` has one entry a slot (`Schedule.historySlots` of them). */
  readonly next: Mix & { readonly history: readonly number[]; readonly noise: number };
  /** The value that the reference reports as `pred_original_sample` (LCM: `denoised`): the picture to preview. */
  readonly denoised: Mix;
  /** The mix that is put aside after the step, and its slot. */
  readonly push: (Mix & { readonly slot: number }) | null;
  /** The slot in which the sample is put aside as it was before the step, beside what is pushed to another slot. */
  readonly keep: number | null;
  /**
   * True if the reference draws one latents-shaped `randn` from the run's generator in this step. It is drawn, and must
   * be consumed, even where `next.noise` is 0 (Euler draws noise that it never uses), or later draws differ.
   */
  readonly drawsNoise: boolean;
}

/** The level of noised latents: original·`original` + noise·`noise`. */
export interface NoiseLevel {
  readonly original: number;
  readonly noise: number;
}

/** A run's table of rows. Plain data; nothing in it changes while it runs. */
export interface Schedule {
  readonly className: string;
  /** Number of inference steps asked for; the number of rows differs for PNDM, two evaluations a step, and after `from`. */
  readonly steps: number;
  /** Rows of one step. The last step may have fewer: it needs one evaluation of the model alone. */
  readonly evaluations: 1 | 2;
  /** One entry a row: what the model is told. */
  readonly timesteps: Float64Array;
  /** Start latents of text-to-image = randn · initNoiseSigma. Not used for image-to-image. */
  readonly initNoiseSigma: number;
  /** Noise levels, from that of row 0 to that after the last row, for classes that have them. */
  readonly sigmas?: Float64Array;
  readonly rows: readonly StepRow[];
  /** History tensors the rows need, 0 to `MAX_HISTORY_SLOTS`. */
  readonly historySlots: number;
  /** Latents at the noise level of `row`: original·`original` + noise·`noise`. For image-to-image starts. */
  addNoise(row: number): NoiseLevel;
  /** The level of the latents after the last row; left out: they are clean. */
  readonly end?: NoiseLevel;
  /**
   * The schedule of a run that begins at `row`: its rows are not just the tail of these, since a multistep scheduler
   * starts without history wherever it starts.
   */
  from(row: number): Schedule;
}

/** No schedule needs more history tensors than this (PNDM with Runge–Kutta steps; others 3 at most). */
export const MAX_HISTORY_SLOTS = 5;

/** The tensors one row reads; all of one length. `history` is written to. */
export interface StepTensors {
  readonly sample: ArrayLike<number>;
  readonly model: ArrayLike<number>;
  readonly history: readonly Float64Array[];
  readonly noise?: ArrayLike<number>;
}

/**
 * Applies `row` on the CPU in float64 and updates `tensors.history` in place.
 * @throws RangeError where the row needs noise and none is given.
 */
export function applyStepRow(row: StepRow, tensors: StepTensors): { next: Float64Array; denoised: Float64Array } {
  const { sample, model, history, noise } = tensors;
  if (row.next.noise !== 0 && noise === undefined) throw new RangeError("this row needs a noise tensor");
  const next = new Float64Array(sample.length);
  const denoised = new Float64Array(sample.length);
  for (let i = 0; i < sample.length; i++) {
    const s = sample[i] as number;
    const m = model[i] as number;
    const x0 = Math.min(Math.max(row.x0.sample * s + row.x0.model * m, -row.x0.clamp), row.x0.clamp);
    const mixed = (mix: Mix) => mix.sample * s + mix.model * m + mix.x0 * x0;
    let value = mixed(row.next);
    row.next.history.forEach((coefficient, slot) => {
      if (coefficient !== 0) value += coefficient * (history[slot]?.[i] as number);
    });
    if (row.next.noise !== 0) value += row.next.noise * (noise?.[i] as number);
    next[i] = value;
    denoised[i] = mixed(row.denoised);
    if (row.push !== null) (history[row.push.slot] as Float64Array)[i] = mixed(row.push);
    if (row.keep !== null) (history[row.keep] as Float64Array)[i] = s;
  }
  return { next, denoised };
}
