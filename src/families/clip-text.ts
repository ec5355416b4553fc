/**
 * Prompts to what a denoiser attends to, by one or more CLIP text encoders: token ids, hidden states side by side, and the
 * pooled vector of the last encoder that has a projection. Results are small (a few hundred KB) and kept on the host.
 */

import type { PromptKind } from "../diffusion/model.ts";
import { checkFinite } from "../diffusion/not-finite.ts";
import type { Plan } from "../graph/plan.ts";
import { Recorder } from "../graph/recorder.ts";
import type { ComponentSpec } from "../memory/component.ts";
import type { PlanSpec } from "../memory/model-memory.ts";
import { type ClipTextConfig, clipText, parseClipTextConfig, poolingPosition } from "../models/clip.ts";
import { ModelConfigError } from "../models/config.ts";
import { quoted } from "../platform/quoted.ts";
import { ownTurn } from "../platform/turns.ts";
import { type ClipTokenizer, loadClipTokenizer } from "../text/clip-tokenizer.ts";
import { foreignSyntax } from "../text/foreign-syntax.ts";
import type { PromptWord } from "../text/tokenizer.ts";
import type { Component, ModelDirectory } from "../weights/model-directory.ts";

/** One prompt as the denoiser reads it. */
export interface TextConditioning {
  /** `[tokens, width]` */
  readonly embedding: Float32Array;
  readonly tokens: number;
  readonly width: number;
  /** `[pooledWidth]`, if a text encoder has a projection. */
  readonly pooled?: Float32Array;
  readonly ids: readonly Int32Array[];
}

/** Which of its hidden states a text encoder is read for. */
export type HiddenState = "last" | "last-but-one";

interface ClipEncoder {
  readonly files: Component;
  readonly config: ClipTextConfig;
  readonly tokenizer: ClipTokenizer;
  readonly recorder: Recorder;
}

export class ClipText {
  readonly #encoders: readonly ClipEncoder[];
  readonly #words: ReadonlySet<string> | undefined;

  private constructor(encoders: readonly ClipEncoder[], words: ReadonlySet<string> | undefined) {
    this.#encoders = encoders;
    this.#words = words;
  }

  /**
   * @param names the encoders' places, as `text_encoder_2`
   * @param words the words that the model was taught, if its makers list them
   * @throws ModelConfigError, TokenizerError
   */
  static async open(
    directory: ModelDirectory,
    names: readonly string[],
    { hidden, words }: { readonly hidden: HiddenState; readonly words?: ReadonlySet<string> },
  ): Promise<ClipText> {
    const encoders: ClipEncoder[] = [];
    for (const name of names) {
      const files = required(directory, name);
      const config = parseClipTextConfig(name, files.config);
      const { files: folder } = required(directory, name.replace("text_encoder", "tokenizer"));
      const table = { rows: config.vocab_size, positions: config.max_position_embeddings };
      const tokenizer = await loadClipTokenizer(folder, table);
      const { modelMaxLength } = tokenizer;
      if (modelMaxLength > config.max_position_embeddings) {
        const reason = `is ${config.max_position_embeddings}, and the tokenizer's model_max_length is ${modelMaxLength}`;
        throw new ModelConfigError(name, "max_position_embeddings", reason);
      }
      encoders.push({ files, config, tokenizer, recorder: record(config, modelMaxLength, hidden) });
    }
    return new ClipText(encoders, words);
  }

