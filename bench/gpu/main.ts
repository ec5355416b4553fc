/**
 * `bench.mjs [matrix|ops|unet|tune…] [--device cuda|cpu] [--small] [--only TEXT] [--json FILE]`: Daguerre beside PyTorch on one
 * card.
 *
 * Built by `build.ts`, run by `run.sh`. Everybody has the same weights and inputs; outputs are compared with PyTorch's in f32
 * before anything is timed, and what differs is marked ✗. Daguerre's contenders share this process, PyTorch's have one
 * each.
 */

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Gpu, openGpu } from "../../src/gpu/device.ts";
import { DAWN_FLAGS } from "../../src/gpu/drivers/adapter.ts";
import type { Choose } from "../../src/graph/choice.ts";
import type { KernelTime } from "../../src/graph/plan.ts";
import type { Storage } from "../../src/graph/tensor.ts";
import { chooserOf, type TunedShape, tune } from "../../src/graph/tuner.ts";
import {
  ATTENTION_VARIANTS,
  always,
  CONVOLUTION_VARIANTS,
  GROUP_NORM_VARIANTS,
  isOnMatrixUnit,
  type Variant,
} from "../../src/graph/variants.ts";
import type { LoadedParameters } from "../../src/memory/load.ts";
import { type Contender, compare, type Entry, withScratch, writeTensor } from "../compare.ts";
import { loadNetwork, prepareLoaded } from "../model/daguerre-network.ts";
import { declareShape, generatedWeights, weightPool, windowOf } from "../model/generated-weights.ts";
import { inputShape, type NetworkWork, recordUnet, SD15_UNET } from "../model/networks.ts";
import { flops, OP_CASES, type OpCase } from "../ops/cases.ts";
import { measureOp, type OpResult } from "../ops/section.ts";
import { type LoadedOp, loadOp, prepareOp, storages } from "../peers/daguerre.ts";
import type { Prepared, StorageChoice, TensorFile, Work } from "../peers/peer.ts";
import { type RunningPeer, startPeer } from "../peers/start-peer.ts";
import { randomValues } from "../random.ts";
import { number } from "../tables.ts";
import type { Lap, TurnOptions } from "../turns.ts";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    device: { type: "string", default: "cuda" },
    /** Shapes that a processor can do, to try the program out. */
    small: { type: "boolean", default: false },
    only: { type: "string", default: "" },
    rounds: { type: "string", default: "3" },
    turn: { type: "string", default: "12" },
    /** No case is begun later than this. */
    seconds: { type: "string", default: "Infinity" },
    json: { type: "string" },
    /** Features of Dawn besides the product's own, with commas between. */
    dawn: { type: "string" },
    /** Without PyTorch; answers are then compared with the first contender's. */
    alone: { type: "boolean", default: false },
  },
});
const sections = positionals.length > 0 ? positionals : ["ops", "unet", "tune"];
const turns: TurnOptions = {
  rounds: Number(flags.rounds),
  turnMilliseconds: Number(flags.turn),
  budgetMilliseconds: 10_000,
  maxTimes: 5000,
};
const onCuda = flags.device === "cuda";
const report: Record<string, unknown> = { date: new Date().toISOString(), node: process.version };
const begun = performance.now();
const print = (line: string) =>
  console.log(`${((performance.now() - begun) / 1000).toFixed(1).padStart(5)} s  ${line}`);
const isLate = (part = 1) => performance.now() - begun > 1000 * part * Number(flags.seconds);
/** `--only A,B`: those with one of these in their name; all without it. */
const isWanted = ({ name }: { readonly name: string }) => flags.only.split(",").some((part) => name.includes(part));
const keep = () => flags.json && writeFileSync(flags.json, JSON.stringify(report, undefined, 1));

/** PyTorch's contenders, of which the first is the reference. */
const TORCH: readonly { name: string; storage: StorageChoice; type: "f32" | "f16"; graph: boolean }[] = [
  { name: "torch f32", storage: "f32", type: "f32", graph: false },
  { name: "torch f16", storage: "half", type: "f16", graph: false },
  { name: "torch f16 graph", storage: "half", type: "f16", graph: true },
];

