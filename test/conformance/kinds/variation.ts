/** Start noises of two seeds mixed, and noise of another size pasted in. */

import type { LatentSize } from "../../../src/diffusion/latents.ts";
import { mixNoise, pasteNoise } from "../../../src/diffusion/variation.ts";
import type { Kind } from "../kind.ts";
import type { Tensor } from "../tensors.ts";

function sizeOf({ shape }: Tensor): LatentSize {
  const [channels, height, width] = shape as [number, number, number];
  return { channels, height, width };
}

export const variationKind: Kind = {
  name: "variation",
  recognises: ({ expected }) => [...expected.keys()].some((name) => name.endsWith(".subnoise")),
  async run(run) {
    const floats = ({ values }: Tensor) => Float32Array.from(values);
    for (const name of run.folder.expected.keys()) {
      const [, group, share] = /^(.*)\.mix([\d.]+)$/.exec(name) ?? [];
      if (share !== undefined) {
        const noise = run.optional(`${group}.noise`) ?? run.input("sd.noise");
        const mixed = mixNoise(floats(noise), floats(run.input(`${group}.subnoise`)), Number(share), sizeOf(noise));
        run.compare(name, mixed, run.tolerances.network, { group });
      }
      if (!name.endsWith(".result")) continue;
      const resize = name.slice(0, -".result".length);
      const [base, small] = [run.input(`${resize}.base`), run.input(`${resize}.noise`)];
      run.compare(name, pasteNoise(floats(base), sizeOf(base), floats(small), sizeOf(small)), run.tolerances.exact);
    }
  },
};
