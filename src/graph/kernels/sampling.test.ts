/** Noise, the model's input and the scheduler's step against their definitions, on every adapter. */

import { afterAll, describe, expect, test } from "vitest";
import { guidanceRescale } from "../ops/diffusion/guidance-rescale.ts";
import { maskBlend } from "../ops/diffusion/mask-blend.ts";
import { modelInput } from "../ops/diffusion/model-input.ts";
import { philoxNormals } from "../ops/diffusion/philox-normals.ts";
import { ROW_QUADS } from "../ops/diffusion/rows.ts";
import { schedulerStep as recordStep } from "../ops/diffusion/scheduler-step.ts";
import { Recorder } from "../recorder.ts";
import type { Storage } from "../tensor.ts";
import { expectClose } from "../testing/closeness.ts";
import { closeAll, openAdapters } from "../testing/devices.ts";
import { elementwise, rescaledGuidance, type SchedulerRow, schedulerStep } from "../testing/reference.ts";
import { run } from "../testing/run.ts";
import { normals, type Random, random, stored } from "../testing/values.ts";

const devices = await openAdapters();
afterAll(() => closeAll(devices));

const SLOTS = 5;

/** A row as `shaders/scheduler_step.wgsl` lays it out. */
function words(row: SchedulerRow): number[] {
  const history = Array.from({ length: SLOTS }, (_, k) => row.history[k] ?? 0);
  return [
    ...[row.inputScale, row.guidance, row.x0.sample, row.x0.model],
    ...[...row.next, row.noise],
    ...[...row.denoised, row.slot],
    ...[...row.keep, row.x0.clamp],
    ...[...history, row.sampleSlot, 0, 0],
  ];
}

function generatedRow(
  source: Random,
  of: { slot: number; sampleSlot?: number; clamp?: number; noise?: boolean; history?: number[] },
): SchedulerRow {
  const number = () => Math.fround(source.normal());
  const { clamp = 3.4e38, noise = true, history = [0, 1, 2, 3, 4] } = of;
  return {
    inputScale: number(),
    guidance: Math.fround(7.5 * source.uniform()),
    x0: { sample: number(), model: number(), clamp },
    next: [number(), number(), number()],
    noise: noise ? number() : 0,
    history: Array.from({ length: SLOTS }, (_, k) => (history.includes(k) ? number() : 0)),
    denoised: [number(), number(), number()],
    keep: [number(), number(), number()],
    slot: of.slot,
    sampleSlot: of.sampleSlot ?? -1,
  };
}