async function startTorch(): Promise<Contender[]> {
  if (flags.alone) return [];
  // In f32 a network takes longer than it tells.
  const needed =
    sections.includes("unet") && !sections.includes("ops") ? TORCH.filter(({ type }) => type === "f16") : TORCH;
  const wanted = onCuda ? needed : TORCH.filter(({ type, graph }) => type === "f32" && !graph);
  const started = await Promise.allSettled(
    wanted.map(({ type, graph }) => startPeer(onCuda ? "torch-cuda" : "torch-cpu", { torch: { type, graph } })),
  );
  return started.flatMap((result, index) => {
    const { name, storage } = wanted[index]!;
    print(`${name}: ${result.status === "fulfilled" ? result.value.description : `did not start: ${result.reason}`}`);
    return result.status === "fulfilled" ? [{ name, storage, peer: result.value }] : [];
  });
}

/** A contender of Daguerre's in this process. */
function inProcess(prepare: (work: Work) => Promise<Prepared>): Contender["peer"] {
  let prepared: Prepared | undefined;
  const timed = async (run: () => Promise<unknown>): Promise<Lap> => {
    const start = performance.now();
    const before = process.cpuUsage();
    await run();
    const { user, system } = process.cpuUsage(before);
    return { wall: performance.now() - start, cpu: (user + system) / 1000 };
  };
  return {
    async prepare(work) {
      prepared = await prepare(work);
      return prepared.note;
    },
    async output() {
      let values = new Float32Array();
      const lap = await timed(async () => {
        values = new Float32Array(await prepared!.output());
      });
      return { values, lap };
    },
    run: (times) => timed(() => prepared!.run(times)),
    async release() {
      await prepared?.release();
      prepared = undefined;
    },
  };
}

/** This variant, which a plan must have somewhere; without it the rule's. */
async function choosing<T>(variant: Variant | undefined, make: (choose: Choose) => Promise<T>): Promise<T> {
  let offered = variant === undefined;
  const choose: Choose = (_, candidates) => {
    if (variant && candidates.includes(variant)) offered = true;
    return variant;
  };
  const made = await make(choose);
  if (!offered) throw new Error("no candidate here");
  return made;
}

function variantsOf(op: OpCase): readonly Variant[] {
  if (op.kind === "attention") return ATTENTION_VARIANTS;
  if (op.kind === "group-norm") return GROUP_NORM_VARIANTS;
  return CONVOLUTION_VARIANTS.filter((variant) => variant === "matrix" || !isOnMatrixUnit(variant));
}

function opContenders(gpu: Gpu, op: OpCase): Contender[] {
  const form = (name: string, storage: StorageChoice, variant?: Variant): Contender => ({
    name,
    storage,
    peer: inProcess((work) =>
      choosing(variant, async (choose) => {
        if (work.kind !== "op") throw new Error("operations only");
        return prepareOp(gpu, { ...work, storage }, { choose });
      }),
    ),
  });
  return [
    form("f32", "f32"),
    form("packed", "packed"),
    ...variantsOf(op).map((variant) => form(`half ${variant}`, "half", variant)),
  ];
}

const REFERENCES = ["torch f16", "torch f16 graph"];

/** One line a contender: ms, GFLOP/s, and how many times as fast as PyTorch in f16. */
function lines(entries: readonly Entry[], operations: number): string[] {
  const of = (name: string) => entries.find((entry) => entry.name === name)?.timing?.median;
  return entries.map(({ name, timing, error, difference, note }) => {
    if (!timing) return `    ${name.padEnd(24)} — ${error?.replace(/\s+/g, " ").slice(0, 400)}`;
    const rate = operations > 0 ? `${number(operations / timing.median / 1e6).padStart(8)} GFLOP/s` : "";
    const ratios = REFERENCES.map((peer) => of(peer)).map((ms) => (ms ? `${(ms / timing.median).toFixed(3)}×` : "—"));
    const off = error ? ` ✗ ${error.slice(0, 120)}` : ` within ${difference?.toExponential(1)}`;
    const spread = `±${Math.round(timing.spread * 50)}%`;
    return `    ${name.padEnd(24)} ${timing.median.toFixed(4).padStart(10)} ms ${spread.padStart(5)} ${rate}  ${ratios.join(" ")}${off}${note ? `; ${note}` : ""}`;
  });
}

