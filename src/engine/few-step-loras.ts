/**
 * LoRAs that make a model draw in a few steps: LCM, Lightning, Hyper-SD, Turbo and their like. Each was trained for one
 * scheduler, a count of steps and a guidance scale, and looks broken with others. They are told by the names that their makers
 * gave the files and repositories, or by what a trainer wrote into the file.
 */

import { basename, dirname } from "node:path";
import type { SchedulerChoice } from "../diffusion/request.ts";
import { type SchedulerClass, spacesTimesteps } from "../diffusion/schedulers/create-schedule.ts";
import type { TimestepSpacing } from "../diffusion/schedulers/timesteps.ts";
import type { LoraRequest } from "../memory/weight-sets.ts";
import { fileVersion } from "../platform/file-version.ts";
import { quoted } from "../platform/quoted.ts";
import { openSafetensors } from "../weights/safetensors.ts";

/** Values for the fields that a request leaves out. A guidance scale of 0 is none. */
export interface FewStepRun {
  readonly kind: string;
  readonly className: SchedulerClass;
  readonly timestepSpacing?: TimestepSpacing;
  readonly eta?: number;
  readonly steps: number;
  readonly guidanceScale: number;
}

interface NamedKind extends FewStepRun {
  readonly name: RegExp;
  /** Counts of steps that there are LoRAs for: one in a name is believed. */
  readonly counts?: readonly number[];
}

const TRAILING = { timestepSpacing: "trailing" } as const;

/** By name, as the makers' model cards have it; the more particular name stands first. */
const KINDS: readonly NamedKind[] = [
  // ByteDance/Hyper-SD, one step: TCD with its full noise, guidance 0; the same file does more steps.
  {
    name: /hyper[-_ ]?sd.*\b1[-_ ]?step/,
    ...{ kind: "Hyper-SD", className: "TCDScheduler", eta: 1, steps: 1, guidanceScale: 0 },
  },
  // ByteDance/Hyper-SD, "CFG-preserved": DDIM, trailing, 8 or 12 steps, guidance 5 to 8.
  {
    name: /hyper[-_ ]?sd.*cfg/,
    ...{ kind: "Hyper-SD", className: "DDIMScheduler", ...TRAILING, steps: 8, guidanceScale: 5, counts: [8, 12] },
  },
  // ByteDance/Hyper-SD: DDIM, trailing, 2, 4 or 8 steps, guidance 0.
  {
    name: /hyper[-_ ]?sd/,
    ...{ kind: "Hyper-SD", className: "DDIMScheduler", ...TRAILING, steps: 8, guidanceScale: 0, counts: [2, 4, 8] },
  },
  // ByteDance/SDXL-Lightning: Euler, trailing, 2, 4 or 8 steps, guidance 0.
  {
    // The word alone is the weather's.
    name: /(sd|xl)[-_ ]?lightning|lightning[-_ ]?(lora[-_ ]?)?\d[-_ ]?step/,
    ...{ kind: "Lightning", className: "EulerDiscreteScheduler", ...TRAILING, steps: 4, guidanceScale: 0 },
    counts: [2, 4, 8],
  },
  // h1t/TCD-SDXL-LoRA, TCD-SD15-LoRA: TCD, 4 steps, eta 0.3, guidance 0.
  {
    name: /(^|[^a-z])tcd([^a-z]|$)/,
    ...{ kind: "TCD", className: "TCDScheduler", eta: 0.3, steps: 4, guidanceScale: 0 },
  },
  // tianweiy/DMD2: LCM's scheduler, 4 steps, guidance 0.
  { name: /(^|[^a-z])dmd2?([^a-z]|$)/, kind: "DMD2", className: "LCMScheduler", steps: 4, guidanceScale: 0 },
  // latent-consistency/lcm-lora-sdv1-5, lcm-lora-sdxl: LCM, 4 steps (2 to 8), guidance off or from 1 to 2.
  { name: /(^|[^a-z])lcm([^a-z]|$)/, kind: "LCM", className: "LCMScheduler", steps: 4, guidanceScale: 1 },
  // LoRAs taken from SDXL-Turbo and SD-Turbo: Euler a, trailing, 1 to 4 steps, guidance 0.
  {
    name: /(sd|xl)[-_ ]?turbo|turbo[-_ ]?lora/,
    ...{ kind: "Turbo", className: "EulerAncestralDiscreteScheduler", ...TRAILING, steps: 4, guidanceScale: 0 },
    counts: [1, 2, 3, 4, 8],
  },
];

