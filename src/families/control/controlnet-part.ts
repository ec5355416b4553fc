/** ControlNets, unions of several kinds among them, beside a UNet. */

import type { ControlPicture, ControlUse } from "../../diffusion/control.ts";
import type { Encoders } from "../../diffusion/model.ts";
import { checkFinite } from "../../diffusion/not-finite.ts";
import { Recorder } from "../../graph/recorder.ts";
import type { Parameter } from "../../graph/tensor.ts";
import type { ComponentSpec } from "../../memory/component.ts";
import type { PlanSpec } from "../../memory/model-memory.ts";
import {
  type ControlNetConfig,
  controlDownscale,
  controlEmbedding,
  controlnet,
  skipCount,
} from "../../models/controlnet.ts";
import type { UnetControl } from "../../models/unet.ts";
import { hasAddedConditions } from "../../models/unet-config.ts";
import { timeProjections, timestepSinusoids } from "../../models/unet-time.ts";
import type { Component } from "../../weights/model-directory.ts";
import { forBranches, type PartInput, type PartPlace, type PartRequest, type UnetPart } from "./part.ts";

export class ControlNetPart implements UnetPart {
  readonly id: string;
  readonly title: string;
  readonly components: readonly ComponentSpec[];
  readonly columns: number;
  readonly modes?: number;
  readonly #config: ControlNetConfig;

  constructor(id: string, config: ControlNetConfig, files: Component) {
    this.id = id;
    this.title = config.union ? "a ControlNet of several kinds" : "a ControlNet";
    this.#config = config;
    this.components = [{ id, parameters: controlnetParameters(config), files }];
    this.columns = skipCount(config.unet) + 1;
    this.modes = config.union?.num_control_type;
  }

  record(g: Recorder, place: PartPlace): UnetControl {
    const { name, rows, sample, text, time, factors, firstColumn } = place;
    const { unet, union } = this.#config;
    const [, height, width] = sample.shape as [number, number, number];
    const channels = unet.block_out_channels[0]!;
    const timeRows = time.timesteps.shape[0]!;
    const conditions = Array.from({ length: place.pictures }, (_, picture) => ({
      embedding: g.input(`${name} picture ${picture}`, [rows, height, width, channels], { constant: true }),
      kind: union && g.input(`${name} kind ${picture}`, [rows, union.num_control_type], { constant: true }),
    }));
    const kinds = union && g.input(`${name} kinds`, [timeRows, this.#kindNumbers], { constant: true });
    const residuals = g.component(this.id, () => {
      // A UNet that was distilled reads the guidance scale, its ControlNets do not.
      const projected = timeProjections(g, unet, { timesteps: time.timesteps, added: time.added, kinds }, "down");
      return controlnet(g, this.#config, { sample, time: place.atStep(projected), text, conditions });
    });
    const scaled = residuals.skips.map((tensor, index) => ({ tensor, factors, column: firstColumn + index }));
    const middle = { tensor: residuals.middle, factors, column: firstColumn + residuals.skips.length };
    return { residuals: [{ skips: scaled, middle }] };
  }

  async encode(uses: readonly ControlUse[], request: PartRequest, encoders: Encoders): Promise<readonly PartInput[]> {
    const inputs: PartInput[] = [];
    for (const [index, { picture, mode = 0 }] of uses.entries()) {
      const spec = this.#embeddingSpec(picture);
      const { values } = await encoders.picture(spec, [picture.digest], async (plan) => {
        await plan.writeInTurns("picture", this.#inOrder(picture.values));
        plan.run();
        const embedded = (await plan.read("embedding")) as Float32Array;
        await checkFinite(embedded, "control network", this.id);
        return { values: embedded, bytes: embedded.byteLength };
      });
      inputs.push({ name: `picture ${index}`, values: forBranches(values, request) });
      const kind = this.#kindsOf([mode]);
      if (kind) inputs.push({ name: `kind ${index}`, values: forBranches(kind, request) });
    }
    const kinds = this.#kindsOf(uses.map(({ mode = 0 }) => mode));
    if (!kinds) return inputs;
    const sinusoids = timestepSinusoids(kinds, this.#kindWidth);
    return [...inputs, { name: "kinds", values: forBranches(sinusoids, request), isOfTime: true }];
  }

  /** Guessing, the deeper residuals count more, and the negative prompt's half does without (Zhang et al., section 3.4). */
  factors(
    scale: ControlUse["scale"],
    { isNegative, isGuess }: { isNegative: boolean; isGuess: boolean },
  ): Float32Array {
    const isPooled = this.#config.global_pool_conditions;
    const whole = scale as number;
    return Float32Array.from({ length: this.columns }, (_, column) => {
      if (isNegative && (isGuess || isPooled)) return 0;
      return isGuess && !isPooled ? whole * 10 ** (column / (this.columns - 1) - 1) : whole;
    });
  }

  #embeddingSpec({ width, height }: ControlPicture): PlanSpec {
    return {
      part: "control picture",
      shape: { component: this.id, width, height },
      label: `${this.id} picture ${height}×${width}`,
      components: [this.id],
      reads: ["embedding"],
      record: () => {
        const g = new Recorder();
        g.output("embedding", controlEmbedding(g, this.#config, g.input("picture", [1, height, width, 3])));
        return g;
      },
    };
  }

  /** Pixels with their colours in the order that the network was taught. */
  #inOrder(values: Float32Array): Float32Array {
    if (this.#config.controlnet_conditioning_channel_order === "rgb") return values;
    return values.map((_, at) => values[at + 2 - 2 * (at % 3)]!);
  }

  /** 1 at each of these kinds; undefined if the network is no union. */
  #kindsOf(modes: readonly number[]): Float32Array | undefined {
    const { union } = this.#config;
    return union && Float32Array.from({ length: union.num_control_type }, (_, kind) => (modes.includes(kind) ? 1 : 0));
  }

  /** Numbers of the sinusoids of one kind. */
  get #kindWidth(): number {
    return this.#config.unet.addition_time_embed_dim!;
  }

  get #kindNumbers(): number {
    return this.modes! * this.#kindWidth;
  }
}

/** Its parameters, which do not depend on the picture's size. */
export function controlnetParameters(config: ControlNetConfig): Parameter[] {
  const { unet, union } = config;
  const side = 2 ** unet.block_out_channels.length;
  const channels = unet.block_out_channels[0]!;
  const g = new Recorder();
  const picture = controlDownscale(config) * side;
  controlEmbedding(g, config, g.input("picture", [1, picture, picture, 3]));
  const added = hasAddedConditions(unet)
    ? g.input("added", [1, unet.projection_class_embeddings_input_dim!])
    : undefined;
  const kinds = union && g.input("kinds", [1, union.num_control_type * unet.addition_time_embed_dim!]);
  const timesteps = g.input("timesteps", [1, channels]);
  controlnet(g, config, {
    sample: g.input("sample", [1, side, side, unet.in_channels]),
    time: timeProjections(g, unet, { timesteps, added, kinds }, "down"),
    text: g.input("text", [1, 1, unet.cross_attention_dim]),
    conditions: [
      {
        embedding: g.input("embedding", [1, side, side, channels]),
        kind: union && g.input("kind", [1, union.num_control_type]),
      },
    ],
  });
  return [...g.parameters.values()];
}
