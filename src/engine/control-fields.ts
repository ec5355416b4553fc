/** The fields of a request that name networks beside the denoiser, each with a picture. */

import { z } from "zod";
import { PREPROCESSOR_NAMES } from "../diffusion/preprocessors.ts";

export const CONTROL_LIMITS = {
  /** Networks of a request; each has its own memory, and its part of every step. */
  networks: 4,
  /** Characters of a name, folders included. */
  nameCharacters: 1024,
  /** Multiples of the trained strength. */
  scale: 10,
  /** Kinds of control in a union. */
  modes: 64,
} as const;

/** Kinds of the pictures of the published union ControlNets for SDXL, in the order of their numbers. */
export const UNION_MODES = ["pose", "depth", "scribble", "canny", "normal", "segment", "tile", "repaint"] as const;

/** @param picture the schema of a picture */
export function controlFields<T extends z.ZodType>(picture: T) {
  const common = z.object({
    /** A file or folder of the server's folder of networks, without its ending. `GET /controls` lists them. */
    name: z.string().min(1).max(CONTROL_LIMITS.nameCharacters),
    image: picture,
    scale: z.number().min(0).max(CONTROL_LIMITS.scale).default(1),
    /** The part of the steps for which it counts. */
    start: z.number().min(0).max(1).default(0),
    end: z.number().min(0).max(1).default(1),
  });
  const isOrdered = ({ start, end }: { start: number; end: number }) => start < end;
  const order = { path: ["end"], error: "must be above start" };
  const control = common
    .extend({
      /** The kind of the picture, for a network that is a union of several. */
      mode: z
        .union(
          [
            z.enum(UNION_MODES),
            z
              .int()
              .min(0)
              .max(CONTROL_LIMITS.modes - 1),
          ],
          {
            error: `must be one of ${UNION_MODES.join(", ")}, or the number of a kind`,
          },
        )
        .optional(),
      guess_mode: z.boolean().default(false),
      /** Makes of any picture what the network reads. `GET /preprocessors` lists them. */
      preprocess: z.enum(PREPROCESSOR_NAMES).optional(),
    })
    .refine(isOrdered, order);
  return {
    control: z
      .array(control)
      .max(CONTROL_LIMITS.networks)
      .default([])
      .describe(
        'ControlNets and T2I-Adapters of the server with their pictures, as `[{"name": "canny", "image": "data:…", "scale": 0.8}]`; `start` and `end` (0 to 1) say for which steps, `mode` which kind of picture a union gets, `guess_mode` that the prompt does not help, `preprocess` how to make that picture of any other',
      ),
    ip_adapter: z
      .array(common.refine(isOrdered, order))
      .max(CONTROL_LIMITS.networks)
      .default([])
      .describe(
        'IP-Adapters of the server with pictures whose content or style is taken, as `[{"name": "plus", "image": "data:…", "scale": 0.6}]`',
      ),
  };
}
