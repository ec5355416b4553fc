/**
 * The variants of convolutions, and of linear layers, which are convolutions too. Of those that cost the same, the rule
 * takes the one that stands first.
 */

import { matrices } from "./matrix.ts";
import { narrow } from "./narrow.ts";
import { subgroup } from "./subgroup.ts";
import { subpixel } from "./subpixel.ts";
import { tiled } from "./tiled.ts";
import { winograd } from "./winograd.ts";

export const CONVOLUTIONS = [...matrices, narrow, subpixel, winograd, subgroup, tiled] as const;
