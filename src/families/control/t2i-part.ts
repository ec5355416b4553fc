/** T2I-Adapters beside a UNet. */

import type { ControlUse } from "../../diffusion/control.ts";
import type { Encoders } from "../../diffusion/model.ts";
import { checkFinite } from "../../diffusion/not-finite.ts";
import { PipelineError } from "../../diffusion/request.ts";
import { Recorder } from "../../graph/recorder.ts";
import type { Parameter } from "../../graph/tensor.ts";
import type { ComponentSpec } from "../../memory/component.ts";
import type { PlanSpec } from "../../memory/model-memory.ts";
import { featureChannels, halves, type T2iAdapterConfig, t2iAdapter, unshuffled } from "../../models/t2i-adapter.ts";
import type { UnetControl } from "../../models/unet.ts";
import type { Component } from "../../weights/model-directory.ts";
import { forBranches, type PartInput, type PartPlace, type PartRequest, type UnetPart } from "./part.ts";

/** Shares of red, green and blue in a grey picture (ITU-R BT.601, as PIL's mode "L" has them). */
const GREY = [0.299, 0.587, 0.114] as const;

export class T2iAdapterPart implements UnetPart {
  readonly id: string;
  readonly title = "a T2I-Adapter";
  readonly components: readonly ComponentSpec[];
  readonly columns = 1;
  readonly #config: T2iAdapterConfig;

  constructor(id: string, config: T2iAdapterConfig, files: Component) {
    this.id = id;
    this.#config = config;
    this.components = [{ id, parameters: adapterParameters(config), files }];
  }

  record(g: Recorder, { name, rows, sample, factors, firstColumn }: PartPlace): UnetControl {
    const [, height, width] = sample.shape as [number, number, number];
    const features = featureSizes(this.#config, { height, width }).map((size, level) => {
      const shape = [rows, size.height, size.width, size.channels];
      return { tensor: g.input(`${name} feature ${level}`, shape), factors, column: firstColumn };
    });
    return { features: [features] };
  }

  async encode(
    [{ picture }]: readonly [ControlUse],
    request: PartRequest,
    encoders: Encoders,
  ): Promise<readonly PartInput[]> {
    const { downscale_factor: factor, in_channels: channels } = this.#config;
    for (const field of ["width", "height"] as const) {
      if (request[field] % factor === 0) continue;
      throw new PipelineError(field, `must be a multiple of ${factor} with this T2I-Adapter, not ${request[field]}`);
    }
    const { width, height } = picture;
    const { features } = await encoders.picture(this.#spec(height, width), [picture.digest], async (plan) => {
      const values = channels === 3 ? picture.values : grey(picture.values);
      plan.write("picture", unshuffled(values, { height, width, channels }, factor));
      plan.run();
      const made: Float32Array[] = [];
      for (const level of featureChannels(this.#config).keys()) {
        const feature = (await plan.read(`feature ${level}`)) as Float32Array;
        await checkFinite(feature, "adapter", this.id);
        made.push(feature);
      }
      return { features: made, bytes: made.reduce((sum, { byteLength }) => sum + byteLength, 0) };
    });
    return features.map((values, level) => ({ name: `feature ${level}`, values: forBranches(values, request) }));
  }

  factors(scale: ControlUse["scale"]): Float32Array {
    return Float32Array.of(scale as number);
  }

  #spec(height: number, width: number): PlanSpec {
    return {
      part: "control picture",
      shape: { component: this.id, width, height },
      label: `${this.id} picture ${height}×${width}`,
      components: [this.id],
      record: () => recordAdapter(this.#config, height, width),
    };
  }
}

/** `height` and `width` in pixels. Outputs `feature 0`, `feature 1`, … */
export function recordAdapter(config: T2iAdapterConfig, height: number, width: number): Recorder {
  const g = new Recorder();
  const { downscale_factor: factor, in_channels: channels } = config;
  const picture = g.input("picture", [1, height / factor, width / factor, channels * factor ** 2]);
  for (const [level, feature] of t2iAdapter(g, config, picture).entries()) g.output(`feature ${level}`, feature);
  return g;
}

function adapterParameters(config: T2iAdapterConfig): Parameter[] {
  const side = config.downscale_factor * 2 ** config.channels.length;
  return [...recordAdapter(config, side, side).parameters.values()];
}

/** Sizes of the features beside latents of this size. */
function featureSizes(config: T2iAdapterConfig, latents: { readonly height: number; readonly width: number }) {
  const half = (side: number) => Math.ceil(side / 2);
  const isHalved = config.adapter_type === "full_adapter_xl";
  let size = isHalved ? { height: half(latents.height), width: half(latents.width) } : latents;
  return featureChannels(config).map((channels, level) => {
    if (halves(config, level)) size = { height: half(size.height), width: half(size.width) };
    return { ...size, channels };
  });
}

function grey(values: Float32Array): Float32Array {
  return Float32Array.from({ length: values.length / 3 }, (_, pixel) =>
    GREY.reduce((sum, share, colour) => sum + share * values[pixel * 3 + colour]!, 0),
  );
}
