/**
 * A run with no model behind it, for tests of what lies between a run and its client: a picture that brightens step by
 * step, in the events of the real pipeline.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Picture, RunEvent } from "../src/engine/events.ts";
import type { RunContext } from "../src/jobs/run.ts";

export interface GradientInput {
  prompt: string;
  num_inference_steps?: number;
  preview_every?: number;
  /** Milliseconds a step takes. */
  step_ms?: number;
  /** Pixels of a side. */
  side?: number;
}

/** A record of a run, for a test to look at while it runs and afterwards. */
export interface RunRecord {
  steps: number;
  /** Set when its `finally` has run. */
  ended: boolean;
  aborted: boolean;
}

/** A gradient run, and the record it writes into. It looks at its signal before each step. */
export function gradientRun(record: RunRecord = { steps: 0, ended: false, aborted: false }) {
  async function* run(input: GradientInput, { signal }: RunContext): AsyncGenerator<RunEvent> {
    const { prompt, num_inference_steps: steps = 10, preview_every: every = 5, step_ms = 2, side = 64 } = input;
    const started = performance.now();
    signal.addEventListener("abort", () => {
      record.aborted = true;
    });
    try {
      yield { type: "queued", position: 0 };
      for (let step = 1; step <= steps; step++) {
        signal.throwIfAborted();
        await sleep(step_ms);
        record.steps = step;
        const progress = step / steps;
        yield { type: "progress", step, steps, progress, elapsed_ms: performance.now() - started };
        if (every > 0 && step % every === 0 && step < steps) {
          const picture = gradient(side, progress);
          yield { type: "preview", picture, step, steps, progress, decoder: "linear" };
        }
      }
      const total = performance.now() - started;
      yield { type: "result", pictures: [gradient(side, 1)], seed: 7, prompt, timings: { total } };
    } finally {
      record.ended = true;
    }
  }
  return run;
}

/** Red to the right, green downwards, noise in blue so that it does not compress away. `brightness` dims the first two. */
export function gradient(side: number, brightness: number): Picture {
  const rgba = new Uint8Array(side * side * 4);
  let noise = 1;
  for (let i = 0; i < rgba.length; i += 4) {
    // The minimal standard generator of Park and Miller.
    noise = (noise * 48271) % 0x7fffffff;
    rgba[i] = brightness * ((255 * ((i / 4) % side)) / side);
    rgba[i + 1] = brightness * ((255 * Math.floor(i / 4 / side)) / side);
    rgba[i + 2] = noise & 255;
    rgba[i + 3] = 255;
  }
  return { width: side, height: side, rgba };
}

/** Waits until `condition` holds; fails after `withinMs`. */
export async function until(condition: () => boolean | Promise<boolean>, withinMs = 5_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`still not so after ${withinMs} ms: ${condition}`);
    await sleep(5);
  }
}

/** The number of a server-sent event, from its id: `<job>:<n>`. */
export function eventNumber(id: string | undefined): number {
  return Number(id?.slice(id.lastIndexOf(":") + 1));
}
