/**
 * The tools of a family of attacks, and the checks after each of its cases: that the process lives, that no turn
 * of its loop was long, that its memory stayed within the bound, that nothing was logged as an error of the server's.
 */
import { createHash } from "node:crypto";
import fc from "fast-check";
import { type Answer, exchange, HONEST, listens, type Part, request } from "./raw-http.ts";
import type { Server } from "./server.ts";

/** Bounds that hold for any input. Milliseconds, bytes. */
export const BOUNDS = {
  turnMs: 100,
  healthP99Ms: 100,
  /** Over the baseline, where `/metrics` names no `daguerre_memory_bound_bytes`. */
  memoryBytes: 1024 * 2 ** 20,
  /**
   * The bytes that the heap and buffers outside it may have grown by after collection, besides what jobs' logs hold.
   * The process may stay larger: the allocator keeps freed pages for later, within the bound that holds for the peak.
   */
  keptHeapBytes: 48 * 2 ** 20,
} as const;

/** Restarts within a family; a server that dies of everything says nothing more. */
const MAX_REVIVALS = 6;
/** Milliseconds that one case may take, whatever the server does; what is fuzzed has a time of its own. */
const CASE_MS = 60_000;
/** The time of random attacks, however long the known ones took. */
const LEAST_FUZZ_MS = 1_500;
/** Cases that take longer are told of while the suite runs. */
const SLOW_MS = 5_000;
const AFTERWARDS = "afterwards";
const ADDED_BYTES = 16 * 2 ** 20;
const SETTLE_MS = 20_000;
/** Characters of a breach. */
const SHOWN = 400;

/** A status, a range of them, or another word for what came of an attack (`closed`, `closed 1009`, `HTTP_422`). */
export type Outcome = number | string;

export interface FamilyOptions {
  /** Default settings, everybody may ask. */
  readonly open: Server;
  /** With keys and a token secret. */
  readonly guarded: Server;
  readonly seed: number;
  /** 0..1: how much of what can be scaled is done. */
  readonly share: number;
  /** True if a share below 1 leaves cases out, by the seed, and not only makes them smaller. */
  readonly sampled: boolean;
  /** Milliseconds that the family has, from now on. */
  readonly timeMs: number;
  /** Halts and resumes the sampling of `/health`. */
  readonly sample: (on: boolean) => void;
  /** Cases whose name has this in it; left out: all. */
  readonly only?: string;
  readonly write: (line: string) => unknown;
}

export class Attack {
  readonly open: Server;
  readonly guarded: Server;
  readonly seed: number;
  readonly share: number;
  readonly #until: number;
  readonly #sampled: boolean;
  readonly #sample: FamilyOptions["sample"];
  readonly #only: string | undefined;
  readonly #write: FamilyOptions["write"];
  readonly #baseline = new Map<Server, { rss: number; heap: number; bound: number }>();
  #revivals = 0;
  #case = "";
  tried = 0;
  longestTurnMs = 0;
  longestTurnOf = "";
  peakBytes = 0;
  peakOf = "";
  readonly outcomes = new Map<string, number>();
  readonly breaches: string[] = [];
  /** The cases that were left out, and why. */
  readonly skipped: string[] = [];

  constructor({ open, guarded, seed, share, sampled, timeMs, sample, only, write }: FamilyOptions) {
    this.open = open;
    this.guarded = guarded;
    this.seed = seed;
    this.share = share;
    this.#until = performance.now() + timeMs;
    this.#sampled = sampled;
    this.#sample = sample;
    this.#only = only;
    this.#write = write;
  }

  /** Milliseconds left. */
  get left(): number {
    return this.#until - performance.now();
  }

  /** A count of connections or requests at this run's scale, one at least. */
  scaled(count: number): number {
    return Math.max(1, Math.round(count * this.share));
  }

