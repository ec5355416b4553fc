/**
 * `npm run bench -- [ops|model|start|switch|previews|serve] [--only TEXT] [--peers a,b] [--driver lavapipe|swiftshader] [--rounds N] [--json FILE]`
 *
 * Side-by-side measurements. Never part of a test run: figures depend on the machine, ratios in one run are what counts.
 */

import { existsSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import type { Contender, Entry } from "./compare.ts";

const SECTIONS = ["ops", "model", "start", "switch", "previews", "serve"] as const;
/** Those in which there are peers. */
const COMPARING = ["ops", "model"];

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: "string" },
    peers: { type: "string" },
    storage: { type: "string", default: "f32,packed" },
    driver: { type: "string" },
    rounds: { type: "string", default: "7" },
    turn: { type: "string", default: "200" },
    budget: { type: "string", default: "20" },
    json: { type: "string" },
  },
});
const unknown = positionals.filter((name) => !SECTIONS.includes(name as (typeof SECTIONS)[number]));
if (unknown.length > 0) {
  console.error(`No section ${unknown.join(", ")}; there are ${SECTIONS.join(", ")}.`);
  process.exit(1);
}
const sections = positionals.length > 0 ? positionals : SECTIONS;
if (sections.some((name) => COMPARING.includes(name)) && !existsSync(new URL("node_modules", import.meta.url))) {
  console.error("The peers are not installed. Run: (cd bench && npm install --ignore-scripts)");
  process.exit(1);
}
const wanted = (name: string) => !flags.only || name.toLowerCase().includes(flags.only.toLowerCase());
const turns = {
  rounds: Number(flags.rounds),
  turnMilliseconds: Number(flags.turn),
  budgetMilliseconds: Number(flags.budget) * 1000,
};

const { PEER_NAMES, startPeer } = await import("./peers/start-peer.ts");
const { markdownTable, previewTable, serveTable, startTable, switchTable } = await import("./tables.ts");
type PeerName = (typeof PEER_NAMES)[number];
type StorageChoice = import("./peers/peer.ts").StorageChoice;
type RunningPeer = import("./peers/start-peer.ts").RunningPeer;

const peerNames = PEER_NAMES.filter((name) => !flags.peers || flags.peers.split(",").includes(name));
const driver = flags.driver as "lavapipe" | "swiftshader" | undefined;
const report: Record<string, unknown> = {
  date: new Date().toISOString(),
  machine: `${cpus()[0]?.model.trim()}, ${cpus().length} cores`,
  node: process.version,
};

/** Those that can run a network from an ONNX file, and Daguerre. */
const NETWORK_PEERS: readonly PeerName[] = ["daguerre", "ort-webgpu", "ort-cpu"];

function progress(name: string, entries: readonly Entry[]): void {
  const figures = entries.map((entry) => `${entry.name} ${entry.timing?.median.toFixed(2) ?? "—"}`);
  console.error(`  ${name}: ${figures.join(" · ")}`);
}

/** Each peer in a process, Daguerre in one for each storage; those that do not start are named with their error. */
async function start(names: readonly PeerName[]): Promise<{ contenders: Contender[]; stop: () => void }> {
  const started: RunningPeer[] = [];
  const contenders: Contender[] = [];
  const rows: string[][] = [];
  for (const name of names) {
    const choices = name === "daguerre" ? (flags.storage.split(",") as StorageChoice[]) : [undefined];
    for (const storage of choices) {
      const label = storage && storage !== "f32" ? `${name} ${storage}` : name;
      try {
        const peer = await startPeer(name, { driver });
        started.push(peer);
        contenders.push({ name: label, peer, storage });
        rows.push([label, peer.description]);
      } catch (error) {
        rows.push([label, `did not start: ${(error as Error).message}`]);
      }
    }
  }
  const stop = () => {
    for (const peer of started) peer.stop();
  };
  report["peers"] = Object.fromEntries(rows);
  console.log(`${markdownTable(["who", "what"], rows)}\n`);
  return { contenders, stop };
}

console.log(`${report["date"]} · ${report["machine"]} · Node ${process.version}\n`);

if (sections.includes("ops")) {
  const { opRatioTable, opsTable, remarks } = await import("./report.ts");
  const { OP_CASES } = await import("./ops/cases.ts");
  const { measureOp } = await import("./ops/section.ts");
  const { writeOpModels } = await import("./onnx/op-models.ts");
  const { contenders, stop } = await start(peerNames);
  const results = [];
  for (const op of OP_CASES.filter(({ name }) => wanted(name))) {
    const result = await measureOp(op, contenders, { ...turns, onnx: writeOpModels });
    results.push(result);
    progress(op.name, result.entries);
  }
  stop();
  report["ops"] = results;
  console.log(
    `${opsTable(results)}\n\n${opRatioTable(results)}\n\n${remarks(results.map(({ op, entries }) => ({ name: op.name, entries })))}\n`,
  );
}

if (sections.includes("model")) {
  const { networkTable, remarks } = await import("./report.ts");
  const { NETWORKS } = await import("./model/networks.ts");
  const { measureNetwork } = await import("./model/section.ts");
  const { contenders, stop } = await start(peerNames.filter((name) => NETWORK_PEERS.includes(name)));
  const results = [];
  for (const network of NETWORKS.filter(({ name }) => wanted(name))) {
    const result = await measureNetwork(network, contenders, turns);
    results.push(result);
    progress(network.name, result.entries);
  }
  stop();
  report["model"] = results.map(({ network, entries }) => ({ name: network.name, bar: network.bar, entries }));
  const named = results.map(({ network, entries }) => ({ name: network.name, entries }));
  console.log(`${networkTable(results)}\n\n${remarks(named)}\n`);
}

if (sections.includes("start")) {
  const { measureStart } = await import("./start/section.ts");
  const result = await measureStart({ rounds: turns.rounds });
  report["start"] = result;
  console.log(`${startTable(result)}\n`);
}

if (sections.includes("switch")) {
  const { measureSwitch } = await import("./switch/section.ts");
  const result = await measureSwitch({ rounds: turns.rounds });
  report["switch"] = result;
  console.log(`${switchTable(result)}\n`);
}

if (sections.includes("previews")) {
  const { measurePreviews } = await import("./previews/section.ts");
  const result = await measurePreviews({ rounds: turns.rounds });
  report["previews"] = result;
  console.log(`${previewTable(result)}\n`);
}

if (sections.includes("serve")) {
  const { measureServing } = await import("./serve/section.ts");
  const result = await measureServing({ rounds: turns.rounds, loadMilliseconds: turns.budgetMilliseconds });
  report["serve"] = result;
  console.log(`${serveTable(result)}\n`);
}

if (flags.json) writeFileSync(flags.json, JSON.stringify(report, undefined, 2));
process.exit(0);
