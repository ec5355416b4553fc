/**
 * The attack suite: a real server is attacked by one family of attacks after another, and looked at after each. It is
 * black-box: it knows the documents and the wire, not the code.
 *
 * `npm run soak -- security` runs it whole; `security.test.ts` a tenth of it.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { setPriority, tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { Attack, BOUNDS, drawPicture, mib } from "./attack.ts";
import { writeHostileLoras } from "./hostile-files.ts";
import { Server } from "./server.ts";

/** Families of attacks, and how much of the time each may have, of all weights. */
export const FAMILIES = {
  targets: { load: () => import("./targets.ts"), weight: 1, sampled: false },
  payloads: { load: () => import("./payloads.ts"), weight: 2, sampled: true },
  slow: { load: () => import("./slow.ts"), weight: 1.5, sampled: true },
  deaf: { load: () => import("./deaf.ts"), weight: 2.5, sampled: true },
  floods: { load: () => import("./floods.ts"), weight: 1, sampled: true },
  pages: { load: () => import("./pages.ts"), weight: 0.5, sampled: false },
  tokens: { load: () => import("./tokens.ts"), weight: 1, sampled: false },
  folders: { load: () => import("./folders.ts"), weight: 1, sampled: true },
} as const satisfies Record<string, Family>;

interface Family {
  /** Loaded when its turn comes: a family's tools are its own. */
  readonly load: () => Promise<{ attack(context: Attack): Promise<void> }>;
  readonly weight: number;
  /** True if its cases are dear, so that a tenth of the suite is a tenth of them. */
  readonly sampled: boolean;
}

export type FamilyName = keyof typeof FAMILIES;

export interface SuiteOptions {
  /** The cases of all families together. */
  readonly seconds: number;
  readonly seed: number;
  /** 0..1: how much of what can be scaled is done. */
  readonly share: number;
  readonly families?: readonly FamilyName[];
  /** Cases whose name has this in it. Default: all. */
  readonly only?: string;
  readonly write: (line: string) => unknown;
}

/** Keys of the guarded server; two of them have all rights, so that each is a stranger to the other. */
export const KEYS = {
  a: "key-of-a-0123456789abcdef0123456789",
  b: "key-of-b-0123456789abcdef0123456789",
  /** Whose requests of a minute are used up on purpose. */
  hasty: "key-of-hasty-0123456789abcdef01234",
  narrow: "key-of-narrow-0123456789abcdef01234",
  honest: "key-of-honest-0123456789abcdef01234",
} as const;
export const TOKEN_SECRET = "a secret of the attack suite, of 32 bytes and more";

const GUARDED = {
  auth: {
    keys: [
      { name: "a", key: KEYS.a },
      { name: "b", key: KEYS.b },
      { name: "hasty", key: KEYS.hasty },
      { name: "narrow", key: KEYS.narrow, scopes: ["run"] },
      { name: "honest", key: KEYS.honest },
    ],
    token_secret: TOKEN_SECRET,
  },
  limits: { prompt_characters: 50, requests_per_minute: 600 },
};

/** The attackers give way to the server and to those who measure it: the machine may have two cores. */
const GIVING_WAY = 10;

/** Fewer samples have no 99th percentile worth the name; they count in that of the whole run. */
const FEWEST_SAMPLES = 200;

interface Health {
  /** Milliseconds, sorted. */
  readonly times: readonly number[];
  readonly failures: readonly string[];
}

function percentile(times: readonly number[], share: number): number {
  return times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
}