  breach(text: string): void {
    const line = text.replace(/\s+/g, " ").slice(0, SHOWN);
    this.breaches.push(this.#case === "" ? line : `${this.#case}: ${line}`);
  }

  skip(what: string, why: string): void {
    this.skipped.push(`${what} (${why})`);
  }

  /** Runs what takes the machine's cores by itself: `/health` is not sampled meanwhile. */
  async unmeasured(run: () => Promise<void>): Promise<void> {
    this.#sample(false);
    try {
      await run();
    } finally {
      this.#sample(true);
    }
  }

  /** Counts an outcome, which is to be one of `allowed`. */
  expect(what: string, outcome: Outcome, allowed: readonly Outcome[]): void {
    this.tried++;
    const word = String(outcome);
    this.outcomes.set(word, (this.outcomes.get(word) ?? 0) + 1);
    if (!allowed.includes(outcome)) this.breach(`${what}: ${word} instead of ${shown(allowed)}`);
  }

  /** Remembers how `server` stands before it is attacked. */
  async begin(server: Server): Promise<void> {
    await server.watch("reset");
    const { heapBytes, externalBytes } = await server.watch("collect");
    const { rss } = server.memory();
    const bound = (await metric(server, "daguerre_memory_bound_bytes")) ?? BOUNDS.memoryBytes;
    this.#baseline.set(server, { rss, heap: heapBytes + externalBytes - (await logBytes(server)), bound });
    server.forgetPeak();
    await server.watch("reset");
  }

  /** True if so much memory is held by now that going on would only endanger this machine. */
  isOver(server: Server): boolean {
    const base = this.#baseline.get(server);
    return base !== undefined && server.memory().rss - base.rss > base.bound;
  }

  /**
   * One attack under its name. An error that it throws is a breach, and so is a fault of the server.
   *
   * @param server the one that is attacked
   * @param limitMs after which it is given up
   */
  async case(name: string, server: Server, run: () => Promise<void>, limitMs: number = CASE_MS): Promise<void> {
    if (name !== AFTERWARDS && !this.#chosen(name)) return;
    if (!server.alive) {
      if (++this.#revivals > MAX_REVIVALS) return this.skip(name, "the server has died too often");
      await server.revive();
      this.#baseline.delete(server);
    }
    if (!this.#baseline.has(server)) await this.begin(server);
    this.#case = name;
    const begun = performance.now();
    try {
      await within(run(), limitMs);
    } catch (error) {
      this.breach(error instanceof Error ? error.message : String(error));
    }
    await this.#look(server);
    this.#case = "";
    const took = performance.now() - begun;
    if (took > SLOW_MS) this.#write(`  ${name}: ${(took / 1000).toFixed(0)} s`);
  }

  #chosen(name: string): boolean {
    if (this.#only !== undefined) return name.includes(this.#only);
    if (!this.#sampled || this.share >= 1) return true;
    const drawn = createHash("sha256").update(`${this.seed} ${name}`).digest().readUInt32LE() / 2 ** 32;
    return drawn < this.share;
  }

  async #look(server: Server): Promise<void> {
    const base = this.#baseline.get(server)!;
    for (const line of server.errors.splice(0, 3)) this.breach(`logged as an error: ${line.slice(0, SHOWN)}`);
    server.errors = [];
    const peak = server.memory().peak - base.rss;
    try {
      const { longestTurnMs } = await server.watch("reset");
      if (longestTurnMs > this.longestTurnMs) {
        this.longestTurnMs = longestTurnMs;
        this.longestTurnOf = this.#case;
      }
      if (longestTurnMs > BOUNDS.turnMs) this.breach(`a turn of the loop took ${longestTurnMs.toFixed(0)} ms of CPU`);
    } catch (error) {
      // The end of a process is seen a moment after that of its sockets.
      await new Promise((resolve) => setTimeout(resolve, 200));
      if (server.alive) this.breach((error as Error).message);
    }
    // The process keeps pages of an earlier case; a peak is the case's that added something.
    if (peak > this.peakBytes + ADDED_BYTES) this.peakOf = this.#case;
    this.peakBytes = Math.max(this.peakBytes, peak);
    if (peak > base.bound) this.breach(`memory rose by ${mib(peak)} MiB, over the bound of ${mib(base.bound)}`);
    if (!server.alive) this.breach(`the process ended: ${server.ended}`);
    server.forgetPeak();
  }

  /** The checks at the end of a family: a picture is drawn, and memory is back where it was. */
  async finish(server: Server): Promise<void> {
    await this.case(AFTERWARDS, server, async () => {
      const base = this.#baseline.get(server)!;
      await drawPicture(server);
      const by = performance.now() + SETTLE_MS;
      for (;;) {
        const { heapBytes, externalBytes } = await server.watch("collect");
        const heap = heapBytes + externalBytes - (await logBytes(server)) - base.heap;
        const rss = server.memory().rss - base.rss - (await logBytes(server));
        if (heap <= BOUNDS.keptHeapBytes) break;
        if (performance.now() > by) {
          this.breach(`memory did not come back: ${mib(heap)} MiB of heap and buffers, ${mib(rss)} MiB of the process`);
          break;
        }
        await new Promise((resolve) => setTimeout(resolve, 1_000));
      }
    });
  }

  /**
   * `run` for values of `values` until one throws, `rounds` are done or the family's time is over; each is an attack. The
   * seed and the path of what failed are in the breach, for fast-check to find it again.
   */
  async fuzz<T>(
    name: string,
    server: Server,
    { values, rounds, timeMs = this.left }: { values: fc.Arbitrary<T>; rounds: number; timeMs?: number },
    run: (value: T) => Promise<void>,
  ): Promise<void> {
    const limit = Math.max(Math.min(timeMs, this.left), LEAST_FUZZ_MS);
    const search = async () => {
      const told = await fc.check(
        fc.asyncProperty(values, async (value) => {
          await run(value);
          if (!server.alive) throw new Error("the process ended");
        }),
        {
          seed: this.seed,
          numRuns: this.scaled(rounds),
          interruptAfterTimeLimit: limit,
          markInterruptAsFailure: false,
          // A smaller instance is found by hand, with the seed and the path; here each costs a server's time.
          endOnFailure: true,
        },
      );
      if (!told.failed) return;
      const error = told.errorInstance instanceof Error ? told.errorInstance.message : String(told.errorInstance);
      const instance = fc.stringify(told.counterexample?.[0]).slice(0, SHOWN);
      this.breach(`${error} (seed ${told.seed}, path "${told.counterexamplePath}"): ${instance}`);
    };
    await this.case(name, server, search, limit + CASE_MS);
  }

  /** Sends a request from the attacker's address, counts its status, and checks it. */
  async ask(
    what: string,
    server: Server,
    parts: Iterable<Part>,
    allowed: readonly Outcome[],
    options?: Parameters<typeof exchange>[2],
  ): Promise<Answer> {
    const answer = await exchange(server.port, parts, options);
    if (answer.status === "closed" && !(await listens(server.port))) throw new Error(`the process ended at '${what}'`);
    this.expect(what, answer.status, allowed);
    return answer;
  }
}

async function within(run: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`was not over after ${ms / 1000} s`)), ms);
  });
  try {
    await Promise.race([run, late]);
  } finally {
    clearTimeout(timer);
  }
}

