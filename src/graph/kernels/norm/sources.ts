import type { Binding } from "../../dispatch.ts";
import { channelsOf, quads, type Tensor } from "../../tensor.ts";

/** One or two tensors side by side along the channels, as the group norm kernels read them. */
export function sources(
  first: Tensor,
  second: Tensor | undefined,
): { bindings: Binding[]; quads: number; firstQuads: number } {
  const firstQuads = quads(channelsOf(first));
  return {
    bindings: [{ tensor: first }, second ? { tensor: second } : "blank"],
    quads: firstQuads + (second ? quads(channelsOf(second)) : 0),
    firstQuads,
  };
}
