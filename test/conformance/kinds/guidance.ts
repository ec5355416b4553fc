/** Rescaled guidance by itself: the kernel on a guided prediction and the positive one that the case gives. */

import { guidanceRescale } from "../../../src/graph/ops/diffusion/guidance-rescale.ts";
import { ROW_QUADS } from "../../../src/graph/ops/diffusion/rows.ts";
import { compile } from "../../../src/graph/plan.ts";
import { Recorder } from "../../../src/graph/recorder.ts";
import type { Kind } from "../kind.ts";
import { channelsFirst, channelsLast } from "../tensors.ts";

/** A guidance scale with which a negative prediction is found that gives the guided one. */
const SCALE = 2;

export const guidanceKind: Kind = {
  name: "guidance",
  recognises: ({ expected }) => expected.has("noise_pred_text") && expected.has("noise_cfg"),
  async run(run) {
    const guided = run.input("noise_cfg");
    const positive = run.input("noise_pred_text");
    // guided = negative + s·(positive − negative)
    const negative = guided.values.map((value, i) => (value - SCALE * positive.values[i]!) / (1 - SCALE));
    const [images, channels, height, width] = guided.shape as [number, number, number, number];
    const g = new Recorder();
    const prediction = g.input("prediction", [2 * images, height, width, channels]);
    const rows = g.input("rows", [images * ROW_QUADS, 4], { element: "f32" });
    g.output("guided", guidanceRescale(g, prediction, rows, "guidance"));
    const storage = run.bench.activations;
    const plan = await compile(run.bench.gpu, g, {
      label: "guidance",
      storage,
      parameters: { storage, get: () => [] },
    });
    const nhwc = [negative, positive.values].flatMap((values) => [
      ...channelsLast({ shape: guided.shape, values }).values,
    ]);
    plan.write("prediction", Float32Array.from(nhwc));
    for (const name of run.folder.expected.keys()) {
      const share = /^rescaled\.(.*)$/.exec(name)?.[1];
      if (share === undefined) continue;
      const row = new Float32Array(ROW_QUADS * 4);
      row[1] = SCALE;
      row[22] = Number(share);
      plan.write("rows", Float32Array.from(Array.from({ length: images }, () => [...row]).flat()));
      plan.run();
      const actual = channelsFirst([images, height, width, channels], await plan.read("guided"));
      run.compare(name, actual, run.tolerances.network, { group: "rescaled" });
    }
    plan.destroy();
  },
};
