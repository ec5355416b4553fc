/**
 * CLIPTextModel and CLIPTextModelWithProjection: the text encoders of Stable Diffusion.
 *
 * Radford et al. 2021 (arXiv 2103.00020), text tower; names and conventions are those of transformers. The mask is causal
 * and there is no padding mask: the diffusion pipelines pass none.
 */

import { z } from "zod";
import { headPadding, type Recorder } from "../graph/recorder.ts";
import { channelsOf, type Tensor } from "../graph/tensor.ts";
import { ModelConfigError, number, parseConfig, size } from "./config.ts";

const configSchema = z.object({
  architectures: z.array(z.string()).max(16).optional(),
  vocab_size: size.vocabulary,
  hidden_size: size.channels,
  intermediate_size: size.channels,
  num_hidden_layers: size.layers,
  num_attention_heads: size.channels,
  max_position_embeddings: size.channels.default(77),
  hidden_act: z.enum(["quick_gelu", "gelu"]).default("quick_gelu"),
  layer_norm_eps: number.eps.default(1e-5),
  projection_dim: size.channels.default(512),
  // transformers' default when a config names none
  eos_token_id: z.number().int().nonnegative().max(4_000_000).default(49407),
});

export type ClipTextConfig = z.infer<typeof configSchema> & { readonly withProjection: boolean };

/** Throws `ModelConfigError` naming the field. `component` is the folder's name: `text_encoder`. */
export function parseClipTextConfig(component: string, config: unknown): ClipTextConfig {
  const parsed = parseConfig(component, configSchema, config);
  if (parsed.hidden_size % parsed.num_attention_heads !== 0) {
    const reason = `${parsed.hidden_size} channels do not divide into ${parsed.num_attention_heads} heads`;
    throw new ModelConfigError(component, "num_attention_heads", reason);
  }
  return { ...parsed, withProjection: parsed.architectures?.includes("CLIPTextModelWithProjection") ?? false };
}

export interface ClipTextOutputs {
  /** Entry 0 is the embedding sum, entry i the output of layer i; none is normalised. `[n, tokens, hidden]` each. */
  readonly hiddenStates: readonly Tensor[];
  /** The last hidden state after the final layer norm. */
  readonly lastHiddenState: Tensor;
  /** The final layer norm applied to the output of the layer `clipSkip` before the last. */
  normalised(clipSkip: number): Tensor;
  /** The end token's row of `lastHiddenState`, `[n, hidden]`; times the projection, `[n, projection_dim]`, with one. */
  pooled(rows: Tensor): Tensor;
}

/** ids u32 `[n · tokens]` → the encoder's outputs; unused ones are not computed. `added`: rows of ids behind the vocabulary. */
export function clipText(
  g: Recorder,
  config: ClipTextConfig,
  ids: Tensor,
  images: number,
  added?: Tensor,
): ClipTextOutputs {
  const tokens = ids.shape[0]! / images;
  const norm = { eps: config.layer_norm_eps };
  return g.scope("text_model", () => {
    const embedded = g.scope("embeddings", () =>
      g.embedding(
        ids,
        { table: "token_embedding", positions: "position_embedding" },
        {
          images,
          tokens,
          vocabulary: config.vocab_size,
          positions: config.max_position_embeddings,
          channels: config.hidden_size,
        },
        added,
      ),
    );
    const hiddenStates = [embedded];
    for (let layer = 0; layer < config.num_hidden_layers; layer++) {
      hiddenStates.push(
        g.scope(`encoder.layers.${layer}`, () => encoderLayer(g, hiddenStates.at(-1)!, { ...config, causal: true })),
      );
    }
    const normalised = (clipSkip: number) =>
      g.scope("text_model", () => g.layerNorm(hiddenStates.at(-1 - clipSkip)!, "final_layer_norm", norm));
    const lastHiddenState = g.layerNorm(hiddenStates.at(-1)!, "final_layer_norm", norm);
    return {
      hiddenStates,
      lastHiddenState,
      normalised,
      pooled(rows) {
        const pooled = g.gatherRows(lastHiddenState, rows, "text_model.pooler");
        if (!config.withProjection) return pooled;
        return g.linear(pooled, "text_projection", { outputs: config.projection_dim, bias: false });
      },
    };
  });
}

/** The numbers of a layer, which those of text and of pictures have. */
export type ClipLayerConfig = Pick<
  ClipTextConfig,
  "num_attention_heads" | "layer_norm_eps" | "intermediate_size" | "hidden_act"
> & { /** True if a token reads those before it alone. */ readonly causal: boolean };

/** A layer of either tower. */
export function encoderLayer(g: Recorder, x: Tensor, config: ClipLayerConfig): Tensor {
  const channels = channelsOf(x);
  const heads = config.num_attention_heads;
  const head = headPadding(channels / heads);
  const inner = heads * head.padded;
  const norm = { eps: config.layer_norm_eps };

  let h = g.layerNorm(x, "layer_norm1", norm);
  h = g.scope("self_attn", () => {
    const outputs = [channels, channels, channels];
    const qkv = g.linear(h, ["q_proj", "k_proj", "v_proj"], { outputs, outputHead: head });
    const attended = g.attention(
      "",
      {
        query: { tensor: qkv, offset: 0 },
        key: { tensor: qkv, offset: inner },
        value: { tensor: qkv, offset: 2 * inner },
      },
      { heads, head, causal: config.causal },
    );
    return g.linear(attended, "out_proj", { outputs: channels, inputHead: head });
  });
  x = g.add(h, x);

  h = g.layerNorm(x, "layer_norm2", norm);
  h = g.activation(g.linear(h, "mlp.fc1", { outputs: config.intermediate_size }), config.hidden_act);
  return g.add(g.linear(h, "mlp.fc2", { outputs: channels }), x);
}

/**
 * The position of the token whose state is the pooled one. A config with `eos_token_id` 2 (all old files) means the
 * largest id in the row, any other the first occurrence of that id, or 0 without one (transformers' `CLIPTextTransformer`).
 */
export function poolingPosition(config: ClipTextConfig, ids: ArrayLike<number>): number {
  const row = Array.from(ids);
  if (config.eos_token_id === 2) return row.indexOf(Math.max(...row));
  return Math.max(row.indexOf(config.eos_token_id), 0);
}
