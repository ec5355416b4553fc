/** Tables of what is compared with peers. */

import type { Entry } from "./compare.ts";
import { type NetworkResult, wholePicture } from "./model/section.ts";
import type { OpResult } from "./ops/section.ts";
import { markdownTable, number } from "./tables.ts";

export function opsTable(results: readonly OpResult[]): string {
  const names = results[0]?.entries.map((entry) => entry.name) ?? [];
  const rows = results.map(({ op, flops, entries }) => [op.name, ...entries.map((entry) => opCell(entry, flops))]);
  return markdownTable(["operation, ms (GFLOP/s)", ...names], rows);
}

function opCell({ timing, error }: Entry, flops: number): string {
  if (!timing) return error ? "—" : "";
  const rate = flops > 0 ? ` (${number(flops / timing.median / 1e6)})` : "";
  return `${number(timing.median)}${rate}${error ? " ✗" : ""}`;
}

export interface Ratio {
  readonly name: string;
  /** Times as fast as a peer, by the peer's name. */
  readonly against: Readonly<Record<string, number>>;
}

/** How many times as fast as each peer, by the medians. */
export function ratio(
  entries: readonly Entry[],
  ours: string,
  peer: string,
  by: "median" | "cpu" = "median",
): number | undefined {
  const [a, b] = [ours, peer].map((name) => entries.find((entry) => entry.name === name)?.timing?.[by]);
  return a !== undefined && b !== undefined ? b / a : undefined;
}

export function opRatioTable(results: readonly OpResult[]): string {
  const rows = results.flatMap(({ op, entries }) =>
    entries
      .filter(({ name }) => name.startsWith("daguerre"))
      .map(({ name }) => {
        const against = (peer: string) => ratio(entries, name, peer);
        const bar = op.bar?.[name === "daguerre" ? "f32" : "packed"];
        const reached = against("ort-webgpu");
        const verdict =
          !bar || reached === undefined ? "" : reached >= bar[1] ? "aim" : reached >= bar[0] ? "yes" : "no";
        return [
          op.name,
          name.replace("daguerre", "").trim() || "f32",
          ...["ort-webgpu", "ort-web", "tfjs-webgpu", "jax-js", "ort-cpu", "torch-cpu"].map((peer) =>
            times(against(peer)),
          ),
          times(ratio(entries, name, "ort-webgpu", "cpu")),
          bar ? `${bar[0]}× / ${bar[1]}×` : "",
          verdict,
        ];
      }),
  );
  const header = [
    "times as fast as",
    "weights",
    "ORT WebGPU",
    "ORT web",
    "tfjs",
    "jax-js",
    "ORT CPU",
    "PyTorch CPU",
    "ORT WebGPU by CPU time",
    "bar: require / aim",
    "reached",
  ];
  return markdownTable(header, rows);
}

export function networkTable(results: readonly NetworkResult[]): string {
  const names = [...new Set(results.flatMap(({ entries }) => entries.map((entry) => entry.name)))];
  const whole = wholePicture(results);
  const all = results.map(({ network, entries }) => ({ name: network.name, bar: network.bar, entries }));
  if (whole) all.push({ ...whole, bar: undefined });
  const rows = all.map(({ name: network, bar: required, entries }) => {
    const of = (name: string) => entries.find((entry) => entry.name === name);
    const ours = of("daguerre packed") ? "daguerre packed" : "daguerre";
    const against = (peer: string) => ratio(entries, ours, peer);
    const bars = (required ?? []).map((bar) => {
      const reached = against(bar.against);
      const verdict =
        reached === undefined ? "not measured" : reached >= bar.aim ? "aim" : reached >= bar.require ? "yes" : "no";
      return `${bar.require}× / ${bar.aim}× ${bar.against}: ${verdict}`;
    });
    const cell = (entry: Entry | undefined) => (entry ? opCell(entry, 0) : "");
    return [
      network,
      ...names.map((name) => cell(of(name))),
      times(against("ort-webgpu")),
      times(against("ort-cpu")),
      bars.join("; "),
    ];
  });
  return markdownTable(
    ["network, ms", ...names, "packed / ORT WebGPU", "packed / ORT CPU", "bars: require / aim"],
    rows,
  );
}

/** Errors, spread and notes: what a table has no room for. */
export function remarks(results: readonly { name: string; entries: readonly Entry[] }[]): string {
  const lines: string[] = [];
  const errors = new Map<string, string[]>();
  for (const { name, entries } of results) {
    for (const entry of entries) {
      if (!entry.error) continue;
      const key = `${entry.name}: ${entry.error}`;
      errors.set(key, [...(errors.get(key) ?? []), name]);
    }
  }
  for (const [error, where] of errors)
    lines.push(
      `- ${error.includes(": wrong") ? "✗" : "did not run:"} ${error.replace(/\s+/g, " ").slice(0, 300)} (${where.join(", ")})`,
    );
  for (const { name, entries } of results) {
    const notes = entries.filter(({ note }) => note).map((entry) => `${entry.name}: ${entry.note}`);
    const spreads = entries.flatMap(({ timing, name: who }) =>
      timing ? [`${who} ±${Math.round(timing.spread * 50)}%`] : [],
    );
    const differences = entries.flatMap((entry) => (entry.difference ? [entry.difference] : []));
    const difference = differences.length > 0 ? `; outputs within ${Math.max(...differences).toExponential(1)}` : "";
    lines.push(
      `- ${name}: half the spread between quartiles ${spreads.join(", ")}${difference}${notes.length > 0 ? `; ${notes.join(", ")}` : ""}`,
    );
  }
  return lines.join("\n");
}

export function times(value: number | undefined): string {
  return value === undefined ? "—" : `${number(value)}×`;
}