const conv = (inputs: number, size: number): OpCase => ({
  ...{ name: `conv 3×3 ${inputs}→${inputs} @${size}²`, kind: "conv", size, inputs, outputs: inputs },
  ...{ kernel: 3, stride: 1, padding: 1 },
});
const gemm = (rows: number, inputs: number, outputs: number): OpCase => ({
  ...{ name: `GEMM ${rows}×${inputs}×${outputs}`, kind: "gemm", rows, inputs, outputs },
});
const MATRIX_OPS: readonly OpCase[] = [
  { ...gemm(1024, 1024, 1024), name: "GEMM 1024³" },
  conv(320, 64),
  gemm(4096, 320, 320),
  conv(1280, 16),
  conv(640, 32),
  gemm(4096, 320, 2560),
  conv(64, 64),
];

/** The kernel for matrix units without some of its parts: wrong answers, but they show which part takes the time. */
const HALVES_OF_THE_WORK: Readonly<Record<string, (code: string) => string>> = {
  "staging only": (code) => code.replace(/(fn multiply_add\([^{]*)\{[^}]*\}/, "$1{ return sum; }"),
  "products only": (code) => code.replaceAll("if (step < steps)", "if (step < min(steps, 1u))"),
};

/** `gpu`, compiling something else than it is given. */
function altered(gpu: Gpu, alter: (code: string) => string): Gpu {
  return Object.create(gpu, {
    pipeline: { value: (label: string, code: string) => gpu.pipeline(label, alter(code)) },
  }) as Gpu;
}

/** Every variant of the kernel for matrix units, of one set of weights, beside the best two that do without a unit. */
async function matrixContenders(gpu: Gpu, torch: readonly Contender[]): Promise<void> {
  const results: OpResult[] = [];
  report["matrix"] = results;
  const peers = torch.filter(({ name }) => name === "torch f32" || name === "torch f16 graph");
  const cases = flags.small ? SMALL_OPS.filter(({ kind }) => kind === "gemm" || kind === "conv") : MATRIX_OPS;
  for (const op of cases.filter(isWanted)) {
    if (isLate()) break;
    let loaded: LoadedOp | undefined;
    const form = (name: string, variant: Variant, on = gpu): Contender => ({
      ...{ name, storage: "half" },
      peer: inProcess((work) =>
        choosing(variant, async (choose) => {
          if (work.kind !== "op") throw new Error("operations only");
          loaded ??= await loadOp(gpu, { ...work, storage: "half" });
          return prepareOp(on, work, { loaded, choose });
        }),
      ),
    });
    const contenders = [
      ...(["tiled", "subgroup", ...CONVOLUTION_VARIANTS.filter(isOnMatrixUnit)] as const).map((variant) =>
        form(variant, variant),
      ),
      ...(["matrix", "matrix-128x128"] as const).flatMap((variant) =>
        Object.entries(HALVES_OF_THE_WORK).map(([name, without]) =>
          form(`${variant}: ${name}`, variant, altered(gpu, without)),
        ),
      ),
    ];
    const result = await measureOp(op, [...peers, ...contenders], turns);
    loaded?.parameters.destroy();
    results.push(result);
    print(`${op.name} (ms, times as fast as ${REFERENCES.join(" and ")})`);
    for (const line of lines(result.entries, flops(op))) console.log(line);
    keep();
  }
}

const SMALL_OPS: readonly OpCase[] = [
  { name: "GEMM 96×64×128", kind: "gemm", rows: 96, inputs: 64, outputs: 128 },
  { name: "conv 3×3 64→64 @16²", kind: "conv", size: 16, inputs: 64, outputs: 64, kernel: 3, stride: 1, padding: 1 },
  { name: "GroupNorm+SiLU 64 @16²", kind: "group-norm", size: 16, channels: 64, groups: 16, times: 4 },
  { name: "self-attention 256×2×40", kind: "attention", queries: 256, keys: 256, heads: 2, head: 40 },
];

async function ops(gpu: Gpu, torch: readonly Contender[]): Promise<void> {
  const results: OpResult[] = [];
  report["ops"] = results;
  for (const op of (flags.small ? SMALL_OPS : BY_VALUE).filter(isWanted)) {
    if (isLate()) break;
    const result = await measureOp(op, [...torch, ...opContenders(gpu, op)], turns);
    results.push(result);
    print(`${op.name} (ms, times as fast as ${REFERENCES.join(" and ")})`);
    for (const line of lines(result.entries, flops(op))) console.log(line);
    keep();
  }
}

/** The parts that take most of a step come first. */
const BY_VALUE = [...OP_CASES].sort((a, b) => Number(b.kind === "attention") - Number(a.kind === "attention"));

interface UnetCase {
  readonly name: string;
  readonly config: typeof SD15_UNET;
  readonly side: number;
  readonly rows: number;
}

const SMALL_CONFIG = { ...SD15_UNET, block_out_channels: [32, 64, 64, 64], attention_head_dim: 4 };
const UNETS: readonly UnetCase[] = flags.small
  ? [{ name: "UNet, small", config: SMALL_CONFIG, side: 16, rows: 2 }]
  : [
      { name: "UNet step, SD 1.5, 512², guided", config: SD15_UNET, side: 64, rows: 2 },
      { name: "UNet step, SD 1.5, 512²", config: SD15_UNET, side: 64, rows: 1 },
      { name: "UNet step, SD 1.5, 256²", config: SD15_UNET, side: 32, rows: 1 },
      { name: "UNet step, SD 1.5, 256², guided", config: SD15_UNET, side: 32, rows: 2 },
    ];

/** The weights of the networks, which all sizes share, as they are first asked for. */
function weightsOn(gpu: Gpu) {
  const loaded = new Map<Storage, Promise<LoadedParameters>>();
  return (storage: Storage) => {
    const { config, rows, side } = UNETS[0]!;
    const known = loaded.get(storage);
    if (known) return known;
    const start = performance.now();
    const loading = loadNetwork(
      gpu,
      { recorder: recordUnet(config, rows, side, 77), weights: generatedWeights },
      storage,
    ).then((parameters) => {
      print(
        `weights loaded in ${storage}: ${Math.round(parameters.bytes / 1e6)} MB, ${Math.round(performance.now() - start)} ms`,
      );
      return parameters;
    });
    loaded.set(storage, loading);
    return loading;
  };
}
type WeightsOf = ReturnType<typeof weightsOn>;

interface StorageRow {
  readonly name: string;
  readonly storage: StorageChoice;
  readonly choose?: Choose;
}

/** The largest sums of these times. */
function sumsBy(times: readonly KernelTime[], key: (time: KernelTime) => string, count: number): string {
  const sums = new Map<string, { ms: number; dispatches: number }>();
  for (const time of times) {
    const { ms, dispatches } = sums.get(key(time)) ?? { ms: 0, dispatches: 0 };
    sums.set(key(time), { ms: ms + time.milliseconds, dispatches: dispatches + 1 });
  }
  const sorted = [...sums].sort(([, a], [, b]) => b.ms - a.ms).slice(0, count);
  return sorted.map(([name, { ms, dispatches }]) => `${name} ${ms.toFixed(3)} (${dispatches})`).join(", ");
}

async function unets(
  gpu: Gpu,
  torch: readonly Contender[],
  weightsOf: WeightsOf,
  forms: readonly StorageRow[],
): Promise<void> {
  const results: unknown[] = (report["unet"] ??= []) as unknown[];
  const profiled: unknown[] = (report["profiles"] ??= []) as unknown[];
  for (const [index, { name, config, rows, side }] of UNETS.filter(isWanted).entries()) {
    if (index > 0 && isLate()) break;
    await withScratch(async (directory) => {
      const recorder = recordUnet(config, rows, side, 77);
      const windows = [...recorder.parameters.values()].flatMap(({ parts }) =>
        parts.map((part) => {
          declareShape(part.name, part.shape);
          return [part.name, windowOf(part.name)] as const;
        }),
      );
      const tensors: Record<string, TensorFile> = {};
      for (const [input, tensor] of recorder.inputs) {
        const count = tensor.shape.reduce((product, size) => product * size, 1);
        tensors[input] = writeTensor(
          directory,
          input,
          inputShape(tensor),
          randomValues(`${name} ${input}`, count, { deviation: 1 }),
        );
      }
      const pool = writeTensor(directory, "pool", [weightPool().length], weightPool());
      const work: NetworkWork = {
        ...{ kind: "network", network: name, tensors, onnx: [] },
        unet: { config, pool, tensors: Object.fromEntries(windows) },
      };
      const profiles = new Map<string, readonly KernelTime[]>();
      const contenders = forms.map(
        ({ name: label, storage, choose }): Contender => ({
          name: label,
          storage,
          peer: inProcess(async () => {
            const { weights, activations } = storages(storage);
            const parameters = await weightsOf(weights);
            const prepared = await prepareLoaded(gpu, work, {
              recorder: recordUnet(config, rows, side, 77),
              parameters,
              activations,
              choose,
            });
            return {
              ...prepared,
              async release() {
                if (gpu.hasTimestamps) profiles.set(label, await prepared.profile());
                prepared.release();
              },
            };
          }),
        }),
      );
      const comparing = compare([...torch, ...contenders], work, directory, turns);
      // Made while PyTorch, which comes first, makes its own.
      for (const { storage } of forms) weightsOf(storages(storage).weights).catch(() => {});
      const entries = await comparing;
      results.push({ name, entries });
      print(`${name} (ms, times as fast as ${REFERENCES.join(" and ")})`);
      for (const line of lines(entries, 0)) console.log(line);
      for (const [label, times] of profiles) {
        console.log(`    ${label}: ms by kernel, from timestamps: ${sumsBy(times, ({ kernel }) => kernel, 12)}`);
      }
      profiled.push({ name, profiles: Object.fromEntries(profiles) });
      keep();
    });
  }
}

/** The tuner's choices for the first of the networks, in f16 throughout. */
async function tuned(gpu: Gpu, weightsOf: WeightsOf): Promise<readonly TunedShape[]> {
  const { name, config, rows, side } = UNETS[0]!;
  const part = {
    recorder: recordUnet(config, rows, side, 77),
    storage: "f16" as const,
    parameters: await weightsOf("f16"),
  };
  const shapes: TunedShape[] = [];
  report["tuner"] = shapes;
  print(`tuner, ${name}, f16: layers × shape, ms of a run`);
  const late = new Error("late");
  const tuning = tune(gpu, [part], {
    turnMilliseconds: Number(flags.turn) / 3,
    onShape(shape) {
      shapes.push(shape);
      const times = shape.candidates.map(({ variant, milliseconds }) => `${variant} ${milliseconds.toFixed(4)}`);
      console.log(
        `    ${String(shape.layers).padStart(2)} × ${shape.shape.padEnd(62)} ${times.join("  ")}  → ${shape.winner}`,
      );
      if (isLate(0.8)) throw late;
    },
  });
  await tuning.catch((error) => {
    if (error !== late) throw error;
    print("late: what is left goes by rule");
  });
  print("tuned");
  keep();
  return shapes;
}

const fastest = (shapes: readonly TunedShape[], without?: (variant: Variant) => boolean): Choose =>
  chooserOf(
    new Map(
      shapes.map(({ shape, candidates }) => {
        const left = candidates.filter(({ variant }) => !without?.(variant));
        return [shape, left.reduce((best, next) => (next.milliseconds < best.milliseconds ? next : best)).variant];
      }),
    ),
  );

// Dawn heeds the last of several flags of one name.
if (flags.dawn) (DAWN_FLAGS as string[])[0] += `,${flags.dawn}`;
const torchStarting = startTorch();
const gpu = await openGpu();
const { facts, lanes, matrixUnit } = gpu;
report["adapter"] = { ...facts, lanes, matrixUnit };
print(`Daguerre: ${facts.name} · ${facts.description} · subgroups of ${lanes} · unit ${JSON.stringify(matrixUnit)}`);
const torch = await torchStarting;
try {
  if (sections.includes("matrix")) await matrixContenders(gpu, torch);
  if (sections.includes("ops")) await ops(gpu, torch);
  const weightsOf = weightsOn(gpu);
  const rule: StorageRow = { name: "half, rule", storage: "half" };
  const offUnit: Choose = (_, candidates) => candidates.find((variant) => !isOnMatrixUnit(variant));
  const forced = matrixUnit ? (["matrix", "matrix-128x128", "apart"] as const) : (["apart"] as const);
  const byName = forced.map((name): StorageRow => ({ name: `half, ${name}`, storage: "half", choose: always(name) }));
  if (sections.includes("unet"))
    await unets(gpu, torch, weightsOf, [
      rule,
      ...(matrixUnit ? [{ name: "half, rule without matrix unit", storage: "half" as const, choose: offUnit }] : []),
      ...byName,
    ]);
  if (sections.includes("tune")) {
    const shapes = await tuned(gpu, weightsOf);
    const withoutUnit = { name: "half, tuned, no matrix unit", choose: fastest(shapes, isOnMatrixUnit) };
    await unets(gpu, [], weightsOf, [
      { name: "half, tuned", storage: "half", choose: fastest(shapes) },
      { ...withoutUnit, storage: "half" },
    ]);
  }
} finally {
  keep();
  for (const { peer } of torch) (peer as RunningPeer).stop();
}
process.exit(0);
