/**
 * Prompts to what a denoiser attends to, by one or more CLIP text encoders: token ids, hidden states side by side, and the
 * pooled vector of the last encoder that has a projection. Results are small (a few hundred KB) and kept on the host.
 */

import type { PromptKind } from "../diffusion/model.ts";
import { checkFinite } from "../diffusion/not-finite.ts";
import { PipelineError } from "../diffusion/request.ts";
import type { Plan } from "../graph/plan.ts";
import { Recorder } from "../graph/recorder.ts";
import type { ComponentSpec } from "../memory/component.ts";
import type { PlanSpec } from "../memory/model-memory.ts";
import { type ClipTextConfig, clipText, parseClipTextConfig, poolingPosition } from "../models/clip.ts";
import { ModelConfigError } from "../models/config.ts";
import { quoted } from "../platform/quoted.ts";
import { ownTurn } from "../platform/turns.ts";
import { type Chunk, type ReadPrompt, readPrompt } from "../text/chunks.ts";
import { type ClipTokenizer, loadClipTokenizer } from "../text/clip-tokenizer.ts";
import { type AddedToken, addedTokens, type TextEmbedding } from "../text/embeddings.ts";
import { foreignSyntax } from "../text/foreign-syntax.ts";
import { BREAK, type PromptSyntax, weightedParts } from "../text/prompt-syntax.ts";
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

/** How a prompt is read. */
export interface Reading {
  readonly syntax: PromptSyntax;
  /** Layers before the usual one whose state conditions the denoiser. */
  readonly clipSkip: number;
  /** Those of textual inversion that prompts may name. */
  readonly embeddings: readonly TextEmbedding[];
}

/** A prompt for the first text encoder, and one for the others. */
export interface PromptText {
  readonly prompt: string;
  readonly second?: string;
}

const PLAIN: Reading = { syntax: "plain", clipSkip: 0, embeddings: [] };

/** The usual plan depends on nothing. */
const NO_SHAPE: PlanSpec["shape"] = {};

/** Prompts whose chunks are kept: those of one run and its update. */
const KEPT_READINGS = 8;

interface ClipEncoder {
  readonly files: Component;
  readonly config: ClipTextConfig;
  readonly tokenizer: ClipTokenizer;
  readonly recorder: Recorder;
}

export class ClipText {
  readonly #encoders: readonly ClipEncoder[];
  readonly #hidden: HiddenState;
  readonly #readings = new Map<string, ReadPrompt>();
  readonly #words: ReadonlySet<string> | undefined;