describe.each(devices)("$name", ({ gpu }) => {
  describe.each(["f32", "f16"] as Storage[])("%s", (storage) => {
    test.each([
      { branches: 1, shape: [1, 3, 5, 4] },
      { branches: 2, shape: [3, 5, 7, 4] },
      { branches: 2, shape: [2, 5, 3, 12] },
      { branches: 1, shape: [3, 4, 5, 6] }, // a last quad of two
    ])(
      "a step of $branches branches on latents [$shape], each image by a row of its own",
      async ({ branches, shape }) => {
        const source = random(41);
        const [images, h, w, c] = shape as [number, number, number, number];
        const size = h * w * c;
        const rows = [
          generatedRow(source, { slot: 3, sampleSlot: 1 }),
          generatedRow(source, { slot: -1, noise: false, history: [2] }),
          // A slot that both go to does not have the sample.
          generatedRow(source, { slot: 0, sampleSlot: 0, clamp: 1, history: [] }),
        ].slice(0, images);
        const latents = normals(source, images * size);
        const model = stored(normals(source, branches * images * size), storage);
        const noise = normals(source, images * size);
        const history = normals(source, SLOTS * images * size);

        const recorder = new Recorder();
        const state = recorder.state("latents", shape);
        recorder.output(
          "denoised",
          recordStep(
            recorder,
            {
              latents: state,
              model: recorder.input("model", [branches * images, h, w, c]),
              noise: recorder.input("noise", shape, { element: "f32" }),
              history: recorder.state("history", [SLOTS * images, h, w, c]),
              rows: recorder.input("rows", [images * ROW_QUADS, 4], { element: "f32" }),
            },
            "scheduler",
          ),
        );
        // A coefficient of 0 skips its tensor, even where that holds no number.
        const spoiled = (values: Float32Array, skip: (image: number, slot: number) => boolean) =>
          values.map((value, i) => (skip(Math.floor(i / size) % images, Math.floor(i / size / images)) ? NaN : value));
        const { outputs } = await run(gpu, {
          recorder,
          storage,
          inputs: {
            latents,
            model,
            noise: spoiled(noise, (image) => rows[image]!.noise === 0),
            history: spoiled(history, (image, slot) => rows[image]!.history[slot] === 0),
            rows: Float32Array.from(rows.flatMap(words)),
          },
          states: ["latents", "history"],
        });

        for (const [image, row] of rows.entries()) {
          const of = (values: ArrayLike<number>, index: number) =>
            (values as Float32Array).subarray(index * size, (index + 1) * size);
          const { next, denoised, kept } = schedulerStep(row, {
            latents: of(latents, image),
            model: of(model, image),
            positive: branches === 2 ? of(model, images + image) : undefined,
            noise: of(noise, image),
            history: Array.from({ length: SLOTS }, (_, slot) => of(history, slot * images + image)),
          });
          // States and predictions are f32 whatever the storage.
          expectClose(of(outputs.latents!, image), next, "f32");
          expectClose(of(outputs.denoised!, image), denoised, "f32");
          for (let slot = 0; slot < SLOTS; slot++) {
            const held = of(outputs.history!, slot * images + image);
            if (slot === row.slot) expectClose(held, kept, "f32");
            else if (slot === row.sampleSlot) expect(held).toEqual(of(latents, image));
            else if (row.history[slot] !== 0) expect(held).toEqual(of(history, slot * images + image));
          }
        }
      },
    );

    test.each([[[1, 3, 5, 4]], [[2, 7, 9, 6]], [[3, 20, 16, 8]], [[1, 1, 2, 1]]])(
      "guidance on %j gets back part of the deviation that it has changed",
      async (shape) => {
        const source = random(43);
        const [images, h, w, c] = shape as [number, number, number, number];
        const size = h * w * c;
        const prediction = stored(normals(source, 2 * images * size), storage);
        const guidance = Array.from({ length: images }, () => Math.fround(1 + 9 * source.uniform()));
        const rescale = [0.7, 1, 0.25].slice(0, images);
        const rows = new Float32Array(images * ROW_QUADS * 4);
        for (let image = 0; image < images; image++) {
          rows[image * ROW_QUADS * 4 + 1] = guidance[image]!;
          rows[image * ROW_QUADS * 4 + 22] = rescale[image]!;
        }
        const recorder = new Recorder();
        const input = recorder.input("prediction", [2 * images, h, w, c]);
        const table = recorder.input("rows", [images * ROW_QUADS, 4], { element: "f32" });
        recorder.output("guided", guidanceRescale(recorder, input, table, "rescale"));
        const { outputs } = await run(gpu, { recorder, storage, inputs: { prediction, rows } });
        for (let image = 0; image < images; image++) {
          const { values, bound } = rescaledGuidance(
            prediction.subarray(image * size, (image + 1) * size),
            prediction.subarray((images + image) * size, (images + image + 1) * size),
            guidance[image]!,
            rescale[image]!,
          );
          expectClose(outputs.guided!.subarray(image * size, (image + 1) * size), { values, bound }, storage);
        }
      },
    );

    test.each([[[2, 5, 3, 4]], [[3, 4, 7, 6]], [[1, 2, 3, 16]]])(
      "latents of %j outside a mask are the picture's, at each image's level",
      async (shape) => {
        const source = random(44);
        const [images, h, w, c] = shape as [number, number, number, number];
        const count = images * h * w * c;
        const [latents, original, noise] = [0, 1, 2].map(() => normals(source, count)) as [
          Float32Array,
          Float32Array,
          Float32Array,
        ];
        const mask = Float32Array.from({ length: images * h * w }, () => (source.uniform() < 0.5 ? 0 : 1));
        const known = Float32Array.from({ length: images * 4 }, () => Math.fround(source.normal()));
        const recorder = new Recorder();
        const f32 = { element: "f32" } as const;
        const operands = {
          latents: recorder.state("latents", shape),
          original: recorder.input("original", shape, f32),
          noise: recorder.input("noise", shape, f32),
          mask: recorder.input("mask", [images, h, w, 1], f32),
          known: recorder.input("known", [images, 4], f32),
        };
        recorder.output("blended", maskBlend(recorder, operands, "blend"));
        const inputs = { latents, original, noise, mask, known };
        const { outputs } = await run(gpu, { recorder, storage, inputs, states: ["latents"] });
        const at = (i: number) => Math.floor(i / (h * w * c)) * 4;
        const terms = (i: number) => [known[at(i)]! * original[i]!, known[at(i) + 1]! * noise[i]!] as const;
        const isDrawn = (i: number) => mask[Math.floor(i / c)] === 1;
        const values = Float64Array.from(latents, (value, i) => (isDrawn(i) ? value : terms(i)[0] + terms(i)[1]));
        const bound = values.map((_, i) =>
          isDrawn(i) ? 0 : (Math.abs(terms(i)[0]) + Math.abs(terms(i)[1])) * 2 ** -22,
        );
        expectClose(outputs.latents!, { values, bound }, "f32");
        expect(outputs.blended).toEqual(outputs.latents);
      },
    );

    test("the model's input: latents scaled by their image's row, once a branch", async () => {
      const source = random(42);
      const [images, h, w, c] = [3, 5, 7, 6];
      const latents = normals(source, images * h * w * c, { deviation: 10 });
      const scales = [0.5, 1, 0.06841];
      const rows = Float32Array.from({ length: images * ROW_QUADS * 4 }, (_, i) =>
        i % (ROW_QUADS * 4) === 0 ? scales[i / (ROW_QUADS * 4)]! : NaN,
      );
      const recorder = new Recorder();
      const state = recorder.state("latents", [images, h, w, c]);
      const table = recorder.input("rows", [images * ROW_QUADS, 4], { element: "f32" });
      const input = modelInput(recorder, state, table, 2, "input");
      recorder.output("y", input);
      expect(input.shape).toEqual([2 * images, h, w, c]);
      const { outputs } = await run(gpu, { recorder, storage, inputs: { latents, rows } });
      const twice = Float32Array.from([...latents, ...latents]);
      const scaled = twice.map((value, i) => value * Math.fround(scales[Math.floor(i / (h * w * c)) % images]!));
      // Products rounded to f32 once, as the kernel's are.
      const reference = elementwise(scaled, {});
      reference.values.forEach((value, i) => {
        reference.bound[i] = Math.abs(value) * 2 ** -23;
      });
      expectClose(outputs.y!, reference, storage);
    });
  });

  test("noise wants six words an image", () => {
    const recorder = new Recorder();
    const draws = recorder.input("draws", [11], { element: "u32" });
    expect(() => philoxNormals(recorder, draws, [2, 4, 4, 4], "noise")).toThrow(
      /noise: wants u32 \[12\], not u32 \[11\]/,
    );
  });
});
