/** A LoRA as a request asks for it. */

import { z } from "zod";
import { BLOCK_LIST_LENGTHS } from "../weights/lora-scales.ts";

interface LoraLimits {
  readonly loraNameCharacters: number;
  readonly loraScale: number;
  readonly loraLayers: number;
}

/** Lengths that a list of blocks may have, in words. */
export const BLOCK_LISTS = `${BLOCK_LIST_LENGTHS.slice(0, -1).join(", ")} or ${BLOCK_LIST_LENGTHS.at(-1)} numbers`;

/** The schema of a LoRA, within these limits. */
export function loraSchema(limits: LoraLimits) {
  const loraScale = z.number().min(-limits.loraScale).max(limits.loraScale);
  const sideScales = z.union(
    [
      loraScale,
      z.record(
        z.string().regex(/^block_\d{1,2}$/, "must be a block, as `block_0`"),
        z.union([loraScale, z.array(loraScale).max(limits.loraLayers)]),
      ),
    ],
    { error: "must be a number, or numbers by block: block_0, block_1" },
  );

  return z
    .object({
      /** A file of the server's LoRA folder, without its ending: `ink`, `styles/ink`. `GET /loras` lists them. */
      name: z.string().min(1).max(limits.loraNameCharacters).optional(),
      /** A file on this machine (a program's own request), or fal's word for `name` (a remote one). */
      path: z.string().min(1).max(4096).optional(),
      scale: loraScale.default(1),
      /** For one component instead of `scale`. */
      unet: loraScale.optional(),
      text_encoder: loraScale.optional(),
      text_encoder_2: loraScale.optional(),
      /** Multiply the UNet's scale: diffusers' form by names of blocks, or the web UI's list. */
      blocks: z
        .union([
          z.strictObject({ down: sideScales.optional(), mid: loraScale.optional(), up: sideScales.optional() }),
          z.array(loraScale).refine(({ length }) => BLOCK_LIST_LENGTHS.includes(length), {
            error: `must have ${BLOCK_LISTS}`,
          }),
        ])
        .optional(),
    })
    .refine((value) => (value.name === undefined) !== (value.path === undefined), {
      error: "must have either a name or a path",
    });
}
