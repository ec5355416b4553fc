/**
 * `npm run bench -- switch`: two models in memory for one, asked for in turns. The time of a switch is the loading that a
 * request waits for; files are in the cache of the operating system, kernels have been compiled.
 */

import { createRuntime } from "../../src/engine/runtime.ts";
import { changedModel } from "../../test/changed-weights.ts";
import { type Lap, type Timing, timing } from "../turns.ts";

export interface SwitchResult {
  readonly adapter: string;
  /** Loading alone, in ms. */
  readonly load: Timing;
  /** From the request to its first step, of a model that is on the device and of one that is not, in ms. */
  readonly present: Timing;
  readonly absent: Timing;
}

/** The built-in model takes 26 MiB with the plans of one size. */
const ONE_MODEL_BYTES = 40 * 2 ** 20;

export async function measureSwitch({ rounds }: { rounds: number }): Promise<SwitchResult> {
  const models = { one: { model: changedModel({}) }, other: { model: changedModel({}) } };
  const runtime = await createRuntime({ models, maxGpuMemory: ONE_MODEL_BYTES });
  const loads: Lap[] = [];
  const loaded = ({ change, ms }: { change: string; ms?: number }) => {
    if (change === "loaded") loads.push({ wall: ms!, cpu: Number.NaN });
  };
  const firstStep = async (model: string): Promise<Lap> => {
    const begun = performance.now();
    const before = process.cpuUsage();
    let first: Lap | undefined;
    const input = { model, prompt: "a lake", num_inference_steps: 1, guidance_scale: 3, preview_every: 0, seed: 1 };
    for await (const { type } of runtime.textToImage(input)) {
      if (type !== "progress" || first) continue;
      const { user, system } = process.cpuUsage(before);
      first = { wall: performance.now() - begun, cpu: (user + system) / 1000 };
    }
    return first!;
  };
  try {
    for (const model of ["one", "other"]) await firstStep(model);
    runtime.watchModels(loaded);
    const [present, absent]: [Lap[], Lap[]] = [[], []];
    for (let round = 0; round < rounds; round++) {
      for (const model of ["one", "other"]) {
        absent.push(await firstStep(model));
        present.push(await firstStep(model));
      }
    }
    const { name } = runtime.adapter;
    return { adapter: name, load: timing(loads), present: timing(present), absent: timing(absent) };
  } finally {
    await runtime.close();
  }
}