  get components(): ComponentSpec[] {
    return this.#encoders.map(({ files, recorder }) => {
      return { id: files.name, parameters: [...recorder.parameters.values()], files };
    });
  }

  /** The plans that `encode` runs, one prompt at a time. */
  get plans(): PlanSpec[] {
    return this.#encoders.map(({ files, recorder }) => {
      return { part: files.name, shape: {}, label: files.name, components: [files.name], record: () => recorder };
    });
  }

  /** Tokens of a prompt's embedding. */
  get tokens(): number {
    return this.#first.tokenizer.modelMaxLength;
  }

  /** Numbers of each token's embedding. */
  get width(): number {
    return this.#encoders.reduce((sum, { config }) => sum + config.hidden_size, 0);
  }

  /** Numbers of the pooled vector; 0: no encoder has a projection. */
  get pooledWidth(): number {
    return this.#encoders.findLast(({ config }) => config.withProjection)?.config.projection_dim ?? 0;
  }

  /**
   * Runs one prompt through the encoders, whose plans are given in their order.
   * @throws NotFiniteError naming an encoder
   */
  async encode(prompt: string, plans: readonly Plan[]): Promise<TextConditioning> {
    const parts: { hidden: Float32Array; width: number }[] = [];
    const allIds: Int32Array[] = [];
    let pooled: Float32Array | undefined;
    let tokens = 0;
    for (const [index, { files, config, tokenizer }] of this.#encoders.entries()) {
      const plan = plans[index]!;
      await ownTurn();
      const { ids } = tokenizer.encode(prompt);
      allIds.push(ids);
      plan.write("ids", Uint32Array.from(ids));
      if (config.withProjection) plan.write("end", Uint32Array.of(poolingPosition(config, ids)));
      plan.run();
      const hidden = (await plan.read("hidden")) as Float32Array;
      await checkFinite(hidden, "text encoder", files.name);
      parts.push({ hidden, width: config.hidden_size });
      if (config.withProjection) {
        pooled = (await plan.read("pooled")) as Float32Array;
        await checkFinite(pooled, "text encoder", files.name);
      }
      tokens = ids.length;
    }
    return { embedding: sideBySide(parts, tokens), tokens, width: this.width, pooled, ids: allIds };
  }

  countTokens(prompt: string): number {
    return this.#first.tokenizer.encode(prompt).tokenCount;
  }

  /**
   * Warns of a prompt that is too long, of taught tokens in pieces, of a prompt of which the model knows no word, or in the
   * syntax of another program.
   */
  async warnings(prompt: string, kind: PromptKind): Promise<string[]> {
    const warnings: string[] = [];
    const { tokenizer } = this.#first;
    await ownTurn(); // whoever asked may have had much to do in this one
    const { truncated, tokenCount } = tokenizer.encode(prompt);
    await ownTurn();
    if (truncated) {
      warnings.push(
        `The ${kind} has ${tokenCount} tokens; this model reads ${tokenizer.modelMaxLength}, so its end was left out.`,
      );
    }
    warnings.push(...this.#encoders.flatMap((encoder) => brokenTokens(encoder, prompt)));
    // Without a list, a word that the vocabulary has only in pieces is one the model was hardly trained on.
    const knows = ({ word, pieces }: PromptWord) => (this.#words ? this.#words.has(word) : pieces.length === 1);
    const words = tokenizer.words(prompt).filter(({ word }) => word.length > 1); // one letter says nothing
    await ownTurn();
    if (words.length > 0 && !words.some(knows) && kind === "prompt") {
      warnings.push("This model knows no word of the prompt; the picture will have little to do with it.");
    }
    for (const { text, advice } of foreignSyntax(prompt)) {
      warnings.push(`${quoted(text)} in the ${kind} is read as plain words: ${advice}.`);
    }
    return warnings;
  }

  get #first(): ClipEncoder {
    return this.#encoders[0]!;
  }
}

/** Warns of tokens that a text encoder was taught and that its tokenizer reads in pieces. */
function brokenTokens({ config, tokenizer, files }: ClipEncoder, prompt: string): string[] {
  const folder = files.name.replace("text_encoder", "tokenizer");
  const listedOnly = tokenizer.unusable
    .filter((token) => prompt.includes(token))
    .map((token) => `${quoted(token)} is read in pieces: ${folder} lists it, and ${files.name} has no row for it.`);
  const unknown = config.vocab_size - tokenizer.size;
  if (unknown <= 0) return listedOnly;
  const count = unknown === 1 ? "a token" : `${unknown} tokens`;
  const reason = `${files.name} has ${count} that ${folder} does not name (is ${folder}/added_tokens.json missing?)`;
  return [...listedOnly, `Words that the model was taught may be read in pieces: ${reason}.`];
}

/** A component that a family cannot do without. @throws ModelConfigError */
export function required(directory: ModelDirectory, name: string): Component {
  const component = directory.component(name);
  if (!component) throw new ModelConfigError("model_index", name, `${directory.pipelineClass} needs this component`);
  return component;
}

function record(config: ClipTextConfig, tokens: number, hidden: HiddenState): Recorder {
  const g = new Recorder();
  const ids = g.input("ids", [tokens], { element: "u32" });
  const encoded = clipText(g, config, ids, 1);
  g.output("hidden", hidden === "last" ? encoded.lastHiddenState : encoded.hiddenStates.at(-2)!);
  if (config.withProjection) g.output("pooled", encoded.pooled(g.input("end", [1], { element: "u32" })));
  return g;
}

/** Hidden states `[tokens, width]` of several encoders as one, their channels side by side. */
function sideBySide(parts: readonly { hidden: Float32Array; width: number }[], tokens: number): Float32Array {
  const width = parts.reduce((sum, part) => sum + part.width, 0);
  const embedding = new Float32Array(tokens * width);
  let offset = 0;
  for (const part of parts) {
    for (let token = 0; token < tokens; token++) {
      embedding.set(part.hidden.subarray(token * part.width, (token + 1) * part.width), token * width + offset);
    }
    offset += part.width;
  }
  return embedding;
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
