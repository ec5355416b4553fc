/**
 * Preprocessors: from any picture to the kind that a ControlNet reads, by arithmetic alone, as kernels on the device. Those
 * that take a network (depth, normals, poses) are for other programs: their pictures are given as they are.
 */

import { edgeGradient, edgeLinked, edgeThin } from "../graph/ops/picture/edges.ts";
import { gaussianBlur } from "../graph/ops/picture/gaussian-blur.ts";
import type { Plan } from "../graph/plan.ts";
import { Recorder } from "../graph/recorder.ts";
import type { Tensor } from "../graph/tensor.ts";
import type { PlanSpec } from "../memory/model-memory.ts";
import { inTurns } from "../platform/turns.ts";
import type { ControlPicture } from "./control.ts";
import type { PreprocessorName } from "./preprocessors.ts";

/** `[1, h, w, 3]` in [0, 1] → its picture: of three channels, or of one that all colours have; clamped when it is read. */
type Preprocessor = (g: Recorder, picture: Tensor) => Tensor;

/** OpenCV's usual thresholds, 100 and 200 of 255. */
const CANNY = { low: 100 / 255, high: 200 / 255 };
/** Steps in brightness of so much are lines of a sketch. */
const SKETCH = { low: 0.3, high: 0.3 };

const RECORDS: Readonly<Record<PreprocessorName, Preprocessor>> = {
  canny(g, picture) {
    const thin = edgeThin(g, edgeGradient(g, picture, "gradient"), CANNY, "thin");
    return g.affine(edgeLinked(g, thin, "linked"), "strong", { scale: 2, shift: -1 });
  },
  soft_edge: (g, picture) => onlyFirst(g, edgeGradient(g, gaussianBlur(g, picture, 1, "blur"), "gradient")),
  lineart(g, picture) {
    const [fine, coarse] = [0.7, 3].map((sigma) => gaussianBlur(g, picture, sigma, `blur ${sigma}`));
    const gain = 6;
    return g.add(g.affine(coarse!, "coarse", { scale: gain }), g.affine(fine!, "fine", { scale: -gain }), "lines");
  },
  scribble(g, picture) {
    const gradient = edgeGradient(g, gaussianBlur(g, picture, 1.5, "blur"), "gradient");
    const thick = gaussianBlur(g, edgeThin(g, gradient, SKETCH, "thin"), 1.5, "thick");
    return g.affine(thick, "lines", { scale: 16, shift: -1.5 });
  },
  tile: (g, picture) => gaussianBlur(g, picture, 2, "blur"),
};

/** The first of three channels alone: the magnitude of a gradient. */
function onlyFirst(g: Recorder, gradient: Tensor): Tensor {
  const [n, h, w] = g.picture(gradient, "first");
  // The same quads: channels behind the first are not looked at.
  return { ...gradient, shape: [n, h, w, 1] };
}

/** The plan of a preprocessor for pictures of this size, in pixels. */
export function preprocessorSpec(
  name: PreprocessorName,
  { width, height }: Pick<ControlPicture, "width" | "height">,
): PlanSpec {
  return {
    part: "preprocessor",
    shape: { name, width, height },
    label: `${name} ${height}×${width}`,
    components: [],
    upcast: true,
    reads: ["made"],
    record: () => {
      const g = new Recorder();
      const made = RECORDS[name](g, g.input("picture", [1, height, width, 3]));
      g.output("made", made);
      return g;
    },
  };
}

/** Runs a plan of `preprocessorSpec`. */
export async function preprocessWith(
  plan: Plan,
  name: PreprocessorName,
  picture: ControlPicture,
): Promise<ControlPicture> {
  await plan.writeInTurns("picture", picture.values);
  plan.run();
  const made = (await plan.read("made")) as Float32Array;
  const values = await inTurns(clamped(made, name, picture));
  return { ...picture, values, digest: `${name} ${picture.digest}` };
}

/** Shares of red, green and blue in brightness (ITU-R BT.601). */
const BRIGHTNESS = [0.299, 0.587, 0.114] as const;

/** RGB in [0, 1]; lines are grey. */
function* clamped(
  made: Float32Array,
  name: PreprocessorName,
  { width, height }: Pick<ControlPicture, "width" | "height">,
): Generator<void, Float32Array, void> {
  const values = new Float32Array(width * height * 3);
  const channels = made.length / width / height;
  const clamp = (value: number) => Math.min(Math.max(value, 0), 1);
  for (let pixel = 0; pixel < width * height; pixel++) {
    const at = pixel * channels;
    const grey = channels === 1 ? made[at]! : BRIGHTNESS.reduce((sum, share, c) => sum + share * made[at + c]!, 0);
    for (let c = 0; c < 3; c++) values[pixel * 3 + c] = clamp(name === "tile" ? made[at + c]! : grey);
    if (pixel % 65_536 === 65_535) yield;
  }
  return values;
}
