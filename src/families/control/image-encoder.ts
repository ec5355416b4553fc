/** The encoder of an IP-Adapter's picture: CLIP's tower of pictures, and how a picture is brought to the size that it reads. */

import { z } from "zod";
import type { ControlPicture, ImageEncoderFolder } from "../../diffusion/control.ts";
import { Recorder } from "../../graph/recorder.ts";
import { bicubic } from "../../image/bicubic.ts";
import type { ComponentSpec } from "../../memory/component.ts";
import type { PlanSpec } from "../../memory/model-memory.ts";
import { type ClipVisionConfig, clipVision, parseClipVisionConfig, visionTokens } from "../../models/clip-vision.ts";
import { fileAt } from "../../platform/model-files.ts";
import { readOptionalJson } from "../../weights/json-file.ts";
import { mappedTensors, type TensorOrigin } from "../../weights/mapped-tensors.ts";
import { type Component, openComponentFolder } from "../../weights/model-directory.ts";

const CLASS_TOKEN = "vision_model.embeddings.class_embedding";
const extraClasses = { components: { CLIPVisionModelWithProjection: "image encoder" } } as const;

/** Colours of the pictures that CLIP was taught, by transformers' `CLIPImageProcessor`. */
const normalisation = z.object({
  image_mean: z.array(z.number()).length(3).default([0.48145466, 0.4578275, 0.40821073]),
  image_std: z.array(z.number().positive()).length(3).default([0.26862954, 0.26130258, 0.27577711]),
});

export class ImageEncoder {
  readonly config: ClipVisionConfig;
  readonly component: ComponentSpec;
  readonly #colours: z.infer<typeof normalisation>;

  private constructor(config: ClipVisionConfig, component: ComponentSpec, colours: z.infer<typeof normalisation>) {
    this.config = config;
    this.component = component;
    this.#colours = colours;
  }

  /** @throws WeightsError, ModelConfigError naming the file */
  static async open({ id, source }: ImageEncoderFolder): Promise<ImageEncoder> {
    const folder = await openComponentFolder(source, { extraClasses });
    const config = parseClipVisionConfig(folder.name, folder.config);
    const file = "preprocessor_config.json";
    const colours = normalisation.safeParse((await readOptionalJson(fileAt(folder.files, file), file)) ?? {});
    const component = { id, parameters: parametersOf(config), files: withRow(folder) };
    return new ImageEncoder(config, component, colours.data ?? normalisation.parse({}));
  }

  /** The plan of its network: `pixels` → `features` and `embedding`. */
  spec(output: "features" | "embedding"): PlanSpec {
    return {
      part: "image encoder",
      shape: { component: this.component.id, output },
      label: `${this.component.id}`,
      components: [this.component.id],
      upcast: true, // the embedding of patches is read as f32
      reads: [output],
      record: () => recordEncoder(this.config, [output]),
      prepare: (plan) =>
        plan.write(
          "ids",
          Uint32Array.from({ length: visionTokens(this.config) }, (_, id) => id),
        ),
    };
  }

  /** A picture as `CLIPImageProcessor` hands it on: the shorter side to the size, the middle of it, normalised. */
  pixels({ width, height, values }: ControlPicture): Float32Array {
    const { image_size: side } = this.config;
    const { image_mean: mean, image_std: deviation } = this.#colours;
    const bytes = Uint8Array.from(values, (value) => Math.round(value * 255));
    const shorter = Math.min(width, height);
    const size = { width: Math.floor((side * width) / shorter), height: Math.floor((side * height) / shorter) };
    const resized = bicubic(bytes, { width, height }, size);
    const [top, left] = [Math.floor((size.height - side) / 2), Math.floor((size.width - side) / 2)];
    return Float32Array.from({ length: side * side * 3 }, (_, at) => {
      const [row, column, colour] = [Math.floor(at / 3 / side), Math.floor(at / 3) % side, at % 3];
      const value = resized[((top + row) * size.width + left + column) * 3 + colour]!;
      return (Math.fround(value * (1 / 255)) - mean[colour]!) / deviation[colour]!;
    });
  }
}

/** Outputs of CLIP's tower, of a picture `pixels`; `ids` are those of its tokens. */
export function recordEncoder(
  config: ClipVisionConfig,
  outputs: readonly ("features" | "embedding" | "lastHiddenState")[],
): Recorder {
  const g = new Recorder();
  const pixels = g.input("pixels", [1, config.image_size, config.image_size, 3]);
  const ids = g.input("ids", [visionTokens(config)], { element: "u32" });
  const made = clipVision(g, config, pixels, ids);
  for (const output of outputs) g.output(output, made[output]);
  return g;
}

function parametersOf(config: ClipVisionConfig) {
  return [...recordEncoder(config, ["features", "embedding"]).parameters.values()];
}

/** The class token as a table of one row. */
function withRow(folder: Component): Component {
  const origin = (name: string): [string, TensorOrigin] =>
    name === CLASS_TOKEN ? [`${name}.weight`, { from: name, isRow: true }] : [name, { from: name }];
  return {
    ...folder,
    async weights() {
      const set = await folder.weights();
      return mappedTensors(set, new Map(Array.from(set.names(), origin)));
    },
  };
}
