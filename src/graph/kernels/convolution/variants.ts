/**
 * The variants of convolutions, and of linear layers, which are convolutions too. Among equal costs the rule
 * takes the one that stands first.
 */

import type { KernelVariant } from "../variant.ts";
import { matrices } from "./matrix.ts";
import { narrow } from "./narrow.ts";
import type { Convolution } from "./operation.ts";
import { subgroup } from "./subgroup.ts";
import { subpixel } from "./subpixel.ts";
import { tiled } from "./tiled.ts";
import { winograd } from "./winograd.ts";

export const CONVOLUTIONS = [
  ...matrices,
  narrow,
  subpixel,
  winograd,
  subgroup,
  tiled,
] as const satisfies readonly KernelVariant<Convolution>[];
