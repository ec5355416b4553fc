/** Prompts that change on the way: their schedules as text, and whole runs on another case's model. */

import { generate } from "../../../src/diffusion/run.ts";
import { promptSchedule, textOfStep } from "../../../src/text/prompt-schedule.ts";
import type { CaseFolder } from "../case-folder.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { modelOf, openWatched, readStep, type WatchedFolder } from "./pipeline.ts";
import { pipelineRequest } from "./pipeline-request.ts";

type Entry = readonly [until: number, text: string];

interface ScheduleFacts {
  readonly prompt: string;
  readonly steps: number;
  /** Steps of a second pass, which the schedule is for. */
  readonly hires_steps?: number;
  readonly old_scheduling?: boolean;
  readonly schedule: readonly Entry[];
}

interface RunFacts {
  readonly prompt: string;
  readonly negative_prompt: string;
  readonly steps: number;
  readonly guidance_scale: number;
  readonly width: number;
  readonly height: number;
  /** In words. */
  readonly scheduler: string;
  /** The texts of each step: one for each part that AND joins. */
  readonly text_at_step: readonly (readonly string[])[];
  readonly negative_at_step: readonly string[];
}

/** True if the runs of a case are of prompts that change on the way. */
export function isPromptSchedule({ facts }: CaseFolder): boolean {
  return Object.values((facts.runs ?? {}) as Record<string, object>).some((run) => "text_at_step" in run);
}

export const promptScheduleKind: Kind = {
  name: "prompt schedule",
  recognises: isPromptSchedule,
  async run(run) {
    await run.group("schedules", () => texts(run));
    const model = await openWatched(run, modelOf(run.folder));
    try {
      for (const [name, facts] of Object.entries(run.folder.facts.runs as Record<string, RunFacts>)) {
        await run.group(name, () => pictures(run, model, name, facts));
      }
    } finally {
      model.model.memory.destroy();
    }
  },
};

async function texts(run: CaseRun): Promise<void> {
  const { schedules } = JSON.parse(await run.folder.readText("schedules.json")) as { schedules: ScheduleFacts[] };
  for (const { prompt, steps, hires_steps, old_scheduling, schedule } of schedules) {
    const read = promptSchedule(prompt, {
      steps: hires_steps ?? steps,
      firstPassSteps: hires_steps === undefined ? undefined : steps,
      oldScheduling: old_scheduling,
    });
    same(
      run,
      "schedules",
      `${prompt} (${steps} steps)`,
      read.map(({ until, text }) => [until, text]),
      schedule,
    );
  }
}

function same(run: CaseRun, group: string, what: string, actual: unknown, wanted: unknown): void {
  if (JSON.stringify(actual) !== JSON.stringify(wanted)) run.fail(group, what, `gives ${JSON.stringify(actual)}`);
  else run.equal(group, what, [0], [0], run.tolerances.exact);
}

async function pictures(run: CaseRun, watched: WatchedFolder, name: string, facts: RunFacts): Promise<void> {
  const { prompt, negative_prompt: negative, steps, width, height } = facts;
  const noise = run.input("noise");
  const textsOf = (text: string) => {
    const schedule = promptSchedule(text, { steps });
    return Array.from({ length: steps }, (_, step) => textOfStep(schedule, step));
  };
  same(
    run,
    name,
    "texts",
    textsOf(prompt).map((text) => [text]),
    facts.text_at_step,
  );
  same(run, name, "negative texts", textsOf(negative), facts.negative_at_step);
  const scheduler = facts.scheduler.startsWith("Euler")
    ? {
        beta_schedule: "scaled_linear",
        beta_start: 0.00085,
        beta_end: 0.012,
        steps_offset: 1,
        interpolation_type: "linear",
      }
    : undefined;
  const request = pipelineRequest(
    {
      prompt,
      negative_prompt: negative,
      num_inference_steps: steps,
      guidance_scale: facts.guidance_scale,
      width,
      height,
      scheduler,
    },
    { draws: [noise] },
  );
  const shape = { images: 1, channels: noise.shape[1]!, height: noise.shape[2]!, width: noise.shape[3]! };
  const latents: number[] = [];
  const outputs: number[] = [];
  watched.clear();
  for await (const event of generate(watched.model, { ...request, promptSyntax: "weighted" })) {
    if (event.type !== "step") continue;
    const step = await readStep(watched, shape, await event.latents());
    latents.push(...step.latents);
    outputs.push(...step.model);
  }
  if (run.folder.expected.has(`${name}.timesteps`)) run.optional(`${name}.timesteps`);
  run.compare(`${name}.unet_output`, outputs, run.tolerances.pipeline);
  run.compare(`${name}.latents_after_step`, latents, run.tolerances.pipeline);
}