/** @returns every breach, with its family; none: all bounds held */
export async function runSuite({ seconds, seed, share, families, only, write }: SuiteOptions): Promise<string[]> {
  const names = families ?? (Object.keys(FAMILIES) as FamilyName[]);
  const weights = names.reduce((sum, name) => sum + FAMILIES[name].weight, 0);
  write(`seed ${seed}, ${seconds} s, share ${share}, families ${names.join(", ")}`);
  const probe = new Worker(new URL("./health-probe.mjs", import.meta.url));
  const folder = await mkdtemp(join(tmpdir(), "daguerre-loras-"));
  const started: Server[] = [];
  const breaches: string[] = [];
  const all: number[] = [];
  const rows = [TABLE_HEAD];
  try {
    await writeHostileLoras(folder);
    const guardedSettings = { config: { ...GUARDED, lora_dir: folder }, key: KEYS.honest };
    const starting = [{}, guardedSettings].map((settings) => Server.start(settings));
    for (const one of await Promise.allSettled(starting)) if (one.status === "fulfilled") started.push(one.value);
    const [open, guarded] = await Promise.all(starting as [Promise<Server>, Promise<Server>]);
    // A server's one-time work (it loads libvips, compiles shaders of a size) is no attack's doing.
    for (const server of started) for (let round = 0; round < 2; round++) await drawPicture(server);
    setPriority(GIVING_WAY);
    for (const name of names) {
      const { load, weight, sampled } = FAMILIES[name];
      const { attack }: Awaited<ReturnType<Family["load"]>> = await load();
      for (const server of started) await server.revive();
      const sample = (on: boolean) => probe.postMessage(on ? "go on" : "halt");
      const timeMs = (seconds * 1000 * weight) / weights;
      const context = new Attack({ open, guarded, seed, share, sampled, timeMs, sample, only, write });
      for (const server of started) await context.begin(server);
      const begun = performance.now();
      probe.postMessage({ port: open.port });
      try {
        await attack(context);
      } catch (error) {
        context.breach(`the attack itself failed: ${error instanceof Error ? error.stack : String(error)}`);
      }
      const { times, failures } = await new Promise<Health>((resolve) => {
        probe.once("message", ({ times, failures }: Health) => resolve({ times: times.toSorted(ascending), failures }));
        probe.postMessage("stop");
      });
      all.push(...times);
      const p99 = percentile(times, 0.99);
      if (p99 > BOUNDS.healthP99Ms && times.length >= FEWEST_SAMPLES)
        context.breach(`/health: p99 ${p99.toFixed(0)} ms`);
      if (failures.length > 0) {
        const reasons = [...new Set(failures)].slice(0, 5).join("; ");
        context.breach(`/health: ${failures.length} of ${times.length} without an answer (${reasons})`);
      }
      for (const server of started) await context.finish(server);
      rows.push(row(name, context, times, (performance.now() - begun) / 1000));
      write(rows.at(-1)!);
      for (const skipped of context.skipped) write(`  left out: ${skipped}`);
      for (const breach of context.breaches) {
        write(`  BREACH ${breach}`);
        breaches.push(`${name}: ${breach}`);
      }
    }
  } finally {
    await probe.terminate();
    for (const server of started) await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
  const p99 = percentile(all.sort(ascending), 0.99);
  if (p99 > BOUNDS.healthP99Ms) breaches.push(`/health over the whole run: p99 ${p99.toFixed(0)} ms`);
  write(`\n${rows.join("\n")}\n\n/health, ${all.length} samples: p99 ${p99.toFixed(1)} ms`);
  write(breaches.length === 0 ? "\nevery bound held" : `\n${breaches.length} breaches`);
  return breaches;
}

const ascending = (a: number, b: number) => a - b;

const TABLE_HEAD = `| family | s | attacks | outcomes | longest turn, ms CPU | /health p50, p99, max ms | peak MiB over baseline | breaches |
| --- | --- | --- | --- | --- | --- | --- | --- |`;

function row(name: string, context: Attack, times: readonly number[], seconds: number): string {
  const outcomes = [...context.outcomes].sort((a, b) => b[1] - a[1]).map(([word, count]) => `${word} × ${count}`);
  const turn = `${context.longestTurnMs.toFixed(0)}${context.longestTurnOf && ` (${context.longestTurnOf})`}`;
  const peak = `${mib(context.peakBytes)}${context.peakOf && ` (${context.peakOf})`}`;
  const health = [0.5, 0.99, 1].map((share) => percentile(times, share).toFixed(1)).join(", ");
  const cells = [
    name,
    seconds.toFixed(0),
    context.tried,
    outcomes.join(", "),
    turn,
    health,
    peak,
    context.breaches.length,
  ];
  return `| ${cells.join(" | ")} |`;
}
