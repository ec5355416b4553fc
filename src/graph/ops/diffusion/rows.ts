import { channelsOf, quads, rowsOf, type Tensor } from "../../tensor.ts";

/** vec4s of an image's row of a scheduler's table, as `shaders/scheduler_step.wgsl` lists them. */
export const ROW_QUADS = 6;

/** Quads of each image. */
export function imageQuads(latents: Tensor): number {
  return (rowsOf(latents) / latents.shape[0]!) * quads(channelsOf(latents));
}
