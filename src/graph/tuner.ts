/**
 * The tuner: times the variants of each heavy kernel on the shapes that a model really has, on this adapter.
 *
 * Which variant wins follows from the adapter and from an operation's shape, and neither from its weights nor from its
 * inputs; so each distinct shape is timed once, as a plan of that operation alone. Candidates take turns, and the shortest of
 * the turns counts: other work of the machine only ever adds. A candidate whose answer is not that of the rule's own choice
 * (of its best without a matrix unit, if there is one) is not timed: drivers have faults that only one kernel meets.
 *
 * `src/engine/tuning-cache.ts` remembers the winners, and `chooserOf` takes them.
 */

import type { Gpu } from "../gpu/device.ts";
import type { ChoiceTarget, Choose, Varied } from "./choice.ts";
import { compile } from "./compile/compile.ts";
import { type Recorded, runnableOperations } from "./compile/layout.ts";
import type { PlanParameters } from "./compile/parameters.ts";
import type { Plan } from "./compile/plan.ts";
import { targetFor, targetOf } from "./compile/target.ts";
import { type Operation, readsOf } from "./ops/table.ts";
import { channelsOf, partsOf, rowsOf, type Storage, type Tensor } from "./tensor.ts";
import { isOnMatrixUnit, isVaried, type Variant, variantsOf } from "./variants.ts";

/** Part of a model: its recording, and how it runs. */
export interface Tunable {
  readonly recorder: Recorded;
  readonly storage: Storage;
  readonly parameters: PlanParameters;
}

/** One shape of operation, and how long each variant takes. */
export interface TunedShape {
  /** By `shapeOf`. */
  readonly shape: string;
  /** Layers of this shape. */
  readonly layers: number;
  /** In the order of the rule. Milliseconds of one run. Without those that fail or answer wrongly. */
  readonly candidates: readonly { readonly variant: Variant; readonly milliseconds: number }[];
  readonly winner: Variant;
}

/** A turn is as many runs as last this long, in ms. */
const TURN_MS = 10;
const MAX_RUNS = 64;
const TURNS = 3;
/** At so many times the best, a candidate's turns are over. */
const HOPELESS = 4;
/** The part of the time that a variant has to save to win against the rule's choice: less is noise. */
const WORTHWHILE = 0.03;

/** How far two right answers may be apart, of the largest value: variants sum in other orders, and Winograd's loses a digit. */
const TOLERANCE: Record<Storage, number> = { f32: 1e-3, f16: 2e-2 };

/** The facts that decide how long an operation takes: sizes, window, storage. Operations of one shape take the same variant. */
export function shapeOf(operation: Varied, target: ChoiceTarget): string {
  const { storage } = target;
  if (operation.kind === "group-norm-apply") {
    const { input, statistics, groupChannels } = operation;
    const groups = channelsOf(statistics.input) / groupChannels;
    return `group norm ${partsOf(input).map(channelsOf).join("+")}/${groups} @${pictureOf(input)} ${storage}`;
  }
  if (operation.kind === "attention") {
    const { query, key, heads, head, causal } = operation;
    const images = query.tensor.shape[0]!;
    const [queries, keys] = [query, key].map(({ tensor }) => rowsOf(tensor) / images);
    return `attention ${images}×${heads}×${head.padded} ${queries}:${keys}${causal ? " causal" : ""} ${storage}`;
  }
  const { picture, virtual, kernel, input, output, weight } = operation;
  const channels = partsOf(input).map(channelsOf).join("+");
  const resized = virtual.height === picture.inHeight && virtual.width === picture.inWidth ? "" : " resized";
  const window = `${kernel.height}×${kernel.width}${kernel.stride > 1 ? `/${kernel.stride}` : ""}`;
  const size = `${picture.images}×${picture.outHeight}×${picture.outWidth}`;
  const held = target.textured?.(weight) ? " texture" : "";
  const gated = operation.gated ? " gated" : "";
  return `conv ${window} ${channels}→${channelsOf(output)} @${size}${resized}${gated} ${storage}, ${target.weightStorage} weights${held}`;
}

