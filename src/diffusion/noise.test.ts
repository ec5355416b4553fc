import { describe, expect, test } from "vitest";
import { readFixtureJson, readFixtureTensors } from "../../test/fixtures/read-fixture.ts";
import { cpuGenerator } from "./noise.ts";

const { seeds } = readFixtureJson<{ seeds: Record<string, string> }>("rng/case.json");
const expected = readFixtureTensors("rng/expected.safetensors");

/** Limit of the issue for noise; integers must be exact. */
const LIMIT = 5e-6;

function largestDifference(actual: ArrayLike<number>, name: string): number {
  const { values } = expected.get(name)!;
  expect(actual.length, name).toBe(values.length);
  return values.reduce((most, value, i) => Math.max(most, Math.abs(value - actual[i]!)), 0);
}

const elements = (shape: string): number => shape.split("x").reduce((count, side) => count * Number(side), 1);

describe.each(Object.entries(seeds))("torch.Generator('cpu'), %s = %s", (id, seedText) => {
  const seed = BigInt(seedText);
  const names = [...expected.keys()].filter((name) => name.startsWith(`${id}.`));

  test("every draw of a fresh generator", () => {
    const fresh = names.filter((name) => !name.includes(".seq."));
    expect(fresh.length).toBeGreaterThanOrEqual(10);
    for (const name of fresh) {
      const [, kind, argument] = /^s\d+\.(\w+)\.(.+)$/.exec(name)!;
      const generator = cpuGenerator(seed);
      if (kind === "randint") {
        const [low, high] = argument!.split("_").map(Number);
        const count = expected.get(name)!.values.length;
        expect(largestDifference(generator.randint(low!, high!, count), name), name).toBe(0);
      } else {
        const draw = kind === "randn" ? generator.randn : generator.rand;
        expect(largestDifference(draw(elements(argument!)), name), name).toBeLessThan(LIMIT);
      }
    }
  });

  test("a sequence of draws on one generator", () => {
    const generator = cpuGenerator(seed);
    const sequence = names.filter((name) => name.includes(".seq."));
    expect(sequence).toHaveLength(10);
    for (const name of sequence) {
      const count = expected.get(name)!.values.length;
      if (name.endsWith("_randint")) {
        expect(largestDifference(generator.randint(0, 100, count), name), name).toBe(0);
      } else {
        const draw = name.endsWith("_rand") ? generator.rand : generator.randn;
        expect(largestDifference(draw(count), name), name).toBeLessThan(LIMIT);
      }
    }
  });
});

test("a number and a bigint are the same seed", () => {
  expect(cpuGenerator(1234).randn(20)).toEqual(cpuGenerator(1234n).randn(20));
});

test("seeds that are no integers and ranges that are empty are refused", () => {
  expect(() => cpuGenerator(0.5)).toThrow(RangeError);
  expect(() => cpuGenerator(2 ** 60)).toThrow(RangeError);
  expect(() => cpuGenerator(0).randint(3, 3, 1)).toThrow(RangeError);
});
