/**
 * Many clients at once, against one: `npm run bench:serve`. A server of its own, the built-in model, 4 guided steps a
 * picture and no previews. Each number of clients has its turn in each round, so that what else the machine does falls on
 * all of them; the ratios are those of the same run.
 */
import { Command } from "commander";
import { realtimeBeside } from "./beside.ts";
import { startServer } from "./server.ts";
import { type RunTimes, streamRun } from "./stream.ts";
import { summaryOf } from "./summary.ts";

const { sizes, clients, rounds, seconds, beside } = new Command("bench:serve")
  .option("--sizes <pixels...>", "sides of the pictures", ["64", "128"])
  .option("--clients <counts...>", "clients at once", ["1", "2", "4", "8", "16", "32", "64"])
  .option("--rounds <count>", "turns of each", "3")
  .option("--seconds <count>", "of each turn", "8")
  .option("--no-beside", "leaves out realtime beside a long job")
  .parse()
  .opts<{ sizes: string[]; clients: string[]; rounds: string; seconds: string; beside: boolean }>();

const server = await startServer();
let seed = 0;

function input(size: number, more: object = {}) {
  return {
    prompt: `mountains ${seed % 7}`,
    seed: seed++,
    width: size,
    height: size,
    num_inference_steps: 4,
    guidance_scale: 3,
    preview_every: 0,
    ...more,
  };
}

/** So many clients, each asking for the next picture when it has one, for a while. */
async function load(count: number, size: number): Promise<{ runs: RunTimes[]; perSecond: number }> {
  const begun = performance.now();
  const runs: RunTimes[] = [];
  const client = async () => {
    do runs.push(await streamRun(server.url, input(size)));
    while (performance.now() - begun < Number(seconds) * 1000);
  };
  await Promise.all(Array.from({ length: count }, client));
  return { runs, perSecond: runs.length / ((performance.now() - begun) / 1000) };
}

try {
  for (const size of sizes.map(Number)) {
    const counts = clients.map(Number);
    // The plans of all batches are made before anything is timed.
    for (let once = 0; once < 2; once++)
      await Promise.all(Array.from({ length: 16 }, () => streamRun(server.url, input(size))));
    const loads = new Map(counts.map((count) => [count, [] as Awaited<ReturnType<typeof load>>[]]));
    for (let round = 0; round < Number(rounds); round++) {
      for (const count of counts) loads.get(count)!.push(await load(count, size));
    }
    const one = summaryOf(loads.get(1) ?? loads.get(counts[0]!)!);
    console.log(`\n${size} × ${size}, 4 guided steps\n`);
    console.log(
      "| clients | pictures/s | over one | result p50, p99, mean s | first progress p50 s | over one picture |",
    );
    console.log("| --- | --- | --- | --- | --- | --- |");
    for (const [count, turns] of loads) {
      const { perSecond, result, first } = summaryOf(turns);
      const s = (ms: number) => (ms / 1000).toFixed(2);
      console.log(
        `| ${count} | ${perSecond.toFixed(2)} | ${(perSecond / one.perSecond).toFixed(2)} | ${s(result.p50)}, ${s(result.p99)}, ${s(result.mean)} | ${s(first.p50)} | ${(first.p50 / one.result.p50).toFixed(1)} |`,
      );
    }
  }
  if (beside) await realtimeBeside(server.url);
} finally {
  server.stop();
}
