// Replays of diffusers 0.30.3: each combination of class, configuration and steps in `combos.json`, compared row by row
// (the reference's samples and model outputs in, its next sample out) and as a trajectory from the seed alone.

import { describe, expect, test } from "vitest";
import { readFixtureJson, readFixtureTensors } from "../../../test/fixtures/read-fixture.ts";
import { cpuGenerator } from "../noise.ts";
import { createSchedule } from "./create-schedule.ts";
import { applyStepRow, MAX_HISTORY_SLOTS, type Schedule } from "./schedule.ts";

interface Combo {
  readonly id: string;
  readonly class: string;
  readonly config: Record<string, unknown>;
  readonly num_inference_steps: number;
  readonly set_timesteps_args: { mu?: number; sigmas?: string };
  readonly step_args: { eta?: number };
  readonly init_noise_sigma: number;
  readonly seed: string;
  readonly draws: number;
}

/** Limit of the issue for schedulers, relative to the largest value compared. */
const LIMIT = 1e-5;

const combos = readFixtureJson<Combo[]>("schedulers/combos.json");
const expected = readFixtureTensors("schedulers/expected.safetensors");

function scheduleOf(combo: Combo): Schedule {
  const steps = combo.num_inference_steps;
  const { mu, sigmas } = combo.set_timesteps_args;
  return createSchedule(combo.class, combo.config, {
    steps,
    mu,
    eta: combo.step_args.eta,
    // The fixture names numpy's linspace(1, 1/n, n).
    ...(sigmas !== undefined && {
      sigmas: Array.from({ length: steps }, (_, i) => (steps === 1 ? 1 : 1 + (i * (1 / steps - 1)) / (steps - 1))),
    }),
  });
}

/** Largest difference over the largest magnitude in `wanted` and, where given, `scale`. */
function relativeDifference(actual: ArrayLike<number>, wanted: ArrayLike<number>, scale: Float64Array = NONE): number {
  expect(actual.length).toBe(wanted.length);
  let difference = 0;
  let largest = scale.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (let i = 0; i < wanted.length; i++) {
    difference = Math.max(difference, Math.abs(actual[i]! - wanted[i]!));
    largest = Math.max(largest, Math.abs(wanted[i]!));
  }
  return difference / (largest || 1);
}

const NONE = new Float64Array(0);

/** Row `index` of a fixture tensor whose first dimension counts steps. */
function rowOf(name: string, index: number): Float64Array {
  const { values, shape } = expected.get(name)!;
  const size = values.length / shape[0]!;
  return values.subarray(index * size, (index + 1) * size);
}

const emptyHistory = (schedule: Schedule, size: number) =>
  Array.from({ length: schedule.historySlots }, () => new Float64Array(size).fill(Number.NaN));

/** The fixtures' stand-in for a model: 0.1·x + 0.05·sin(t), in float32. */
const standInModel = (input: Float64Array, timestep: number) =>
  input.map((value) => Math.fround(0.1 * value + 0.05 * Math.sin(timestep)));

describe.each(combos)("$id", (combo) => {
  const tensor = (name: string) => expected.get(`${combo.id}.${name}`);
  const schedule = scheduleOf(combo);
  const size = rowOf(`${combo.id}.samples`, 0).length;

  test("timesteps, levels and draws", () => {
    const timesteps = tensor("timesteps")!.values;
    if (timesteps.every(Number.isInteger)) expect([...schedule.timesteps]).toEqual([...timesteps]);
    // Fractional ones go through numpy's float32 logarithm, whose last bit is its own.
    else expect(relativeDifference(schedule.timesteps, timesteps)).toBeLessThan(1e-7);
    expect(schedule.rows.map((row) => row.timestep)).toEqual(Array.from(schedule.timesteps));
    expect(schedule.rows.filter((row) => row.drawsNoise)).toHaveLength(combo.draws);
    expect(Math.abs(schedule.initNoiseSigma / combo.init_noise_sigma - 1)).toBeLessThan(1e-6);
    expect(schedule.historySlots).toBeLessThanOrEqual(MAX_HISTORY_SLOTS);
    const sigmas = tensor("sigmas");
    if (sigmas) expect(relativeDifference(schedule.sigmas!, sigmas.values)).toBeLessThan(1e-6);
  });

  test("every row, from the reference's own samples", () => {
    const generator = cpuGenerator(BigInt(combo.seed));
    generator.randn(size);
    const history = emptyHistory(schedule, size);
    schedule.rows.forEach((row, index) => {
      const sample = rowOf(`${combo.id}.samples`, index);
      const model = rowOf(`${combo.id}.model_outputs`, index);
      if (tensor("scaled_inputs")) {
        const input = sample.map((value) => value * row.inputScale);
        expect(relativeDifference(input, rowOf(`${combo.id}.scaled_inputs`, index))).toBeLessThan(LIMIT);
      }
      const noise = row.drawsNoise ? generator.randn(size) : undefined;
      const { next, denoised } = applyStepRow(row, { sample, model, history, noise });
      // Relative to the larger of the latents before and after: the reference subtracts float32 latents of the size of
      // sigma to reach small ones, and its own rounding error is of the former's size.
      const wanted = rowOf(`${combo.id}.samples`, index + 1);
      expect(relativeDifference(next, wanted, sample), `row ${index}`).toBeLessThan(LIMIT);
      if (tensor("pred_x0")) {
        expect(relativeDifference(denoised, rowOf(`${combo.id}.pred_x0`, index)), `x0 ${index}`).toBeLessThan(LIMIT);
      }
    });
  });

  test("the whole trajectory, from the seed", () => {
    const generator = cpuGenerator(BigInt(combo.seed));
    let sample = Float64Array.from(generator.randn(size), (value) => value * schedule.initNoiseSigma);
    const history = emptyHistory(schedule, size);
    const trajectory = [...sample];
    for (const row of schedule.rows) {
      const model = standInModel(
        sample.map((value) => value * row.inputScale),
        row.timestep,
      );
      const noise = row.drawsNoise ? generator.randn(size) : undefined;
      sample = Float64Array.from(applyStepRow(row, { sample, model, history, noise }).next);
      trajectory.push(...sample);
    }
    expect(relativeDifference(trajectory, tensor("samples")!.values)).toBeLessThan(LIMIT);
  });

  if (!tensor("add_noise.noisy")) return;
  test("noise added at every row's level", () => {
    const original = tensor("add_noise.original")!.values;
    const noise = tensor("add_noise.noise")!.values;
    schedule.timesteps.forEach((timestep, row) => {
      // Called by timestep, the reference takes the second of two equal ones.
      const same = schedule.timesteps.indexOf(timestep) === row && schedule.timesteps[row + 1] === timestep ? 1 : 0;
      const level = schedule.addNoise(row + same);
      const noisy = original.map((value, i) => value * level.original + noise[i]! * level.noise);
      expect(relativeDifference(noisy, rowOf(`${combo.id}.add_noise.noisy`, row))).toBeLessThan(LIMIT);
    });
  });
});
