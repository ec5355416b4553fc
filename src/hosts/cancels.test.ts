/**
 * Jobs of a worker that draws on a GPU, cancelled in mid-step: the process lives, and draws a picture after. In the suite
 * there are 10 of them; `DAGUERRE_CANCELS=100 npx vitest run src/hosts/cancels.test.ts` does more, and
 * `DAGUERRE_SEED` changes the moments.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";

const count = Number(process.env.DAGUERRE_CANCELS ?? 10);
const seed = Number(process.env.DAGUERRE_SEED ?? 1);
/** A cancelled job is over after its step, and a step takes seconds at most, even on a machine with much to do. */
const MS_EACH = 10_000;

it(`${count} cancels in mid-step leave the server alive (seed ${seed})`, {
  timeout: 120_000 + count * MS_EACH,
}, async () => {
  const loaders = ["--import", "./tooling/wgsl-loader.mjs", "--import", "tsx"];
  const program = [...loaders, "src/hosts/testing/cancels.ts", String(count), String(seed)];
  // Rejects where the process ends with another code than 0: with 134 if a promise of Dawn's was cut off.
  const { stdout } = await promisify(execFile)(process.execPath, program, { cwd: process.cwd() });
  const { cancelled, refused, picture } = JSON.parse(stdout);
  expect(cancelled).toBe(count);
  // The thread was overdue, so new runs had to wait for it.
  expect(refused).toBeGreaterThan(0);
  expect(picture).toMatch(/^[0-9a-f]{64}$/);
});
