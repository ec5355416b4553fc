/**
 * CLIPVisionModelWithProjection: the picture's tower of CLIP (Radford et al. 2021, arXiv 2103.00020); names and conventions
 * are those of transformers. IP-Adapters read it.
 */

import { z } from "zod";
import type { Recorder } from "../graph/recorder.ts";
import type { Tensor } from "../graph/tensor.ts";
import { encoderLayer } from "./clip.ts";
import { ModelConfigError, number, parseConfig, size } from "./config.ts";

const configSchema = z.object({
  hidden_size: size.channels,
  intermediate_size: size.channels,
  num_hidden_layers: size.layers.min(2),
  num_attention_heads: size.channels,
  num_channels: z.literal(3).default(3),
  image_size: z.number().int().positive().max(1024).default(224),
  patch_size: z.number().int().positive().max(64).default(32),
  hidden_act: z.enum(["quick_gelu", "gelu"]).default("quick_gelu"),
  layer_norm_eps: number.eps.default(1e-5),
  projection_dim: size.channels.default(512),
});

export type ClipVisionConfig = z.infer<typeof configSchema>;

/** @throws ModelConfigError naming the field; `component` is the folder's name: `image_encoder` */
export function parseClipVisionConfig(component: string, config: unknown): ClipVisionConfig {
  const parsed = parseConfig(component, configSchema, config);
  if (parsed.hidden_size % parsed.num_attention_heads !== 0) {
    const reason = `${parsed.hidden_size} channels do not divide into ${parsed.num_attention_heads} heads`;
    throw new ModelConfigError(component, "num_attention_heads", reason);
  }
  return parsed;
}

/** Tokens of a picture: one for each patch, and the class token, which is the first. */
export function visionTokens({ image_size: side, patch_size: patch }: ClipVisionConfig): number {
  return Math.floor(side / patch) ** 2 + 1;
}

export interface ClipVisionOutputs {
  /** The last but one hidden state, `[1, tokens, hidden_size]`, which is not normalised. */
  readonly features: Tensor;
  /** The last one. */
  readonly lastHiddenState: Tensor;
  /** The class token of the last one, normalised and projected, `[1, projection_dim]`. */
  readonly embedding: Tensor;
}

/**
 * A picture, `[1, image_size, image_size, 3]`, normalised → its features and embedding; unused ones are not computed.
 * @param ids u32 `[tokens]`: 0, 1, 2, …
 */
export function clipVision(g: Recorder, config: ClipVisionConfig, pixels: Tensor, ids: Tensor): ClipVisionOutputs {
  const { hidden_size: channels, patch_size: patch, layer_norm_eps: eps } = config;
  const tokens = visionTokens(config);
  const hidden = g.scope("vision_model", () => {
    const patches = g.scope("embeddings", () =>
      g.conv2d(pixels, "patch_embedding", { outputs: channels, kernel: patch, stride: patch, bias: false }),
    );
    const sequence = g.reshape(patches, [1, tokens - 1, channels]);
    // A vocabulary of the class token alone, with the patches behind it.
    const embedded = g.scope("embeddings", () =>
      g.embedding(
        ids,
        { table: "class_embedding", positions: "position_embedding" },
        { images: 1, tokens, vocabulary: 1, positions: tokens, channels },
        sequence,
      ),
    );
    const states = [g.layerNorm(embedded, "pre_layrnorm", { eps })]; // the file's own spelling
    for (let layer = 0; layer < config.num_hidden_layers; layer++) {
      const next = () => encoderLayer(g, states.at(-1)!, { ...config, causal: false });
      states.push(g.scope(`encoder.layers.${layer}`, next));
    }
    return states;
  });
  const lastHiddenState = hidden.at(-1)!;
  const first = g.gatherRows(lastHiddenState, g.input("class row", [1], { element: "u32" }), "class");
  const normed = g.layerNorm(first, "vision_model.post_layernorm", { eps });
  const embedding = g.linear(normed, "visual_projection", { outputs: config.projection_dim, bias: false });
  return { features: hidden.at(-2)!, lastHiddenState, embedding };
}
