/** IP-Adapters beside a UNet. */

import type { ControlPicture, ControlUse } from "../../diffusion/control.ts";
import type { Encoders } from "../../diffusion/model.ts";
import { checkFinite } from "../../diffusion/not-finite.ts";
import { headPadding, Recorder } from "../../graph/recorder.ts";
import type { Parameter } from "../../graph/tensor.ts";
import type { ComponentSpec } from "../../memory/component.ts";
import type { PlanSpec } from "../../memory/model-memory.ts";
import { visionTokens } from "../../models/clip-vision.ts";
import { type ImageProjection, plainTokens, plusTokens } from "../../models/ip-adapter.ts";
import type { UnetControl } from "../../models/unet.ts";
import { referencePlaces } from "../../models/unet-blocks.ts";
import type { UnetConfig } from "../../models/unet-config.ts";
import type { Component } from "../../weights/model-directory.ts";
import type { ImageEncoder } from "./image-encoder.ts";
import type { PartInput, PartPlace, PartRequest, UnetPart } from "./part.ts";

/** The networks of an IP-Adapter. */
export interface IpAdapterNetworks {
  readonly unet: UnetConfig;
  readonly projection: ImageProjection;
  readonly encoder: ImageEncoder;
}

export class IpAdapterPart implements UnetPart {
  readonly id: string;
  readonly title = "an IP-Adapter";
  readonly readsAnySize = true;
  readonly components: readonly ComponentSpec[];
  /** One for each attention that reads the picture. */
  readonly columns: number;
  readonly #networks: IpAdapterNetworks;

  constructor(id: string, networks: IpAdapterNetworks, files: Component) {
    const { unet, projection, encoder } = networks;
    this.id = id;
    this.#networks = networks;
    this.columns = referencePlaces(unet).size;
    this.components = [encoder.component, { id, parameters: adapterParameters(unet, projection), files }];
  }

  record(g: Recorder, { name, rows, factors, firstColumn }: PartPlace): UnetControl {
    const { tokens, width } = this.#networks.projection;
    const input = g.input(`${name} tokens`, [rows, tokens, width], { constant: true });
    return { references: [{ component: this.id, tokens: input, factors, firstColumn }] };
  }

  /** Plain: a negative prompt goes with an embedding of zeros; Plus: with the features of a picture of zeros. */
  async encode(
    [{ picture }]: readonly [ControlUse],
    { branches }: PartRequest,
    encoders: Encoders,
  ): Promise<readonly PartInput[]> {
    const { projection } = this.#networks;
    const tokens = async (key: string, view: () => Promise<Float32Array>) => this.#project(key, await view(), encoders);
    const positive = await tokens(picture.digest, () => this.#view(picture, encoders));
    if (branches === 1) return [{ name: "tokens", values: [positive] }];
    const negative = await tokens("zeros", async () =>
      projection.kind === "plain" ? new Float32Array(projection.inputs) : this.#view(undefined, encoders),
    );
    return [{ name: "tokens", values: [negative, positive] }];
  }

  factors(scale: ControlUse["scale"]): Float32Array {
    return Float32Array.from({ length: this.columns }, (_, place) =>
      typeof scale === "number" ? scale : scale[place]!,
    );
  }

  /** The encoder's view of a picture; of zeros without one. */
  async #view(picture: ControlPicture | undefined, encoders: Encoders): Promise<Float32Array> {
    const { projection, encoder } = this.#networks;
    const output = projection.kind === "plain" ? "embedding" : "features";
    const { values } = await encoders.picture(encoder.spec(output), [picture?.digest ?? "zeros"], async (plan) => {
      const side = encoder.config.image_size;
      await plan.writeInTurns("pixels", picture ? encoder.pixels(picture) : new Float32Array(side * side * 3));
      plan.run();
      const seen = (await plan.read(output)) as Float32Array;
      await checkFinite(seen, "image encoder", encoder.component.id);
      return { values: seen, bytes: seen.byteLength };
    });
    return values;
  }

  async #project(key: string, view: Float32Array, encoders: Encoders): Promise<Float32Array> {
    const { values } = await encoders.picture(this.#projectionSpec(), [key], async (plan) => {
      plan.write("view", view);
      plan.run();
      const tokens = (await plan.read("tokens")) as Float32Array;
      await checkFinite(tokens, "adapter", this.id);
      return { values: tokens, bytes: tokens.byteLength };
    });
    return values;
  }

  #projectionSpec(): PlanSpec {
    const { projection, encoder } = this.#networks;
    return {
      part: "image projection",
      shape: { component: this.id },
      label: `${this.id} projection`,
      components: [this.id],
      reads: ["tokens"],
      record: () => recordProjection(projection, visionTokens(encoder.config)),
      prepare: (plan) => {
        if (projection.kind === "plus") plan.write("identity", identity(projection.tokens));
      },
    };
  }
}

/** `view` → `tokens`. A resampler also reads `identity`. */
export function recordProjection(projection: ImageProjection, features: number): Recorder {
  const g = new Recorder();
  const { inputs, tokens } = projection;
  if (projection.kind === "plain") {
    g.output("tokens", plainTokens(g, projection, g.input("view", [1, inputs])));
    return g;
  }
  const ones = g.input("identity", [1, tokens, tokens]);
  g.output("tokens", plusTokens(g, projection, g.input("view", [1, features, inputs]), ones));
  return g;
}

export function identity(size: number): Float32Array {
  return Float32Array.from({ length: size * size }, (_, at) => (Math.floor(at / size) === at % size ? 1 : 0));
}

/** The parameters of the projection, and of each attention's keys and values. */
export function adapterParameters(unet: UnetConfig, projection: ImageProjection): Parameter[] {
  const g = recordProjection(projection, 2);
  const tokens = g.input("tokens", [1, projection.tokens, projection.width]);
  for (const [name, place] of referencePlaces(unet)) {
    const level = levelOf(name, unet);
    const channels = unet.block_out_channels[level]!;
    const heads = unet.num_attention_heads ?? unet.attention_head_dim;
    const head = headPadding(channels / (Array.isArray(heads) ? heads[level]! : (heads as number)));
    const layers = ["to_k_ip", "to_v_ip"].map((layer) => `ip_adapter.${2 * place + 1}.${layer}`);
    g.linear(tokens, layers, { outputs: [channels, channels], bias: false, outputHead: head });
  }
  return [...g.parameters.values()];
}

function levelOf(name: string, { block_out_channels: levels }: UnetConfig): number {
  const [, side, block] = /^(down|up)_blocks\.(\d+)\./.exec(name) ?? [];
  if (side === undefined) return levels.length - 1;
  return side === "down" ? Number(block) : levels.length - 1 - Number(block);
}
