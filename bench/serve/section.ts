/**
 * `npm run bench -- serve`: the built-in model behind HTTP, as clients see it. There is no peer here; what is compared is
 * previews with none, and many clients with one.
 */

import { type Timing, takeTurns, timing } from "../turns.ts";
import { startServer } from "./server.ts";
import { type RunTimes, streamRun } from "./stream.ts";

export interface ServeResult {
  readonly startMilliseconds: number;
  /** Medians of single runs with a preview every step, in ms. */
  readonly firstEvent: Timing;
  readonly firstPreview: Timing;
  readonly result: Timing;
  /** Whole runs by what is previewed. */
  readonly previews: Readonly<Record<string, Timing | { readonly error: string }>>;
  readonly clients: readonly { readonly clients: number; readonly picturesAMinute: number }[];
  /** While one client's runs follow each other: shares of a core, delays in ms. */
  readonly busy: {
    readonly threadShare?: number;
    readonly delayP50: number;
    readonly delayP99: number;
    readonly delayMax: number;
  };
  /** Share of a core that the process takes with nothing to do. */
  readonly idleShare: number;
}

export interface ServeOptions {
  readonly rounds: number;
  /** How long each number of clients is served, in ms. */
  readonly loadMilliseconds: number;
}

const PREVIEWS: Readonly<Record<string, object>> = {
  none: { preview_every: 0 },
  "linear, every step": { preview_every: 1, preview_decoder: "linear" },
  "tiny, every 5 steps": { preview_every: 5, preview_decoder: "tiny" },
};
const IDLE_MS = 5000;

export async function measureServing(options: ServeOptions): Promise<ServeResult> {
  const server = await startServer();
  try {
    let seed = 0;
    // Prompts are cached, so each has one of its own: a number in it.
    const input = (previews: object) => ({ prompt: `a lake under mountains ${seed}`, seed: seed++, ...previews });
    const run = (previews: object) => streamRun(server.url, input(previews));

    // Kernels that only previews use are compiled with their first one.
    for (const previews of Object.values(PREVIEWS)) await run(previews);

    await server.probe();
    const laps: RunTimes[] = [];
    for (let round = 0; round < options.rounds; round++) laps.push(await run({ preview_every: 1 }));
    const { threadMilliseconds, milliseconds, delayP50, delayP99, delayMax } = await server.probe();

    const runners = Object.entries(PREVIEWS).map(([name, previews]) => ({
      name,
      run: async (times: number) => {
        let wall = 0;
        for (let i = 0; i < times; i++) wall += (await run(previews)).result;
        return { wall, cpu: Number.NaN };
      },
    }));
    const turns = { rounds: options.rounds, turnMilliseconds: 0, budgetMilliseconds: Number.POSITIVE_INFINITY };
    const timings = await takeTurns(runners, turns);

    const clients = [];
    for (const count of [1, 4, 16]) {
      clients.push({
        clients: count,
        picturesAMinute: await underLoad(count, options.loadMilliseconds, () => run({ preview_every: 0 })),
      });
    }

    await server.probe();
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    const idle = await server.probe();

    const times = (values: (number | undefined)[]) =>
      timing(values.filter((value) => value !== undefined).map((wall) => ({ wall, cpu: Number.NaN })));
    return {
      startMilliseconds: server.startMilliseconds,
      firstEvent: times(laps.map((lap) => lap.first)),
      firstPreview: times(laps.map((lap) => lap.firstPreview)),
      result: times(laps.map((lap) => lap.result)),
      previews: Object.fromEntries(
        [...timings].map(([name, value]) => [name, value instanceof Error ? { error: value.message } : value]),
      ),
      clients,
      busy: {
        ...(threadMilliseconds === undefined ? {} : { threadShare: threadMilliseconds / milliseconds }),
        delayP50,
        delayP99,
        delayMax,
      },
      idleShare: idle.cpuMilliseconds / idle.milliseconds,
    };
  } finally {
    server.stop();
  }
}

/** So many clients, each asking for the next picture when it has one; pictures a minute from first request to last result. */
async function underLoad(clients: number, milliseconds: number, run: () => Promise<RunTimes>): Promise<number> {
  const begun = performance.now();
  let pictures = 0;
  const client = async () => {
    do {
      await run();
      pictures++;
    } while (performance.now() - begun < milliseconds);
  };
  await Promise.all(Array.from({ length: clients }, client));
  return (pictures / (performance.now() - begun)) * 60_000;
}