/** Images × pixels. */
function pictureOf(tensor: Tensor): string {
  const images = tensor.shape[0]!;
  return `${images}×${rowsOf(tensor) / images}`;
}

export interface TuneOptions {
  /** Shapes that are left out. */
  readonly tunedShapes?: ReadonlySet<string>;
  readonly signal?: AbortSignal;
  /** Told of each one as it is done. */
  readonly onShape?: (shape: TunedShape, done: number, total: number) => void;
  /** How long a turn of a candidate should last, in ms. */
  readonly turnMilliseconds?: number;
}

/**
 * Times every shape of `parts` that more than one variant can do.
 * @throws GPU errors of the rule's own choices without a matrix unit, the signal's reason if it is aborted, and the errors of
 *   `onShape`
 */
export async function tune(gpu: Gpu, parts: Iterable<Tunable>, options: TuneOptions = {}): Promise<TunedShape[]> {
  const shapes = new Map<
    string,
    { part: Tunable; operation: Varied; candidates: readonly Variant[]; layers: number }
  >();
  for (const part of parts) {
    const target = targetOf(gpu, part.storage, part.parameters, undefined);
    for (const operation of runnableOperations(gpu, part.recorder, target)) {
      if (!isVaried(operation)) continue;
      const own = targetFor(operation, target);
      const shape = shapeOf(operation, own);
      const seen = shapes.get(shape);
      if (seen) seen.layers++;
      else shapes.set(shape, { part, operation, candidates: variantsOf(operation, own), layers: 1 });
    }
  }
  const due = [...shapes].filter(
    ([shape, { candidates }]) => candidates.length > 1 && !options.tunedShapes?.has(shape),
  );
  const tuned: TunedShape[] = [];
  for (const [shape, { part, operation, candidates, layers }] of due) {
    const times = await timeCandidates(gpu, part, operation, candidates, options);
    const ruled = times[0]!;
    const fastest = times.reduce((best, next) => (next.milliseconds < best.milliseconds ? next : best));
    const isWorthwhile = fastest.milliseconds < ruled.milliseconds * (1 - WORTHWHILE);
    const result = { shape, layers, candidates: times, winner: (isWorthwhile ? fastest : ruled).variant };
    tuned.push(result);
    options.onShape?.(result, tuned.length, due.length);
  }
  return tuned;
}

/** Takes the remembered winner of an operation's shape; the rule's choice where none is. */
export function chooserOf(winners: ReadonlyMap<string, Variant>): Choose {
  return (operation, _, target) => winners.get(shapeOf(operation, target));
}

/** The operations that run for one, before a variant is chosen for it. */
function recordedAlone(operation: Varied): Recorded {
  const operations: Operation[] =
    operation.kind === "group-norm-apply" ? [operation.statistics, { ...operation, joined: false }] : [operation];
  const made = new Set(operations.map(({ output }) => output.id));
  const read = operations.flatMap(readsOf).filter(({ id }) => !made.has(id));
  return {
    operations,
    inputs: new Map(read.map((tensor) => [`${tensor.id}`, tensor])),
    states: new Map(),
    outputs: new Map([["out", operation.output]]),
  };
}

