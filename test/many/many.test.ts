import { afterAll, beforeAll, expect, it } from "vitest";
import type { Runtime } from "../../src/engine/contract.ts";
import { createRuntime } from "../../src/engine/runtime.ts";
import { aloneElsewhere, manyJobs } from "./jobs.ts";

const JOBS = { jobs: 48, requests: 10, seed: 20261127 };

let runtime: Runtime;
let alone: Map<number, string>;
beforeAll(async () => {
  alone = await aloneElsewhere(Array.from({ length: JOBS.requests }, (_, seed) => seed));
  runtime = await createRuntime();
});
afterAll(() => runtime?.close());

it("random jobs at once draw what each draws alone in a fresh process", { timeout: 300_000 }, async () => {
  const { outcomes, faults, slotsPerReplay } = await manyJobs(runtime, JOBS, alone);
  expect(faults).toEqual([]);
  expect(Object.values(outcomes).reduce((sum, count) => sum + count)).toBe(JOBS.jobs);
  expect(slotsPerReplay).toBeGreaterThan(1.5);
});
