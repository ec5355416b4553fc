/** Draws of `torch.Generator("cpu")`: fresh generators, one generator over several draws, one for each image. */

import { type CpuGenerator, cpuGenerator } from "../../../src/diffusion/noise.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { slice } from "../tensors.ts";

export const noiseKind: Kind = {
  name: "noise",
  recognises: ({ facts, expected, components }) =>
    typeof facts.seeds === "object" &&
    components.length === 0 &&
    [...expected.keys()].some((name) => /\.(?:randn|rand|randint)(?:\.|$)/.test(name)),
  async run(run) {
    const seeds = run.folder.facts.seeds as Record<string, string>;
    for (const [id, seed] of Object.entries(seeds)) {
      await run.group(id, async () => {
        fresh(run, id, BigInt(seed));
        sequence(run, id, BigInt(seed));
      });
    }
    await run.group("batch", async () => batches(run, Object.values(seeds)));
  },
};

/** `<seed>.randn.4x8x8`, `<seed>.rand.100`, `<seed>.randint.<low>_<high>` */
const FRESH = /^(randn|rand|randint)\.(.+)$/;

function fresh(run: CaseRun, id: string, seed: bigint): void {
  for (const [name, tensor] of run.folder.expected) {
    const match = name.startsWith(`${id}.`) ? FRESH.exec(name.slice(id.length + 1)) : null;
    if (!match) continue;
    const [low, high] = match[2]!.split("_").map(Number);
    draw(run, id, name, cpuGenerator(seed), match[1]!, tensor.values.length, [low ?? 0, high ?? 0]);
  }
}

/** `<seed>.seq.<number>` or `<seed>.seq.<number>_<draw>`: all on one generator, by number. Integers are of [0, 100). */
const SEQUENCE = /^seq\.(\d+)(?:_(randn|rand|randint))?$/;

function sequence(run: CaseRun, id: string, seed: bigint): void {
  const generator = cpuGenerator(seed);
  const draws = [...run.folder.expected]
    .map(([name, tensor]) => ({
      name,
      tensor,
      match: name.startsWith(`${id}.`) ? SEQUENCE.exec(name.slice(id.length + 1)) : null,
    }))
    .filter(({ match }) => match !== null)
    .sort((a, b) => Number(a.match![1]) - Number(b.match![1]));
  for (const { name, tensor, match } of draws) {
    draw(run, id, name, generator, match![2] ?? "randn", tensor.values.length, [0, 100]);
  }
}

function draw(
  run: CaseRun,
  group: string,
  name: string,
  generator: CpuGenerator,
  kind: string,
  count: number,
  [low, high]: readonly [number, number],
): void {
  if (kind === "randint") run.compare(name, generator.randint(low, high, count), run.tolerances.exact, { group });
  else
    run.compare(name, kind === "rand" ? generator.rand(count) : generator.randn(count), run.tolerances.noise, {
      group,
    });
}

/**
 * `batch_one.randn`: one generator for all images; `batch_list.randn`: one for each. Their seeds are not told, and are
 * looked for among the case's own and small numbers: a wrong one agrees in nothing.
 */
function batches(run: CaseRun, seeds: readonly string[]): void {
  const candidates = [
    ...new Set([...seeds.map((seed) => BigInt(seed)), ...Array.from({ length: 100 }, (_, i) => BigInt(i))]),
  ];
  const seedOf = (values: Float64Array) =>
    candidates.find(
      (seed) => Math.abs(cpuGenerator(seed).randn(values.length)[0]! - values[0]!) < run.tolerances.noise.bound,
    );
  const drawAll = (values: Float64Array): Float32Array => {
    const seed = seedOf(values);
    return seed === undefined ? new Float32Array(0) : cpuGenerator(seed).randn(values.length);
  };
  for (const [name, tensor] of run.folder.expected) {
    if (name === "batch_one.randn") run.compare(name, drawAll(tensor.values), run.tolerances.noise);
    if (name === "batch_list.randn") {
      const images = Array.from({ length: tensor.shape[0]! }, (_, image) => [...drawAll(slice(tensor, image).values)]);
      run.compare(name, images.flat(), run.tolerances.noise);
    }
  }
}
