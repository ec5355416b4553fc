// The names that guides give samplers: AUTOMATIC1111's ("DPM++ 2M Karras"), ComfyUI's (`dpmpp_2m`) and diffusers' classes.
// A sampler is a class of diffusers with a few fields of its configuration; a name may end with a way to space the levels.

import type { SchedulerClass } from "./create-schedule.ts";
import { SIGMA_SCHEDULES, type SigmaSchedule } from "./sigma-schedules.ts";

export interface Sampler {
  /** As AUTOMATIC1111 has it, or the nearest to it. */
  readonly name: string;
  /** Other names. The first is the short one. */
  readonly aliases: readonly [string, ...string[]];
  readonly className: SchedulerClass;
  /** Fields that make this sampler of its class, whatever the model's configuration has there. */
  readonly config?: Readonly<Record<string, unknown>>;
}

const ODE = { algorithm_type: "dpmsolver++", final_sigmas_type: "zero" };
const SDE = { algorithm_type: "sde-dpmsolver++", final_sigmas_type: "zero" };
const SECOND = { solver_order: 2, solver_type: "midpoint" };

/** All of them, in the order in which they are listed. */
export const SAMPLERS: readonly Sampler[] = [
  { name: "Euler", aliases: ["euler"], className: "EulerDiscreteScheduler" },
  { name: "Euler a", aliases: ["euler_a", "euler_ancestral"], className: "EulerAncestralDiscreteScheduler" },
  {
    name: "DPM++ 2M",
    aliases: ["dpmpp_2m", "dpm++_2m"],
    className: "DPMSolverMultistepScheduler",
    config: { ...ODE, ...SECOND },
  },
  {
    name: "DPM++ 2M SDE",
    aliases: ["dpmpp_2m_sde", "dpmpp_2m_sde_gpu"],
    className: "DPMSolverMultistepScheduler",
    config: { ...SDE, ...SECOND },
  },
  {
    name: "DPM++ 2M SDE Heun",
    aliases: ["dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu"],
    className: "DPMSolverMultistepScheduler",
    config: { ...SDE, solver_order: 2, solver_type: "heun" },
  },
  {
    name: "DPM++ 3M SDE",
    aliases: ["dpmpp_3m_sde", "dpmpp_3m_sde_gpu"],
    className: "DPMSolverMultistepScheduler",
    config: { ...SDE, solver_order: 3, solver_type: "midpoint" },
  },
  { name: "DPM++ SDE", aliases: ["dpmpp_sde", "dpmpp_sde_gpu"], className: "DPMSolverSDEScheduler" },
  { name: "DPM++ 2S a", aliases: ["dpmpp_2s_ancestral", "dpmpp_2s_a"], className: "DPMSolver2SAncestralScheduler" },
  {
    name: "DPM++ 2S",
    aliases: ["dpmpp_2s"],
    className: "DPMSolverSinglestepScheduler",
    config: { ...ODE, ...SECOND, lower_order_final: true },
  },
  { name: "DPM2", aliases: ["dpm_2", "kdpm2"], className: "KDPM2DiscreteScheduler" },
  { name: "DPM2 a", aliases: ["dpm_2_ancestral", "dpm_2_a", "kdpm2_a"], className: "KDPM2AncestralDiscreteScheduler" },
  { name: "Heun", aliases: ["heun"], className: "HeunDiscreteScheduler" },
  {
    name: "UniPC",
    aliases: ["uni_pc", "unipc_bh1"],
    className: "UniPCMultistepScheduler",
    config: { solver_type: "bh1", final_sigmas_type: "zero" },
  },
  {
    name: "UniPC bh2",
    aliases: ["uni_pc_bh2"],
    className: "UniPCMultistepScheduler",
    config: { solver_type: "bh2", final_sigmas_type: "zero" },
  },
  { name: "DEIS", aliases: ["deis"], className: "DEISMultistepScheduler" },
  { name: "DDIM", aliases: ["ddim"], className: "DDIMScheduler" },
  { name: "PLMS", aliases: ["pndm", "plms"], className: "PNDMScheduler" },
  { name: "LCM", aliases: ["lcm"], className: "LCMScheduler" },
  { name: "TCD", aliases: ["tcd"], className: "TCDScheduler" },
  { name: "Flow Euler", aliases: ["flow_match_euler"], className: "FlowMatchEulerDiscreteScheduler" },
  { name: "EDM Euler", aliases: ["edm_euler"], className: "EDMEulerScheduler" },
  { name: "EDM DPM++ 2M", aliases: ["edm_dpmpp_2m"], className: "EDMDPMSolverMultistepScheduler" },
];

/** How the field spells its levels' spacing at the end of a name. "Automatic", "normal" and "uniform": the sampler's own. */
const SUFFIXES: Readonly<Record<string, SigmaSchedule | "own">> = {
  ...Object.fromEntries(SIGMA_SCHEDULES.map((schedule) => [plain(schedule), schedule])),
  ays: "align_your_steps",
  automatic: "own",
  normal: "own",
  uniform: "own",
};

/** The spacing that a name means by itself: `Karras`, `SGM Uniform`, `Automatic`; undefined if there is none of this name. */
export function spacingNamed(name: string): SigmaSchedule | "own" | undefined {
  const asked = plain(name);
  return Object.hasOwn(SUFFIXES, asked) ? SUFFIXES[asked] : undefined;
}

/** A sampler and, if the name has one, a spacing of its levels. */
export interface NamedSampler extends Pick<Sampler, "className" | "config"> {
  readonly sigmaSchedule?: SigmaSchedule;
}

function plain(name: string): string {
  return name
    .toLowerCase()
    .replace(/[\s_-]/g, "")
    .replace("dpmpp", "dpm++");
}

const BY_NAME: ReadonlyMap<string, Pick<Sampler, "className" | "config">> = new Map([
  // A class alone keeps the model's configuration.
  ...SAMPLERS.map(({ className }) => [plain(className), { className }] as const),
  ...SAMPLERS.flatMap(({ name, aliases, className, config }) =>
    [name, ...aliases].map((alias) => [plain(alias), { className, config }] as const),
  ),
]);

/** The sampler that a request names; undefined if there is none. */
export function samplerNamed(name: string): NamedSampler | undefined {
  const asked = plain(name);
  const whole = BY_NAME.get(asked);
  if (whole) return whole;
  for (const [suffix, schedule] of Object.entries(SUFFIXES)) {
    const sampler = asked.endsWith(suffix) ? BY_NAME.get(asked.slice(0, -suffix.length)) : undefined;
    if (sampler) return schedule === "own" ? sampler : { ...sampler, sigmaSchedule: schedule };
  }
  return undefined;
}

/** Every name of every sampler, for the errors that name near ones. */
export const SAMPLER_NAMES: readonly string[] = SAMPLERS.flatMap(({ name, aliases, className }) => [
  name,
  ...aliases,
  className,
]);
