/** The variants of group normalisation. Among equal costs the rule takes the one that stands first. */

import type { KernelVariant } from "../variant.ts";
import { apart } from "./apart.ts";
import { joined } from "./joined.ts";
import type { GroupNormApply } from "./operation.ts";

export const GROUP_NORMS = [joined, apart] as const satisfies readonly KernelVariant<GroupNormApply>[];