function shown(allowed: readonly Outcome[]): string {
  const few = 6;
  return allowed.length > few ? `${allowed.slice(0, few).join(", ")} …` : allowed.join(", ");
}

export function mib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}

/** The least that is a picture, as an honest client asks for it. */
export const SMALL = { prompt: "a lake", width: 64, height: 64, num_inference_steps: 1 } as const;

/** Milliseconds that a picture may take on a software GPU behind others. */
const PICTURE_MS = 90_000;

/** Draws a picture as an honest client. @throws Error when none comes */
export async function drawPicture(server: Server): Promise<void> {
  const parts = request(server.port, { target: "/", body: JSON.stringify(SMALL), headers: server.credential });
  const answer = await exchange(server.port, parts, {
    from: HONEST,
    timeoutMs: PICTURE_MS,
  });
  if (answer.status !== 200) throw new Error(`no picture: ${answer.status} ${answer.body.slice(0, SHOWN)}`);
  const encoded = /data:image\/jpeg;base64,([\w+/=]+)/.exec(answer.body)?.[1];
  const { default: sharp } = await import("sharp");
  const { info } = await sharp(Buffer.from(encoded ?? "", "base64"))
    .raw()
    .toBuffer({ resolveWithObject: true });
  if (info.width !== SMALL.width) throw new Error(`a picture of ${info.width} pixels`);
}

/** The sum of a metric over its labels; undefined where the server has none of that name, or does not show it. */
export async function metric(server: Server, name: string): Promise<number | undefined> {
  const parts = request(server.port, { target: "/metrics", headers: server.credential });
  const answer = await exchange(server.port, parts, { from: HONEST });
  const lines = answer.body.split("\n").filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  if (answer.status !== 200 || lines.length === 0) return undefined;
  return lines.reduce((sum, line) => sum + Number(line.trim().split(" ").at(-1)), 0);
}

async function logBytes(server: Server): Promise<number> {
  return (await metric(server, "daguerre_job_log_bytes")) ?? 0;
}
