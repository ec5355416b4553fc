/** The variants of attention. Among equal costs the rule takes the one that stands first. */

import type { KernelVariant } from "../variant.ts";
import { matrix } from "./matrix.ts";
import type { Attention } from "./operation.ts";
import { subgroup } from "./subgroup.ts";
import { textured } from "./textured.ts";
import { tiled } from "./tiled.ts";

export const ATTENTIONS = [matrix, textured, subgroup, tiled] as const satisfies readonly KernelVariant<Attention>[];
