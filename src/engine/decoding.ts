/** Pictures of requests are decoded one at a time: a large one takes 160 MiB. */

import pLimit from "p-limit";

export const decoding = pLimit(1);
