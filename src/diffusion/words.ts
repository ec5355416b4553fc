/** The words of a run, step by step: prompts in the weighted syntax may say what changes when (`text/prompt-schedule.ts`). */

import { mayChange, promptSchedule, type ScheduledText, textOfStep } from "../text/prompt-schedule.ts";
import type { PipelineRequest, PipelineUpdate } from "./request.ts";

const FIELDS = ["prompt", "negativePrompt", "prompt2", "negativePrompt2"] as const;
type Field = (typeof FIELDS)[number];

export class Words {
  /** The request with its prompts as they were written. */
  readonly request: PipelineRequest;
  readonly #steps: number;
  readonly #schedules: (readonly [Field, ScheduledText[]])[];
  readonly #requests = new Map<string, PipelineRequest>();

  /** @param steps that its prompts count: the request's, times the evaluations of the network in each */
  constructor(request: PipelineRequest, steps: number) {
    this.request = request;
    this.#steps = steps;
    this.#schedules = FIELDS.flatMap((field) => {
      const prompt = request[field];
      if (request.promptSyntax !== "weighted" || prompt === undefined || !mayChange(prompt)) return [];
      return [[field, promptSchedule(prompt, { steps })] as const];
    });
  }

  with(update: PipelineUpdate): Words {
    return new Words({ ...this.request, ...update }, this.#steps);
  }

  /** The request as it is for an evaluation, counted from 0; the same object as long as no word changes. */
  at(evaluation: number): PipelineRequest {
    if (this.#schedules.length === 0) return this.request;
    const texts = this.#schedules.map(([field, schedule]) => [field, textOfStep(schedule, evaluation)] as const);
    const key = JSON.stringify(texts);
    const known = this.#requests.get(key);
    if (known) return known;
    const changed = { ...this.request, ...Object.fromEntries(texts) };
    this.#requests.set(key, changed);
    return changed;
  }

  /** The different requests of so many evaluations, in their order. */
  all(evaluations: number): PipelineRequest[] {
    if (this.#schedules.length === 0) return [this.request];
    return [...new Set(Array.from({ length: evaluations }, (_, evaluation) => this.at(evaluation)))];
  }
}
