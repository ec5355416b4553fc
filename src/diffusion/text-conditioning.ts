/**
 * Prompts to what the denoiser attends to: token ids, through one or two text encoders.
 *
 * Stable Diffusion takes the last hidden state; SDXL the last but one of both encoders side by side, and the second
 * encoder's projected end token as the pooled vector. Results are small (a few hundred KB) and kept on the host by prompt.
 */

import type { Gpu } from "../gpu/device.ts";
import { compile, type Plan } from "../graph/plan.ts";
import { Recorder } from "../graph/recorder.ts";
import type { Storage } from "../graph/tensor.ts";
import type { ParameterBuffers } from "../graph/weights.ts";
import { loadComponent, type Precision } from "../memory/component.ts";
import type { StreamedWeights } from "../memory/streamed-weights.ts";
import { type ClipTextConfig, clipText, parseClipTextConfig, poolingPosition } from "../models/clip.ts";
import { ModelConfigError } from "../models/config.ts";
import { ownTurn } from "../platform/turns.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { Component } from "../weights/model-directory.ts";

/** One prompt as the denoiser reads it. */
export interface TextConditioning {
  /** `[tokens, width]` */
  readonly embedding: Float32Array;
  readonly tokens: number;
  readonly width: number;
  /** `[pooledWidth]`, where a text encoder has a projection. */
  readonly pooled?: Float32Array;
  readonly ids: readonly Int32Array[];
}

export interface TextEncoder {
  readonly component: string;
  readonly config: ClipTextConfig;
  readonly tokenizer: Tokenizer;
  readonly parameters: StreamedWeights;
  /** The recorded parameters, for LoRA. */
  readonly recorder: Recorder;
  readonly hidden: "last" | "last-but-one";
}

/** Loads a text encoder. `hidden`: which of its states the model reads. */
export async function loadTextEncoder(
  gpu: Gpu,
  component: Component,
  tokenizer: Tokenizer,
  options: { hidden: TextEncoder["hidden"]; precision: Precision; onProgress?: (done: number, total: number) => void },
): Promise<TextEncoder> {
  const config = parseClipTextConfig(component.name, component.config);
  const { modelMaxLength } = tokenizer;
  if (modelMaxLength > config.max_position_embeddings) {
    const reason = `is ${config.max_position_embeddings}, and the tokenizer's model_max_length is ${modelMaxLength}`;
    throw new ModelConfigError(component.name, "max_position_embeddings", reason);
  }
  const recorder = record(config, modelMaxLength, options.hidden);
  const parameters = await loadComponent(gpu, component, [...recorder.parameters.values()], {
    precision: options.precision,
    onProgress: options.onProgress,
  });
  return { component: component.name, config, tokenizer, parameters, recorder, hidden: options.hidden };
}

/** Compiles an encoder for one prompt at a time, with `parameters` (its own, or with a LoRA merged in). */
export function compileTextEncoder(
  gpu: Gpu,
  encoder: TextEncoder,
  options: { storage: Storage; parameters: ParameterBuffers },
): Promise<Plan> {
  return compile(gpu, encoder.recorder, { label: encoder.component, ...options });
}

function record(config: ClipTextConfig, tokens: number, hidden: TextEncoder["hidden"]): Recorder {
  const g = new Recorder();
  const ids = g.input("ids", [tokens], { element: "u32" });
  const encoded = clipText(g, config, ids, 1);
  g.output("hidden", hidden === "last" ? encoded.lastHiddenState : encoded.hiddenStates.at(-2)!);
  if (config.withProjection) g.output("pooled", encoded.pooled(g.input("end", [1], { element: "u32" })));
  return g;
}

/** Runs one prompt through the encoders, whose plans are given in the same order. */
export async function encodePrompt(
  encoders: readonly TextEncoder[],
  plans: readonly Plan[],
  prompt: string,
): Promise<TextConditioning> {
  const parts: { hidden: Float32Array; width: number }[] = [];
  const allIds: Int32Array[] = [];
  let pooled: Float32Array | undefined;
  let tokens = 0;
  for (const [index, encoder] of encoders.entries()) {
    const plan = plans[index]!;
    await ownTurn();
    const { ids } = encoder.tokenizer.encode(prompt);
    allIds.push(ids);
    plan.write("ids", Uint32Array.from(ids));
    if (encoder.config.withProjection) plan.write("end", Uint32Array.of(poolingPosition(encoder.config, ids)));
    plan.run();
    parts.push({ hidden: (await plan.read("hidden")) as Float32Array, width: encoder.config.hidden_size });
    if (encoder.config.withProjection) pooled = (await plan.read("pooled")) as Float32Array;
    tokens = ids.length;
  }
  const width = parts.reduce((sum, part) => sum + part.width, 0);
  const embedding = new Float32Array(tokens * width);
  let offset = 0;
  for (const part of parts) {
    for (let token = 0; token < tokens; token++) {
      embedding.set(part.hidden.subarray(token * part.width, (token + 1) * part.width), token * width + offset);
    }
    offset += part.width;
  }
  return { embedding, tokens, width, pooled, ids: allIds };
}

/** The empty condition of models that were trained with zeros for "no prompt" (`force_zeros_for_empty_prompt`). */
export function zeroConditioning(like: TextConditioning): TextConditioning {
  return {
    ...like,
    embedding: new Float32Array(like.embedding.length),
    pooled: like.pooled && new Float32Array(like.pooled.length),
    ids: [],
  };
}
