/** The variants of attention. Of those that cost the same, the rule takes the one that stands first. */

import { matrix } from "./matrix.ts";
import { subgroup } from "./subgroup.ts";
import { textured } from "./textured.ts";
import { tiled } from "./tiled.ts";

export const ATTENTIONS = [matrix, textured, subgroup, tiled] as const;