/** The kind of the first name that says one. */
export function fewStepKind(names: readonly string[]): FewStepRun | undefined {
  for (const name of names.map((one) => one.toLowerCase())) {
    const kind = KINDS.find((one) => one.name.test(name));
    if (kind === undefined) continue;
    const { name: _, counts, ...run } = kind;
    const count = Number(/(\d+)[-_ ]?steps?(?![a-z])/.exec(name)?.[1]);
    return counts?.includes(count) ? { ...run, steps: count } : run;
  }
  return undefined;
}

/** Fields in which trainers and merging programs keep a file's name. */
const NAMES_WITHIN = ["modelspec.title", "ss_output_name"];
/** Many files have one of these names, and the folder says whose: `lcm-lora-sdv1-5/pytorch_lora_weights.safetensors`. */
const NAMELESS = /^(?:pytorch_lora_weights|adapter_model|diffusion_pytorch_model|lora|model)\b/i;
/** Files whose names are kept: as many as a request has, for some requests. */
const MOST_KNOWN = 64;

const known = new Map<string, { readonly version: string; readonly run: FewStepRun | undefined }>();

/** A request's few-step LoRA, and what it wants; the first counts. */
export async function fewStepOf(
  loras: readonly LoraRequest[],
): Promise<{ readonly file: string; readonly run: FewStepRun } | undefined> {
  for (const { path, scale, unet = scale } of loras) {
    if (unet === 0) continue;
    const run = await runOf(path);
    if (run !== undefined) return { file: basename(path), run };
  }
  return undefined;
}

async function runOf(path: string): Promise<FewStepRun | undefined> {
  const name = basename(path);
  const named = fewStepKind(NAMELESS.test(name) ? [name, basename(dirname(path))] : [name]);
  if (named !== undefined) return named;
  try {
    const { bytes, writtenAt } = await fileVersion(path);
    const version = `${bytes} ${writtenAt}`;
    const earlier = known.get(path);
    if (earlier?.version === version) return earlier.run;
    const file = await openSafetensors(path);
    await file.close();
    const run = fewStepKind(NAMES_WITHIN.flatMap((name) => file.metadata.get(name)?.slice(0, 200) ?? []));
    known.delete(path);
    known.set(path, { version, run });
    if (known.size > MOST_KNOWN) known.delete(known.keys().next().value as string);
    return run;
  } catch {
    return undefined; // whoever merges it says what is wrong with it
  }
}

/** The values of a request for what a few-step LoRA decides: what it leaves open is undefined. */
export interface AskedRun {
  readonly scheduler: SchedulerChoice | undefined;
  /** True if it says which noise levels or timesteps there are. */
  readonly hasLevels: boolean;
  readonly hasSpacing: boolean;
  readonly steps: number | undefined;
  readonly guidanceScale: number | undefined;
}

/** A few-step LoRA's values where a request has none, and the sentence of its result about them. */
export function decidedBy({ file, run }: { readonly file: string; readonly run: FewStepRun }, asked: AskedRun) {
  const { kind, className, timestepSpacing, steps, guidanceScale } = run;
  const respaces = timestepSpacing !== undefined && !asked.hasSpacing && !asked.hasLevels;
  const spacing = respaces ? { timestep_spacing: timestepSpacing } : {};
  const isOpen = asked.scheduler === undefined && !asked.hasLevels;
  const isSpaced = respaces && (isOpen || (asked.scheduler && spacesTimesteps(asked.scheduler.className)));
  const decided = [
    ...(isOpen ? [className] : []),
    ...(isSpaced ? [`${timestepSpacing} timesteps`] : []),
    ...(asked.steps === undefined ? [steps === 1 ? "1 step" : `${steps} steps`] : []),
    ...(asked.guidanceScale === undefined ? [guidanceScale === 0 ? "no guidance" : `guidance ${guidanceScale}`] : []),
  ];
  const scheduler = isOpen ? { className } : asked.scheduler;
  return {
    scheduler: isSpaced && scheduler ? { ...scheduler, changes: { ...scheduler.changes, ...spacing } } : scheduler,
    warnings:
      decided.length === 0
        ? []
        : [
            `The LoRA ${quoted(file)} is a ${kind} LoRA; what the request leaves open is as it needs: ${decided.join(", ")}.`,
          ],
  };
}
