/** A network beside a UNet, as the UNet's step records it and feeds it. */

import type { ControlNetwork, ControlUse } from "../../diffusion/control.ts";
import type { Encoders } from "../../diffusion/model.ts";
import type { Recorder } from "../../graph/recorder.ts";
import type { Tensor } from "../../graph/tensor.ts";
import type { UnetControl } from "../../models/unet.ts";
import type { TimeInputs } from "../../models/unet-time.ts";

/** Where a network stands in a step. */
export interface PartPlace {
  /** Begins the names of its inputs: `control 0`. */
  readonly name: string;
  /** Rows of the batch: slots × branches. */
  readonly rows: number;
  /** Pictures that it reads. */
  readonly pictures: number;
  /** f32 `[rows, columns]`, and the first of its columns. */
  readonly factors: Tensor;
  readonly firstColumn: number;
  /** The UNet's own inputs: `sample` is the latents alone, `[rows, h, w, channels]`. */
  readonly sample: Tensor;
  readonly text: Tensor;
  readonly time: TimeInputs;
  /** Rows of `timeProjections` → the vectors of this step, `[rows, …]`. */
  readonly atStep: (projected: Tensor) => Tensor;
}

/** Values of an input for one branch of guidance of one slot. */
export interface PartInput {
  /** The input's name without that of the part. */
  readonly name: string;
  /** By branch, the negative one first if there are two. */
  readonly values: readonly Float32Array[];
  /** True if it has a row for each row of timesteps, rather than for each row of the batch. */
  readonly isOfTime?: boolean;
}

/** The request's part of what `encode` needs. */
export interface PartRequest {
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  readonly branches: number;
}

export interface UnetPart extends ControlNetwork {
  /** Factors that it reads in each step. */
  readonly columns: number;
  record(g: Recorder, place: PartPlace): UnetControl;
  /** @throws PipelineError naming the field of a picture that does not fit */
  encode(uses: readonly ControlUse[], request: PartRequest, encoders: Encoders): Promise<readonly PartInput[]>;
  /** Its factors where it counts fully; `isGuess`: without the prompt's help. */
  factors(
    scale: ControlUse["scale"],
    branch: { readonly isNegative: boolean; readonly isGuess: boolean },
  ): Float32Array;
}

/** The same for all branches. */
export function forBranches(values: Float32Array, { branches }: PartRequest): readonly Float32Array[] {
  return new Array<Float32Array>(branches).fill(values);
}
