/** Many inputs over a pool of processes, one of which is killed again and again: for a test, and for `npm run soak -- pools`. */
import { createPool } from "../../src/hosts/pool.ts";

export interface Fire {
  readonly inputs: number;
  /** Between two kills: milliseconds, or so many results, whatever the machine's speed. */
  readonly every: { readonly ms: number } | { readonly results: number };
  readonly seed: number;
  readonly size?: number;
}

/** Milliseconds that an input takes. */
const EACH_MS = 8;

/** Draws 0..1 (a linear congruential generator of Numerical Recipes). */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Squares of the first so many numbers, while workers are killed. */
export async function mapUnderFire({ inputs, every, seed, size = 4 }: Fire) {
  const worker = new URL("../../src/hosts/testing/pooled.mjs", import.meta.url);
  const pool = createPool<{ n: number; ms: number }, number>({ worker, name: "square", size });
  await pool.start();
  const random = randomFrom(seed);
  let kills = 0;
  const kill = () => {
    const { pids } = pool;
    if (pids.length === 0) return;
    process.kill(pids[Math.floor(random() * pids.length)]!, "SIGKILL");
    kills++;
  };
  const killing = "ms" in every ? setInterval(kill, every.ms) : undefined;
  function* numbers() {
    for (let n = 0; n < inputs; n++) yield { n, ms: EACH_MS };
  }
  let results = 0;
  let inOrder = true;
  let growthBytes = 0;
  let heapAtTenth = 0;
  try {
    for await (const result of pool.map<number>(numbers())) {
      if (result !== results ** 2) inOrder = false;
      results++;
      if ("results" in every && results % every.results === 0) kill();
      if (results === Math.ceil(inputs / 10)) heapAtTenth = process.memoryUsage().heapUsed;
    }
    growthBytes = process.memoryUsage().heapUsed - heapAtTenth;
  } finally {
    clearInterval(killing);
    await pool.close(0);
  }
  return { results, inOrder, kills, growthBytes, lost: pool.stats.lost, opened: pool.stats.opened };
}
