/**
 * `npm run bench -- start`: how long a user waits for the first picture of the built-in model, from the start of the
 * process to the file: with empty caches (the first time on a machine), and with those that this left.
 */

import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Lap, type Timing, timing } from "../turns.ts";

export interface StartResult {
  /** Process start to the written picture, in ms. */
  readonly cold: Timing;
  readonly warm: Timing;
  /** Process start to the first denoising step that is done, in ms. */
  readonly warmFirstStep: Timing;
}

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
// Linux counts CPU time in ticks of 1/100 s (USER_HZ).
const TICK_MS = 10;

export async function measureStart({ rounds }: { rounds: number }): Promise<StartResult> {
  if (!existsSync(CLI)) throw new Error("there is no dist/cli.js; run: npm run build");
  const cold: Lap[] = [];
  const warm: Started[] = [];
  for (let round = 0; round < Math.max(1, Math.ceil(rounds / 3)); round++) {
    const cache = await mkdtemp(join(tmpdir(), "daguerre-start-"));
    try {
      cold.push(await start(cache));
      for (let again = 0; again < 3; again++) warm.push(await start(cache));
    } finally {
      await rm(cache, { recursive: true, force: true });
    }
  }
  const firstSteps = warm.map(({ firstStep }) => ({ wall: firstStep, cpu: Number.NaN }));
  return { cold: timing(cold), warm: timing(warm), warmFirstStep: timing(firstSteps) };
}

interface Started extends Lap {
  readonly firstStep: number;
}

/** One picture by the command line. */
function start(cache: string): Promise<Started> {
  const begun = performance.now();
  const child = spawn(process.execPath, [CLI, "generate", "a lake under mountains", "-o", join(cache, "out.png")], {
    env: { ...process.env, XDG_CACHE_HOME: cache, MESA_SHADER_CACHE_DIR: "" },
    stdio: ["ignore", "ignore", "pipe"],
  });
  return new Promise((resolve, reject) => {
    let said = "";
    let firstStep = Number.NaN;
    let done: Started | undefined;
    child.stderr.on("data", (data) => {
      said += data;
      if (Number.isNaN(firstStep) && /^step 1\//m.test(said)) firstStep = performance.now() - begun;
      // The summary comes once the file is written; what the process does to end is not waited for.
      if (done || !/out\.png: \d+x\d+/.test(said)) return;
      done = { wall: performance.now() - begun, cpu: cpuOf(child.pid!), firstStep };
    });
    child.on("exit", () => (done ? resolve(done) : reject(new Error(said.trim().slice(-500)))));
  });
}

/** CPU time of a process, in ms; NaN where there is no /proc. */
function cpuOf(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /, "")
      .split(" ");
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
  } catch {
    return Number.NaN;
  }
}
