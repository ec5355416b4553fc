/**
 * Networks beside the denoiser that a request brings: ControlNets and adapters, each with a picture, a scale and the part of
 * the steps for which it counts. Which there are is a family's business.
 */

import type { ComponentId, ComponentSpec } from "../memory/component.ts";
import type { ModelFiles } from "../platform/model-files.ts";
import type { PreprocessorName } from "./preprocessors.ts";

/** A network that a request names. A family opens it, and records it in its steps. */
export interface ControlNetwork {
  /** Names it among all that are opened: `controlnet canny`. */
  readonly id: ComponentId;
  /** In words: `a ControlNet`. */
  readonly title: string;
  /** Weights that are to be on the device for it, beside the model's. */
  readonly components: readonly ComponentSpec[];
  /** True if it reads a picture of any size, and not one of the size of the picture to draw (IP-Adapter). */
  readonly readsAnySize?: boolean;
  /** Kinds of control that a union of several has; undefined if it has one. */
  readonly modes?: number;
}

/** A folder of a CLIP image encoder, `id` among all components. */
export interface ImageEncoderFolder {
  readonly id: ComponentId;
  readonly source: ModelFiles | string;
}

/** A picture as numbers: RGB in [0, 1], `[height, width, 3]`. */
export interface ControlPicture {
  readonly width: number;
  readonly height: number;
  readonly values: Float32Array;
  /** Equal for equal pictures, and for no others. */
  readonly digest: string;
}

/** A network with a picture. */
export interface ControlUse {
  /** The request's field that it comes from: `control.0`. */
  readonly field: string;
  readonly network: ControlNetwork;
  readonly picture: ControlPicture;
  /** Brings the picture into the form that the network reads; left out: it is in that form. */
  readonly preprocess?: PreprocessorName;
  /** 1: as trained. A list: one for each attention that reads the picture (IP-Adapter), in the order of the file. */
  readonly scale: number | readonly number[];
  /** The part of the steps for which it counts, each 0..1. */
  readonly start: number;
  readonly end: number;
  /** The kind of the picture, where the network is a union of several. */
  readonly mode?: number;
  /** A ControlNet guesses without the prompt's help (diffusers' `guess_mode`). */
  readonly isGuess?: boolean;
}

/**
 * True if it counts in this step: steps of which no part lies before `start` or behind `end`.
 * (diffusers' `controlnet_keep`: off where i/n < start or (i + 1)/n > end)
 */
export function isActive({ start, end }: Pick<ControlUse, "start" | "end">, index: number, steps: number): boolean {
  return !(index / steps < start || (index + 1) / steps > end);
}