  private constructor(encoders: readonly ClipEncoder[], hidden: HiddenState, words: ReadonlySet<string> | undefined) {
    this.#encoders = encoders;
    this.#hidden = hidden;
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
      encoders.push({
        files,
        config,
        tokenizer,
        recorder: record(config, modelMaxLength, { hidden, clipSkip: 0, adds: false }),
      });
    }
    return new ClipText(encoders, hidden, words);
  }

  get components(): ComponentSpec[] {
    return this.#encoders.map(({ files, recorder }) => {
      return { id: files.name, parameters: [...recorder.parameters.values()], files };
    });
  }

  /** The plans that `encode` runs, one chunk of a prompt at a time. */
  get plans(): PlanSpec[] {
    return this.plansFor(PLAIN);
  }

  /** The same for a prompt that is read so. @throws PipelineError if an encoder has not as many layers */
  plansFor({ clipSkip, embeddings }: Reading): PlanSpec[] {
    const hidden = this.#hidden;
    return this.#encoders.map(({ files: { name }, config, tokenizer, recorder }) => {
      const most = config.num_hidden_layers - (hidden === "last" ? 0 : 1);
      if (clipSkip > most) {
        throw new PipelineError("clip_skip", `must be at most ${most}: the ${name} has no more layers to skip`);
      }
      const adds = embeddings.some(({ vectors }) => vectors.has(config.hidden_size));
      const isUsual = clipSkip === 0 && !adds;
      return {
        part: name,
        shape: isUsual ? NO_SHAPE : { clipSkip, adds },
        label: name,
        components: [name],
        record: () => (isUsual ? recorder : record(config, tokenizer.modelMaxLength, { hidden, clipSkip, adds })),
      };
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

  /** Chunks that prompts fill: of the longest, at every encoder. Each is as long as a text encoder's row. */
  chunkCount(texts: readonly PromptText[], reading: Reading): number {
    if (reading.syntax === "plain") return 1;
    const counts = texts.flatMap((text) =>
      this.#encoders.map((_, index) => this.#read(text, index, reading).chunks.length),
    );
    return Math.max(...counts, 1);
  }

  /**
   * Runs one prompt through the encoders, whose plans are given in their order.
   * @param count chunks to fill; those that the prompt leaves are empty
   * @throws NotFiniteError naming an encoder, PipelineError if an embedding is of another model
   */
  async encode(text: PromptText, reading: Reading, plans: readonly Plan[], count = 1): Promise<TextConditioning> {
    const parts: { hidden: Float32Array; width: number }[] = [];
    const allIds: Int32Array[] = [];
    let pooled: Float32Array | undefined;
    for (const [index, { files, config, tokenizer }] of this.#encoders.entries()) {
      const plan = plans[index]!;
      await ownTurn();
      const { chunks } = this.#read(text, index, reading);
      const empty = readPrompt(tokenizer, "", { syntax: "plain" }).chunks[0]!;
      const row = tokenizer.modelMaxLength * config.hidden_size;
      const hidden = new Float32Array(row * count);
      this.#writeAdded(plan, index, reading);
      for (let at = 0; at < count; at++) {
        const chunk = chunks[at] ?? empty;
        allIds.push(chunk.ids);
        plan.write("ids", Uint32Array.from(chunk.ids));
        if (config.withProjection) plan.write("end", Uint32Array.of(poolingPosition(config, chunk.ids)));
        plan.run();
        const states = (await plan.read("hidden")) as Float32Array;
        await checkFinite(states, "text encoder", files.name);
        // The web UI restores a chunk's mean for one encoder; for SDXL's two, guides turn that off.
        hidden.set(weighted(states, chunk, { restoresMean: this.#encoders.length === 1 }), at * row);
        if (!config.withProjection || at > 0) continue;
        pooled = (await plan.read("pooled")) as Float32Array;
        await checkFinite(pooled, "text encoder", files.name);
      }
      parts.push({ hidden, width: config.hidden_size });
    }
    const tokens = this.tokens * count;
    return { embedding: sideBySide(parts, tokens), tokens, width: this.width, pooled, ids: allIds };
  }

  #read({ prompt, second = prompt }: PromptText, index: number, reading: Reading): ReadPrompt {
    const { tokenizer } = this.#encoders[index]!;
    const text = index === 0 ? prompt : second;
    const { syntax, embeddings } = reading;
    const key = JSON.stringify([index, text, syntax, embeddings.map(({ name }) => name)]);
    const known = this.#readings.get(key);
    if (known) return known;
    const read = readPrompt(tokenizer, text, { syntax, added: this.#addedTo(index, reading) });
    this.#readings.set(key, read);
    const oldest = this.#readings.keys().next().value;
    if (this.#readings.size > KEPT_READINGS && oldest !== undefined) this.#readings.delete(oldest);
    return read;
  }

  /** Tokens of textual inversion that an encoder's table is followed by. */
  #addedTo(index: number, { embeddings }: Reading): AddedToken[] {
    const { config, files } = this.#encoders[index]!;
    const stranger = embeddings.find(({ vectors }) => !vectors.has(config.hidden_size));
    if (stranger) {
      const widths = [...stranger.vectors.keys()].join(" and ");
      const reason = `the embedding ${quoted(stranger.name)} has vectors of ${widths} numbers, and this model's ${files.name} reads ${config.hidden_size}`;
      throw new PipelineError("prompt", `${reason}; it was made for another kind of model`);
    }
    return addedTokens(embeddings, config.hidden_size, config.vocab_size);
  }

  #writeAdded(plan: Plan, index: number, { embeddings }: Reading): void {
    if (embeddings.length === 0) return;
    const { hidden_size: width } = this.#encoders[index]!.config;
    const vectors = embeddings.flatMap(({ vectors }) => vectors.get(width) ?? []);
    if (vectors.length > MOST_VECTORS) {
      throw new PipelineError("prompt", `its embeddings have ${vectors.length} vectors; ${MOST_VECTORS} are the most`);
    }
    const rows = new Float32Array(MOST_VECTORS * width);
    for (const [row, vector] of vectors.entries()) rows.set(vector, row * width);
    plan.write("added", rows);
  }

  countTokens(prompt: string, syntax: PromptSyntax = "plain"): number {
    return readPrompt(this.#first.tokenizer, prompt, { syntax }).tokenCount;
  }

  /**
   * Warns of a prompt that is too long, of taught tokens in pieces, of a prompt of which the model knows no word, and of the
   * syntax of another program.
   */
  async warnings(prompt: string, kind: PromptKind, reading: Reading = PLAIN): Promise<string[]> {
    const warnings: string[] = [];
    const { tokenizer } = this.#first;
    const { syntax } = reading;
    await ownTurn(); // whoever asked may have had much to do in this one
    const { truncated, tokenCount, chunks } = this.#read({ prompt }, 0, reading);
    await ownTurn();
    if (truncated) {
      const room = chunks.length * tokenizer.modelMaxLength;
      warnings.push(`The ${kind} has ${tokenCount} tokens; this model reads ${room}, so its end was left out.`);
    }
    warnings.push(...this.#encoders.flatMap((encoder) => brokenTokens(encoder, prompt)));
    // Without a list, a word that the vocabulary has only in pieces is one the model was hardly trained on.
    const knows = ({ word, pieces }: PromptWord) => (this.#words ? this.#words.has(word) : pieces.length === 1);
    const read = syntax === "plain" ? prompt : textOf(prompt);
    const words = tokenizer.words(read).filter(({ word }) => word.length > 1); // one letter says nothing
    await ownTurn();
    const names = reading.embeddings.length > 0;
    if (words.length > 0 && !names && !words.some(knows) && kind === "prompt") {
      warnings.push("This model knows no word of the prompt; the picture will have little to do with it.");
    }
    for (const { text, advice } of foreignSyntax(prompt, syntax)) {
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

/** The words of a prompt in the weighted syntax. */
function textOf(prompt: string): string {
  return weightedParts(prompt)
    .map((part) => (part === BREAK ? " " : part.text))
    .join("");
}

interface Recorded {
  readonly hidden: HiddenState;
  readonly clipSkip: number;
  /** With rows behind the table, for textual inversion. */
  readonly adds: boolean;
}

/** Vectors of textual inversion in one request: as many as fill a row. */
const MOST_VECTORS = 75;

function record(config: ClipTextConfig, tokens: number, { hidden, clipSkip, adds }: Recorded): Recorder {
  const g = new Recorder();
  const ids = g.input("ids", [tokens], { element: "u32" });
  const added = adds ? g.input("added", [1, MOST_VECTORS, config.hidden_size], { element: "f32" }) : undefined;
  const encoded = clipText(g, config, ids, 1, added);
  const normalised = clipSkip === 0 ? encoded.lastHiddenState : encoded.normalised(clipSkip);
  g.output("hidden", hidden === "last" ? normalised : encoded.hiddenStates.at(-2 - clipSkip)!);
  if (config.withProjection) g.output("pooled", encoded.pooled(g.input("end", [1], { element: "u32" })));
  return g;
}

/**
 * States `[tokens, width]` of a chunk times its tokens' weights; where `restoresMean`, the mean of all is then made what it
 * was (the web UI's emphasis "Original"; else its "No norm").
 */
export function weighted(
  states: Float32Array,
  { ids, weights }: Chunk,
  { restoresMean }: { readonly restoresMean: boolean },
): Float32Array {
  if (weights === undefined) return states;
  const width = states.length / ids.length;
  const scaled = states.map((value, i) => value * weights[Math.floor(i / width)]!);
  if (!restoresMean) return scaled;
  const sum = (values: Float32Array) => values.reduce((total, value) => total + value, 0);
  const restored = sum(states) / sum(scaled);
  return Number.isFinite(restored) ? scaled.map((value) => value * restored) : scaled;
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