async function timeCandidates(
  gpu: Gpu,
  { storage, parameters }: Tunable,
  operation: Varied,
  candidates: readonly Variant[],
  { signal, turnMilliseconds = TURN_MS }: TuneOptions,
): Promise<{ variant: Variant; milliseconds: number }[]> {
  const alone = recordedAlone(operation);
  const inputs = spreadInputs(alone);
  // The extension for matrix units is an experiment of Dawn's: their answers are compared, not trusted.
  const trusted = candidates.find((variant) => !isOnMatrixUnit(variant)) ?? candidates[0]!;
  let expected: Float32Array | undefined;
  const plans: { variant: Variant; plan: Plan; runs: number; milliseconds: number }[] = [];
  try {
    for (const variant of [trusted, ...candidates.filter((candidate) => candidate !== trusted)]) {
      signal?.throwIfAborted();
      const label = `${variant}: ${operation.name}`;
      let plan: Plan | undefined;
      try {
        plan = await compile(gpu, alone, { label, storage, parameters, choose: () => variant, signal });
        const answer = await answerOf(plan, inputs);
        expected ??= answer;
        if (!isClose(answer, expected, TOLERANCE[storage])) throw new Error(`${label}: answers otherwise`);
        plans.push({ variant, plan, runs: 1, milliseconds: Number.POSITIVE_INFINITY });
      } catch (error) {
        plan?.destroy();
        signal?.throwIfAborted();
        // Only the one that is trusted has to run: a driver may refuse others, or there may be too little memory for them.
        if (expected === undefined || gpu.lost) throw error;
      }
    }
    for (let turn = 0; turn <= TURNS; turn++) {
      const best = Math.min(...plans.map(({ milliseconds }) => milliseconds));
      for (const candidate of plans) {
        signal?.throwIfAborted();
        // One short turn may have met a busy machine; Infinity is not more than Infinity.
        const isTimed = turn > 1 || candidate.milliseconds > turnMilliseconds;
        if (isTimed && candidate.milliseconds > HOPELESS * best) continue;
        const once = await time(gpu, candidate.plan, candidate.runs);
        if (turn === 0) candidate.runs = Math.min(MAX_RUNS, Math.max(1, Math.ceil(turnMilliseconds / once)));
        candidate.milliseconds = Math.min(candidate.milliseconds, once);
      }
    }
    const times = new Map(plans.map(({ variant, milliseconds }) => [variant, milliseconds]));
    return candidates.flatMap((variant) => {
      const milliseconds = times.get(variant);
      return milliseconds === undefined ? [] : [{ variant, milliseconds }];
    });
  } finally {
    for (const { plan } of plans) plan.destroy();
  }
}

// A prime, so that rows of a tensor differ.
const SPREAD_LENGTH = 65_521;

/** Inputs spread over -1 to 1. */
function spreadInputs({ inputs }: Recorded): ReadonlyMap<string, Float32Array> {
  const block = new Float32Array(SPREAD_LENGTH).map((_, index) => Math.sin(index * 12.9898 + index * index * 0.37));
  const spread = ({ shape }: Tensor) => {
    const values = new Float32Array(shape.reduce((product, side) => product * side, 1));
    for (let at = 0; at < values.length; at += block.length) {
      values.set(block.subarray(0, values.length - at), at);
    }
    return values;
  };
  return new Map([...inputs].map(([name, tensor]) => [name, spread(tensor)]));
}

async function answerOf(plan: Plan, inputs: ReadonlyMap<string, Float32Array>): Promise<Float32Array> {
  for (const [name, values] of inputs) plan.write(name, values);
  plan.run();
  return (await plan.read("out")) as Float32Array;
}

// Loops: there are tens of millions of values in a decoder's largest tensors.
function isClose(answer: Float32Array, expected: Float32Array, tolerance: number): boolean {
  let largest = 0;
  for (let i = 0; i < expected.length; i++) largest = Math.max(largest, Math.abs(expected[i]!));
  for (let i = 0; i < answer.length; i++) {
    if (!(Math.abs(answer[i]! - expected[i]!) <= tolerance * largest)) return false;
  }
  return true;
}

/** Milliseconds of one of so many runs. */
async function time(gpu: Gpu, plan: Plan, runs: number): Promise<number> {
  const begun = performance.now();
  gpu.submit(plan.label, (encoder) => {
    for (let run = 0; run < runs; run++) plan.encode(encoder);
  });
  await gpu.idle();
  return (performance.now() - begun) / runs;
}
