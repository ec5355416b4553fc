/** Preprocessors against references in float64. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { normals } from "../../test/generated-weights.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { compile } from "../graph/plan.ts";
import { preprocessorSpec, preprocessWith } from "./preprocess.ts";
import type { PreprocessorName } from "./preprocessors.ts";

let gpu: Gpu;
beforeAll(async () => {
  gpu = await openGpu();
});
afterAll(() => gpu.close());

const [WIDTH, HEIGHT] = [45, 38];

/** Channels of a picture, row after row; beyond its edge it goes on as it ends. */
class Plane {
  readonly values: Float64Array;

  constructor(values: ArrayLike<number>) {
    this.values = Float64Array.from(values);
  }

  at(row: number, column: number): number {
    const clamp = (value: number, most: number) => Math.min(Math.max(value, 0), most - 1);
    return this.values[clamp(row, HEIGHT) * WIDTH + clamp(column, WIDTH)]!;
  }

  map(make: (row: number, column: number) => number): Plane {
    return new Plane(Array.from({ length: WIDTH * HEIGHT }, (_, at) => make(Math.floor(at / WIDTH), at % WIDTH)));
  }

  blurred(sigma: number): Plane {
    const reach = Math.ceil(3 * sigma);
    const pass = (plane: Plane, isVertical: boolean) =>
      plane.map((row, column) => {
        let [sum, total] = [0, 0];
        for (let d = -reach; d <= reach; d++) {
          const weight = Math.exp(-(d * d) / (2 * sigma ** 2));
          sum += weight * (isVertical ? plane.at(row + d, column) : plane.at(row, column + d));
          total += weight;
        }
        return sum / total;
      });
    return pass(pass(this, false), true);
  }
}

/** Blobs and a box, so that there are edges of all directions and strengths. */
function scene(): Float32Array {
  const noise = normals(18, 5);
  return Float32Array.from({ length: WIDTH * HEIGHT * 3 }, (_, at) => {
    const [pixel, colour] = [Math.floor(at / 3), at % 3];
    const [row, column] = [Math.floor(pixel / WIDTH), pixel % WIDTH];
    let value = row > 8 && row < 20 && column > 10 && column < 30 ? 0.7 : 0.2;
    for (let blob = 0; blob < 6; blob++) {
      const [y, x] = [6 + blob * 5, 20 + 14 * Math.tanh(noise[blob * 3]!)];
      value += 0.3 * noise[blob * 3 + colour]! * Math.exp(-((row - y) ** 2 + (column - x) ** 2) / 18);
    }
    return Math.min(Math.max(value, 0), 1);
  });
}

const picture = { width: WIDTH, height: HEIGHT, values: scene(), digest: "scene" };
const brightness = new Plane(
  Array.from({ length: WIDTH * HEIGHT }, (_, at) => {
    const [r, g, b] = picture.values.subarray(at * 3, at * 3 + 3);
    return 0.299 * r! + 0.587 * g! + 0.114 * b!;
  }),
);

function gradientOf(plane: Plane) {
  const sum = (row: number, column: number, isVertical: boolean) =>
    [-1, 0, 1].reduce((total, d) => {
      const weight = 2 - Math.abs(d);
      const [one, other] = isVertical
        ? [plane.at(row + 1, column + d), plane.at(row - 1, column + d)]
        : [plane.at(row + d, column + 1), plane.at(row + d, column - 1)];
      return total + weight * (one - other);
    }, 0);
  const gx = plane.map((row, column) => sum(row, column, false));
  const gy = plane.map((row, column) => sum(row, column, true));
  return { gx, gy, magnitude: gx.map((row, column) => Math.abs(gx.at(row, column)) + Math.abs(gy.at(row, column))) };
}

/** 1 above `high`, ½ above `low`, of the ridges of the gradient. */
function thin({ gx, gy, magnitude }: ReturnType<typeof gradientOf>, low: number, high: number): Plane {
  const inside = (row: number, column: number) =>
    row < 0 || column < 0 || row >= HEIGHT || column >= WIDTH ? 0 : magnitude.at(row, column);
  return magnitude.map((row, column) => {
    const [x, y, here] = [gx.at(row, column), gy.at(row, column), magnitude.at(row, column)];
    const angle = Math.abs(Math.atan2(Math.abs(y), Math.abs(x)));
    const [down, across] = angle > (3 * Math.PI) / 8 ? [1, 0] : angle < Math.PI / 8 ? [0, 1] : [x * y < 0 ? -1 : 1, 1];
    const isRidge = here > inside(row - down!, column - across!) && here >= inside(row + down!, column + across!);
    return isRidge && here > low ? (here > high ? 1 : 0.5) : 0;
  });
}

/** Weak edges that strong ones lead to are strong; the others are none. */
function linked(edges: Plane): Plane {
  const values = edges.values.slice();
  const open = [...values.keys()].filter((at) => values[at] === 1);
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    const [row, column] = [Math.floor(at / WIDTH), at % WIDTH];
    for (let near = 0; near < 9; near++) {
      const [y, x] = [row + Math.floor(near / 3) - 1, column + (near % 3) - 1];
      const next = y * WIDTH + x;
      if (y < 0 || x < 0 || y >= HEIGHT || x >= WIDTH || values[next] !== 0.5) continue;
      values[next] = 1;
      open.push(next);
    }
  }
  return new Plane(values.map((value) => (value === 1 ? 1 : 0)));
}

const grey = (plane: Plane) => [...plane.values].flatMap((value) => new Array(3).fill(Math.min(Math.max(value, 0), 1)));

const REFERENCES: Record<PreprocessorName, () => number[]> = {
  canny: () => grey(linked(thin(gradientOf(brightness), 100 / 255, 200 / 255))),
  soft_edge: () => grey(gradientOf(brightness.blurred(1)).magnitude),
  lineart() {
    const [fine, coarse] = [brightness.blurred(0.7), brightness.blurred(3)];
    return grey(fine.map((row, column) => 6 * (coarse.at(row, column) - fine.at(row, column))));
  },
  scribble() {
    const thick = thin(gradientOf(brightness.blurred(1.5)), 0.3, 0.3).blurred(1.5);
    return grey(thick.map((row, column) => 16 * thick.at(row, column) - 1.5));
  },
  tile() {
    const planes = [0, 1, 2].map((colour) => new Plane(picture.values.filter((_, at) => at % 3 === colour)).blurred(2));
    return Array.from(picture.values, (_, at) => planes[at % 3]!.values[Math.floor(at / 3)]!);
  },
};

test.each(Object.keys(REFERENCES) as PreprocessorName[])("%s", async (name) => {
  const spec = preprocessorSpec(name, picture);
  const parameters = { storage: "f32", get: () => [] } as const;
  const plan = await compile(gpu, spec.record(), { label: name, storage: "f32", parameters, reads: spec.reads });
  const { values } = await preprocessWith(plan, name, picture);
  plan.destroy();
  const wanted = REFERENCES[name]();
  const off = wanted.filter((value, at) => Math.abs(value - values[at]!) > 1e-4).length;
  // Where two neighbours on a ridge are equal, rounding decides which of them it is.
  expect(off).toBeLessThanOrEqual(name === "canny" || name === "scribble" ? wanted.length / 200 : 0);
  const lit = wanted.filter((value) => value > 0.5).length / wanted.length;
  expect(lit).toBeGreaterThan(0.005);
});
