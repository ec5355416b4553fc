/**
 * IP-Adapter's projections from CLIP's view of a picture to tokens that cross-attentions read (Ye et al. 2023, arXiv
 * 2308.06721): a linear layer for the plain form, a resampler for Plus. Names are those of the original files.
 */

import { z } from "zod";
import { headPadding, type Recorder } from "../graph/recorder.ts";
import type { Tensor } from "../graph/tensor.ts";
import { ModelConfigError, size } from "./config.ts";

/** Numbers of a file are bounded, since it is untrusted. */
const count = z.number().int().positive().max(4096);
const common = {
  /** Numbers of what it reads: the picture's embedding, or a feature. */
  inputs: size.channels,
  tokens: count,
  /** Numbers of a token: the UNet's `cross_attention_dim`. */
  width: size.channels.multipleOf(4),
};
const projectionSchema = z.discriminatedUnion("kind", [
  /** Tokens by a linear layer of the picture's embedding. */
  z.object({ kind: z.literal("plain"), ...common }),
  /** Learned queries that read the picture's features. */
  z.object({
    kind: z.literal("plus"),
    ...common,
    /** Numbers of a query within. */
    inner: size.channels,
    layers: size.layers,
    heads: count,
    /** Width of the hidden layer, in multiples of `inner`. */
    expansion: count,
  }),
]);

export type ImageProjection = z.infer<typeof projectionSchema>;
type PlainProjection = Extract<ImageProjection, { kind: "plain" }>;
type Resampler = Extract<ImageProjection, { kind: "plus" }>;

/** @throws ModelConfigError for a projection of another kind (FaceID, full face); `component` is how messages call it */
export function parseImageProjection(component: string, config: unknown): ImageProjection {
  const parsed = projectionSchema.safeParse(config);
  if (parsed.success) return parsed.data;
  throw new ModelConfigError(component, "image_proj", "is of a kind that is not supported: plain ones and Plus are");
}

/** Width of a resampler's heads. */
export const HEAD_WIDTH = 64;
const norm = { eps: 1e-5 };

/** The picture's embedding, `[1, inputs]` → tokens, `[1, tokens, width]`. */
export function plainTokens(g: Recorder, { tokens, width }: PlainProjection, embedding: Tensor): Tensor {
  return g.scope("image_proj", () => {
    const projected = g.linear(embedding, "proj", { outputs: tokens * width });
    return g.layerNorm(g.reshape(projected, [1, tokens, width]), "norm", norm);
  });
}

/**
 * The picture's features, `[1, n, inputs]` → tokens, `[1, tokens, width]`.
 * @param identity `[1, tokens, tokens]`: 1 on the diagonal; of it the learned queries are made, which are weights
 */
export function plusTokens(g: Recorder, resampler: Resampler, features: Tensor, identity: Tensor): Tensor {
  const { inner, layers, heads, expansion, width } = resampler;
  const head = headPadding(HEAD_WIDTH);
  const total = heads * HEAD_WIDTH;
  return g.scope("image_proj", () => {
    let latents = g.linear(identity, "latents", { outputs: inner, bias: false });
    const x = g.linear(features, "proj_in", { outputs: inner });
    for (let layer = 0; layer < layers; layer++) {
      latents = g.scope(`layers.${layer}.0`, () => {
        const queries = g.layerNorm(latents, "norm2", norm);
        const query = g.linear(queries, "to_q", { outputs: total, bias: false });
        const read = g.joinTokens(g.layerNorm(x, "norm1", norm), queries, "read");
        const keysAndValues = g.linear(read, "to_kv", { outputs: 2 * total, bias: false });
        const attended = g.attention(
          "attention",
          {
            query: { tensor: query, offset: 0 },
            key: { tensor: keysAndValues, offset: 0 },
            value: { tensor: keysAndValues, offset: total },
          },
          { heads, head },
        );
        return g.add(g.linear(attended, "to_out", { outputs: inner, bias: false }), latents);
      });
      latents = g.scope(`layers.${layer}.1`, () => {
        const hidden = g.linear(g.layerNorm(latents, "0", norm), "1", { outputs: inner * expansion, bias: false });
        return g.add(g.linear(g.activation(hidden, "gelu"), "3", { outputs: inner, bias: false }), latents);
      });
    }
    return g.layerNorm(g.linear(latents, "proj_out", { outputs: width }), "norm_out", norm);
  });
}
