/**
 * `npm run bench -- previews`: what previews cost a run of the built-in model, and what the JavaScript thread does while
 * the GPU works. All runs are in one process, in turns, so that they meet the same machine. Previews are encoded as the
 * server encodes them: beside the run, which does not wait for it.
 */

import { readFileSync } from "node:fs";
import { createRuntime } from "../../src/engine/runtime.ts";
import { encodePicture, PREVIEW_QUALITY } from "../../src/image/encode.ts";
import { quantile, type Timing, takeTurns } from "../turns.ts";

export interface PreviewResult {
  readonly adapter: string;
  readonly runs: Readonly<Record<string, Timing | { readonly error: string }>>;
  /** How much longer than without previews, as the median over rounds of a round's own ratio. */
  readonly more: Readonly<Record<string, { readonly clock: number; readonly cpu: number }>>;
  /** Share of a core that the JavaScript thread takes in a run without previews; undefined where there is no /proc. */
  readonly threadShare?: number;
}

const PREVIEWS: Readonly<Record<string, object>> = {
  none: { preview_every: 0 },
  "linear, every step": { preview_every: 1, preview_decoder: "linear" },
  "tiny, every 5 steps": { preview_every: 5, preview_decoder: "tiny" },
};

export async function measurePreviews({ rounds }: { rounds: number }): Promise<PreviewResult> {
  const runtime = await createRuntime();
  try {
    await runtime.warmUp();
    const laps = new Map<string, { wall: number; cpu: number }[]>();
    let thread = 0;
    let wall = 0;
    const runners = Object.entries(PREVIEWS).map(([name, previews]) => ({
      name,
      async run() {
        const begun = performance.now();
        const cpu = process.cpuUsage();
        const before = threadMilliseconds();
        const encoding: Promise<unknown>[] = [];
        for await (const event of runtime.textToImage({ prompt: "a lake under mountains", seed: 1, ...previews })) {
          if (event.type !== "preview") continue;
          encoding.push(encodePicture(event.picture, { quality: PREVIEW_QUALITY }));
        }
        await Promise.all(encoding);
        const used = process.cpuUsage(cpu);
        const lap = { wall: performance.now() - begun, cpu: (used.user + used.system) / 1000 };
        if (name === "none" && before !== undefined) {
          thread += threadMilliseconds()! - before;
          wall += lap.wall;
        }
        laps.set(name, [...(laps.get(name) ?? []), lap]);
        return lap;
      },
    }));
    const timings = await takeTurns(runners, {
      rounds,
      turnMilliseconds: 0,
      budgetMilliseconds: Number.POSITIVE_INFINITY,
    });
    const none = laps.get("none")!;
    const more = Object.fromEntries(
      [...laps]
        .filter(([name]) => name !== "none")
        .map(([name, own]) => {
          const median = (ratios: number[]) =>
            quantile(
              ratios.sort((a, b) => a - b),
              0.5,
            ) - 1;
          const clock = median(own.map((lap, round) => lap.wall / none[round]!.wall));
          return [name, { clock, cpu: median(own.map((lap, round) => lap.cpu / none[round]!.cpu)) }];
        }),
    );
    return {
      adapter: runtime.adapter.name,
      runs: Object.fromEntries(
        [...timings].map(([name, value]) => [name, value instanceof Error ? { error: value.message } : value]),
      ),
      more,
      threadShare: wall > 0 ? thread / wall : undefined,
    };
  } finally {
    await runtime.close();
  }
}

/** CPU time of the main thread so far, in ms. */
function threadMilliseconds(): number | undefined {
  try {
    return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;
  } catch {
    return undefined;
  }
}
