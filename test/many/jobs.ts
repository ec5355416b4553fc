/**
 * Random jobs at once on one runtime: sizes, schedulers, few-step runs, several pictures, cancels, changes, slow readers.
 * Each picture is what a fresh process draws alone, nothing is lost, and nothing is left on the device.
 */
import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Runtime } from "../../src/engine/contract.ts";
import { costOf } from "../../src/engine/cost.ts";
import type { RunEvent } from "../../src/engine/events.ts";
import type { GenerationRequest, TextToImageInput } from "../../src/engine/request.ts";
import { parseGeneration } from "../../src/engine/request-parsing.ts";
import { createJobs, type Job, type Jobs } from "../../src/jobs/jobs.ts";
import { hashOf, random, requestOf } from "./requests.ts";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

/** Different requests; a job is one of them, so that many jobs need few pictures drawn alone. */
export interface ManyJobs {
  readonly jobs: number;
  readonly requests: number;
  readonly seed: number;
  /** Names of models that the requests are for in turns; left out: for the runtime's default. */
  readonly models?: readonly string[];
  /** Bytes that the device's memory is never to be over. */
  readonly boundBytes?: number;
}

export interface ManyOutcome {
  readonly outcomes: Readonly<Record<string, number>>;
  /** Faults, in words; none: all is as it should be. */
  readonly faults: readonly string[];
  /** Mean number of pictures that shared a replay. */
  readonly slotsPerReplay: number;
  /** Bytes on the device after a third of the jobs, and at the end. */
  readonly deviceBytes: readonly [number, number];
}

/** The hashes of these requests in a fresh process, in turns of the first so many of `fewModels`. */
export async function aloneElsewhere(seeds: readonly number[], models = 1): Promise<Map<number, string>> {
  const args = ["--import", path("../../tooling/run.mjs"), path("alone.ts"), String(models), ...seeds.map(String)];
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 24 });
  return new Map(JSON.parse(stdout) as [number, string][]);
}

/** @param alone the hash of each of the requests `0 … requests - 1` */
export async function manyJobs(
  runtime: Runtime,
  { jobs: count, requests, seed, models, boundBytes = Number.POSITIVE_INFINITY }: ManyJobs,
  alone: Map<number, string>,
) {
  const store = createJobs<GenerationRequest, RunEvent>(
    (input, context) => runtime.textToImage(input as TextToImageInput, context),
    { concurrency: 8, reserved: 4, costOf: (request) => costOf(request, runtime.model), maxQueued: count },
  );
  const next = random(seed);
  const outcomes: Record<string, number> = {};
  const faults: string[] = [];
  const before = runtime.device.work.batches;
  let early = 0;
  const crowd = Array.from({ length: 24 }, async (_, client) => {
    for (let index = client; index < count; index += 24) {
      const asked = Math.floor(next() * requests);
      const outcome = await oneJob(store, {
        asked,
        models,
        client: `client${client % 5}`,
        dice: next(),
        pause: next(),
        alone,
      });
      outcomes[outcome.how] = (outcomes[outcome.how] ?? 0) + 1;
      if (outcome.fault) faults.push(`job ${index}, request ${asked}: ${outcome.fault}`);
      if (index >= count / 3) early ||= runtime.device.memoryBytes;
    }
  });
  await Promise.all(crowd);
  const left = store.list().filter(({ endedAt }) => endedAt === undefined);
  if (left.length > 0) faults.push(`${left.length} jobs have not ended`);
  const { peakMemoryBytes } = runtime.device;
  if (peakMemoryBytes > boundBytes) faults.push(`${peakMemoryBytes} bytes on the device, over ${boundBytes}`);
  let replays = 0;
  let slots = 0;
  for (const [size, times] of runtime.device.work.batches) {
    const more = times - (before.get(size) ?? 0);
    replays += more;
    slots += size * more;
  }
  return {
    outcomes,
    faults,
    slotsPerReplay: slots / replays,
    deviceBytes: [early, runtime.device.memoryBytes],
  } as ManyOutcome;
}

interface OneJob {
  readonly asked: number;
  readonly models: readonly string[] | undefined;
  readonly client: string;
  /** 0..1: what becomes of it, and when. */
  readonly dice: number;
  readonly pause: number;
  readonly alone: ReadonlyMap<number, string>;
}

async function oneJob(
  store: Jobs<GenerationRequest, RunEvent>,
  { asked, models, client, dice, pause, alone }: OneJob,
): Promise<{ how: string; fault?: string }> {
  const priority = dice < 0.3 ? "realtime" : dice < 0.8 ? "stream" : "detached";
  const job = store.submit(parseGeneration(requestOf(asked, models)), { client, priority, detached: true });
  const kind = pause < 0.2 ? "cancelled" : pause < 0.3 ? "changed" : pause < 0.4 ? "slow" : "plain";
  if (kind === "cancelled") {
    await sleep(dice * 1_500);
    job.cancel();
  }
  if (kind === "changed") {
    await sleep(dice * 500);
    change(job);
  }
  const events = await eventsOf(job, kind === "slow" ? 40 : 0);
  await job.ended;
  if (job.state === "failed") return { how: "failed", fault: String(job.error) };
  if (job.state === "cancelled") return kind === "cancelled" ? { how: kind } : { how: kind, fault: "it was cancelled" };
  if (kind === "changed") return { how: kind };
  return { how: kind, ...(hashOf(events) !== alone.get(asked) && { fault: "another picture than alone" }) };
}

function change(job: Job<GenerationRequest, RunEvent>): void {
  try {
    job.update({ prompt: "a windmill" });
  } catch {
    // It takes no changes any more.
  }
}

async function eventsOf(job: Job<GenerationRequest, RunEvent>, pauseMs: number): Promise<RunEvent[]> {
  const reader = job.watch();
  const events: RunEvent[] = [];
  for (;;) {
    const read = await reader.next(600_000);
    if (typeof read === "string" || "error" in read) return events;
    events.push(read.event);
    if (pauseMs > 0) await sleep(pauseMs);
  }
}
