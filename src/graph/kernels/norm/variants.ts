/** The variants of group normalisation. Of those that cost the same, the rule takes the one that stands first. */

import { apart } from "./apart.ts";
import { joined } from "./joined.ts";

export const GROUP_NORMS = [joined, apart] as const;
