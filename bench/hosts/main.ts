/**
 * Costs of places where runs live: `npm run bench:hosts -- [section]`.
 *
 * - `events`: from an event's yield to its arrival, and a stream of them, in this thread, another, and a process.
 * - `start`: until a place serves, and its memory.
 * - `ranks`: collectives of four ranks, and the first streamed result.
 *
 * Without a section, all of them. Medians, with the least in parentheses: on a loaded machine the least says more. The files
 * that threads and processes begin with are built first, since one that loads TypeScript starts ten times as slowly.
 */
import { readFileSync } from "node:fs";
import { builtHosts } from "../../tooling/built-hosts.ts";
import { markdownTable, number } from "../tables.ts";

const built = new URL("index.js", await builtHosts()).href;
process.env.DAGUERRE_BUILT_HOSTS = built;
const { createHost, DistributedRunner } = (await import(built)) as typeof import("../../src/hosts/index.ts");

const worker = new URL("./work.mjs", import.meta.url);
const KINDS = ["here", "thread", "process"] as const;
const SIZES = [1_000, 20_000, 262_144, 3_000_000];
const RANKS = 4;
const now = () => performance.timeOrigin + performance.now();
const context = () => ({ signal: new AbortController().signal, requestId: "bench" });

function cell(times: readonly number[]): string {
  const sorted = [...times].sort((left, right) => left - right);
  return `${number(sorted[sorted.length >> 1]!)} (${number(sorted[0]!)})`;
}

async function events(): Promise<void> {
  const hosts = KINDS.map((kind) => createHost<object, { made: number }>({ worker, name: "events", kind }));
  for (const host of hosts) for await (const _ of host.run({ n: 50, bytes: 1000 }, context()));
  const rows: string[][] = [];
  for (const bytes of SIZES) {
    const n = bytes > 1e6 ? 40 : 300;
    const row = [`${bytes / 1000} KB`];
    for (const host of hosts) {
      const late: number[] = [];
      const began = performance.now();
      for await (const { made } of host.run({ n, bytes }, context())) late.push(now() - made);
      row.push(cell(late), String(Math.round((n / (performance.now() - began)) * 1000)));
    }
    rows.push(row);
  }
  const heads = KINDS.flatMap((kind) => [`${kind}, ms from yield to arrival`, "events/s"]);
  console.log(`${markdownTable(["event", ...heads], rows)}\n`);
  await Promise.all(hosts.map((host) => host.close()));
}

/** Kilobytes of a process that are its own, or its share of (Linux's `smaps_rollup`). */
const proportionalKb = (pid: number) =>
  Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))![1]);

async function start(): Promise<void> {
  const rows: string[][] = [];
  for (const kind of ["thread", "process"] as const) {
    const times: number[] = [];
    const before = process.memoryUsage().rss / 1024;
    const hosts = Array.from({ length: 6 }, () => createHost({ worker, name: "events", kind }));
    for (const host of hosts) {
      const began = performance.now();
      await host.start();
      times.push(performance.now() - began);
    }
    const each =
      kind === "process"
        ? hosts.reduce((sum, { pid }) => sum + proportionalKb(pid!), 0) / hosts.length
        : (process.memoryUsage().rss / 1024 - before) / hosts.length;
    rows.push([kind, cell(times), number(each / 1024)]);
    await Promise.all(hosts.map((host) => host.close()));
  }
  console.log(`${markdownTable(["place", "ms to start", "MB each (PSS of a process, growth of this one)"], rows)}\n`);
}

async function ranks(): Promise<void> {
  const rows: string[][] = [];
  const groups = await Promise.all(
    (["threads", "processes"] as const).map(async (kind) => {
      const group = new DistributedRunner<object, { made: number }, number[]>(worker, {
        name: "Rank",
        worldSize: RANKS,
        ranks: kind,
      });
      await group.start();
      return group;
    }),
  );
  const CASES: readonly [string, object][] = [
    ["barrier", { collective: "barrier", n: 300, length: 0 }],
    ["gather, 1 KB of each", { collective: "gather", n: 200, length: 256 }],
    ["gather, 260 KB", { collective: "gather", n: 60, length: 65_536 }],
    ["gather, 3 MB", { collective: "gather", n: 15, length: 786_432 }],
    ["broadcast, 260 KB", { collective: "broadcast", n: 60, length: 65_536 }],
    ["allReduce, 16 KB", { collective: "allReduce", n: 100, length: 4_096 }],
    ["allReduce, 260 KB", { collective: "allReduce", n: 40, length: 65_536 }],
  ];
  for (const [name, payload] of CASES) {
    const row = [name];
    for (const group of groups) row.push(cell(await group.invoke(payload)));
    rows.push(row);
  }
  const first = ["a streamed result, from `addStreamingResult` to the reader"];
  for (const group of groups) {
    const late: number[] = [];
    for await (const event of group.stream({ collective: "stream", n: 200 })) {
      if ("made" in event) late.push(now() - event.made);
    }
    first.push(cell(late));
  }
  console.log(`${markdownTable([`${RANKS} ranks, ms`, "threads", "processes"], [...rows, first])}\n`);
  await Promise.all(groups.map((group) => group.stop()));
}

const SECTIONS: Readonly<Record<string, () => Promise<void>>> = { events, start, ranks };
const [, , only] = process.argv;
for (const [name, section] of Object.entries(SECTIONS)) if (only === undefined || only === name) await section();
