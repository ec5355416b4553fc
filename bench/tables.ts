/** Tables for people: Markdown, which reads as well in a terminal; and those of the sections that have no peers. */

import type { PreviewResult } from "./previews/section.ts";
import type { ServeResult } from "./serve/section.ts";
import type { StartResult } from "./start/section.ts";
import type { SwitchResult } from "./switch/section.ts";
import type { Timing } from "./turns.ts";

export function markdownTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n");
}

export function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toPrecision(2);
}

export function startTable({ cold, warm, warmFirstStep }: StartResult): string {
  const row = (name: string, { median, spread, cpu }: Timing) => [
    name,
    `${number(median)} ms ±${Math.round(spread * 50)}%`,
    Number.isNaN(cpu) ? "" : `${number(cpu)} ms`,
  ];
  return markdownTable(
    ["from the start of the process, built-in model", "by the clock", "CPU time"],
    [
      row("to the first picture, caches empty", cold),
      row("to the first step, caches warm", warmFirstStep),
      row("to the first picture, caches warm", warm),
    ],
  );
}

export function switchTable({ adapter, load, present, absent }: SwitchResult): string {
  const row = (name: string, { median, spread, cpu }: Timing) => [
    name,
    `${number(median)} ms ±${Math.round(spread * 50)}%`,
    Number.isNaN(cpu) ? "" : `${number(cpu)} ms`,
  ];
  return markdownTable(
    [`two models in memory for one, on ${adapter}`, "by the clock", "CPU time"],
    [
      row("from the request to the first step, the model on the device", present),
      row("the same, the other model on the device", absent),
      row("the loading in it", load),
    ],
  );
}

export function previewTable({ adapter, runs, more, threadShare }: PreviewResult): string {
  const percent = (share: number) => `${number(share * 100)}%`;
  const rows = Object.entries(runs).map(([name, value]) => {
    if ("error" in value) return [name, value.error, "", ""];
    const cost = more[name];
    const run = `${number(value.median)} ms ±${Math.round(value.spread * 50)}%`;
    return [name, run, cost ? percent(cost.clock) : "", cost ? percent(cost.cpu) : ""];
  });
  const share = threadShare === undefined ? "not measured" : percent(threadShare);
  return `${markdownTable([`previews (${adapter})`, "a run", "more by the clock", "more CPU time"], rows)}

JavaScript thread while the GPU works: ${share} of a core`;
}

export function serveTable(result: ServeResult): string {
  const percent = (share: number) => `${number(share * 100)}%`;
  const ms = ({ median, spread }: { median: number; spread: number }) =>
    `${number(median)} ms ±${Math.round(spread * 50)}%`;
  const none = result.previews["none"];
  const previews = Object.entries(result.previews).map(([name, value]) => {
    if ("error" in value) return [`run with previews: ${name}`, value.error];
    const cost = none && "median" in none && value !== none ? `, ${percent(value.median / none.median - 1)} more` : "";
    return [`run with previews: ${name}`, `${ms(value)}${cost}`];
  });
  const { busy } = result;
  return markdownTable(
    ["serving the built-in model", "measured"],
    [
      ["process start to ready", `${number(result.startMilliseconds)} ms`],
      ["first event", ms(result.firstEvent)],
      ["first preview", ms(result.firstPreview)],
      ["result, with a preview each step", ms(result.result)],
      ...previews,
      ...result.clients.map(({ clients, picturesAMinute }) => [
        `${clients} client${clients > 1 ? "s" : ""}`,
        `${number(picturesAMinute)} pictures a minute`,
      ]),
      [
        "JavaScript thread while the GPU works",
        busy.threadShare === undefined ? "not measured" : percent(busy.threadShare),
      ],
      [
        "event-loop delay then",
        `p50 ${number(busy.delayP50)} ms, p99 ${number(busy.delayP99)} ms, at most ${number(busy.delayMax)} ms`,
      ],
      ["CPU when idle", percent(result.idleShare)],
    ],
  );
}
