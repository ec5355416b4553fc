/**
 * Steps and guidance that a distilled checkpoint wants: its folder seldom states them, and those of the model it was
 * distilled from burn its pictures.
 */

/** Values for requests that leave them out. */
export interface UsualRun {
  readonly steps: number;
  readonly guidanceScale: number;
}

/** The parts of a folder that tell a distilled model. */
export interface Checkpoint {
  /** Names of the model, as far as the folder has any: of its repository, its own, `_name_or_path` of its configurations. */
  readonly names: readonly (string | undefined)[];
  readonly scheduler: { readonly className: string; readonly config: Readonly<Record<string, unknown>> };
  /** True if the guidance scale is an input of its UNet. */
  readonly embedsGuidance: boolean;
}

interface NamedKind extends UsualRun {
  readonly name: RegExp;
  /** Counts of steps for which there are checkpoints, where a name with one is believed: `sdxl-lightning-8step`. */
  readonly counts?: readonly number[];
}

/** Kinds by name, as their makers' model cards have it. A guidance scale of 0 is none. */
const NAMED: readonly NamedKind[] = [
  // stabilityai/sd-turbo and sdxl-turbo: one step (to 4), guidance 0.
  { name: /sd(xl)?[-_ ]?turbo/, steps: 1, guidanceScale: 0, counts: [1, 2, 3, 4] },
  // Lykon/dreamshaper-xl-v2-turbo: 4 to 8 steps, guidance 2; its like were tuned on from SDXL-Turbo.
  { name: /turbo/, steps: 6, guidanceScale: 2 },
  // ByteDance/SDXL-Lightning: checkpoints of 1, 2, 4 and 8 steps, guidance 0.
  { name: /sdxl[-_ ]?lightning/, steps: 4, guidanceScale: 0, counts: [1, 2, 4, 8] },
  // Lykon/dreamshaper-xl-lightning: 3 to 6 steps, guidance 2; SG161222/RealVisXL_V4.0_Lightning: from 4 steps, 1 to 2.
  { name: /lightning/, steps: 4, guidanceScale: 2, counts: [1, 2, 4, 8] },
  // ByteDance/Hyper-SD, "CFG-preserved": 8 or 12 steps, guidance 5 to 8.
  { name: /hyper[-_ ]?sd.*cfg/, steps: 8, guidanceScale: 5, counts: [8, 12] },
  // ByteDance/Hyper-SD: 1, 2, 4 or 8 steps, guidance 0.
  { name: /hyper[-_ ]?sd/, steps: 4, guidanceScale: 0, counts: [1, 2, 4, 8] },
];

/** latent-consistency/lcm-sdxl: 4 steps, guidance 8, which is an input of the UNet. */
const LCM: UsualRun = { steps: 4, guidanceScale: 8 };
/** latent-consistency/lcm-lora-sdxl, merged: 4 steps (2 to 8), guidance off or from 1 to 2. */
const LCM_LORA: UsualRun = { steps: 4, guidanceScale: 1 };
/** A trailing schedule of Euler's steps: SD-Turbo's and SDXL-Turbo's configurations, and SDXL-Lightning's. */
const TRAILING: UsualRun = { steps: 4, guidanceScale: 0 };

/** The usual run of a distilled checkpoint; undefined if nothing says that it is one. */
export function distilledRun({ names, scheduler, embedsGuidance }: Checkpoint): UsualRun | undefined {
  for (const given of names) {
    const name = given?.toLowerCase() ?? "";
    const kind = NAMED.find((one) => one.name.test(name));
    if (kind) return { steps: stepsIn(name, kind), guidanceScale: kind.guidanceScale };
  }
  const isLcm = names.some((name) => /(^|[^a-z])lcm([^a-z]|$)/.test(name?.toLowerCase() ?? ""));
  if (scheduler.className === "LCMScheduler" || isLcm) return embedsGuidance ? LCM : LCM_LORA;
  return isTrailingEuler(scheduler) ? TRAILING : undefined;
}

/** The count of steps in a name, if it is one that this kind has checkpoints for. */
function stepsIn(name: string, { steps, counts }: NamedKind): number {
  const count = Number(/(\d+)[-_ ]?steps?(?![a-z])/.exec(name)?.[1]);
  return counts?.includes(count) ? count : steps;
}

/** Models with a zero terminal signal-to-noise ratio have trailing timesteps too, without being distilled. */
function isTrailingEuler({ className, config }: Checkpoint["scheduler"]): boolean {
  const isEuler = className === "EulerDiscreteScheduler" || className === "EulerAncestralDiscreteScheduler";
  const predictsVelocity = config.prediction_type === "v_prediction";
  return (
    isEuler && config.timestep_spacing === "trailing" && config.rescale_betas_zero_snr !== true && !predictsVelocity
  );
}
