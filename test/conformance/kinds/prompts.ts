/**
 * Prompts: the weighted syntax, chunks of long ones, layers left out, and textual inversion, each through the text encoders
 * of the case.
 */

import { join } from "node:path";
import { readEmbedding } from "../../../src/engine/embedding-files.ts";
import { ClipText, type HiddenState, type Reading, weighted } from "../../../src/families/clip-text.ts";
import { compile, type Plan } from "../../../src/graph/plan.ts";
import { parseClipTextConfig, poolingPosition } from "../../../src/models/clip.ts";
import { type Chunk, readPrompt } from "../../../src/text/chunks.ts";
import { loadClipTokenizer } from "../../../src/text/clip-tokenizer.ts";
import type { TextEmbedding } from "../../../src/text/embeddings.ts";
import { BREAK, weightedParts } from "../../../src/text/prompt-syntax.ts";
import { type Component, type ModelDirectory, openComponentFolder } from "../../../src/weights/model-directory.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { loadTextEncoder } from "./clip.ts";

const USUAL: Reading = { syntax: "plain", clipSkip: 0, embeddings: [] };

/** Text encoders with their loaded weights. */
class Encoders {
  readonly text: ClipText;
  readonly #run: CaseRun;
  readonly #parameters: Awaited<ReturnType<typeof loadTextEncoder>>[];
  readonly #plans: Plan[] = [];

  private constructor(run: CaseRun, text: ClipText, parameters: Awaited<ReturnType<typeof loadTextEncoder>>[]) {
    this.#run = run;
    this.text = text;
    this.#parameters = parameters;
  }

  static async open(run: CaseRun, names: readonly string[], hidden: HiddenState): Promise<Encoders> {
    const components = new Map<string, Component>();
    const parameters = [];
    for (const name of names) {
      for (const part of [name, name.replace("text_encoder", "tokenizer")]) {
        components.set(part, { ...(await openComponentFolder(join(run.folder.path, part))), name: part });
      }
      const config = parseClipTextConfig(name, components.get(name)!.config);
      parameters.push(await loadTextEncoder(run, join(run.folder.path, name), config));
    }
    const directory = { pipelineClass: run.folder.name, component: (name: string) => components.get(name) };
    const text = await ClipText.open(directory as unknown as ModelDirectory, names, { hidden });
    return new Encoders(run, text, parameters);
  }

  async plans(reading: Reading): Promise<Plan[]> {
    const { gpu, activations: storage, choose } = this.#run.bench;
    const specs = this.text.plansFor(reading);
    const made = await Promise.all(
      specs.map(({ label, record }, index) =>
        compile(gpu, record(), { label, storage, parameters: this.#parameters[index]!, choose }),
      ),
    );
    this.#plans.push(...made);
    return made;
  }

  async encode(prompt: string, reading: Reading, chunks = 1) {
    return this.text.encode({ prompt }, reading, await this.plans(reading), chunks);
  }

  destroy(): void {
    for (const plan of this.#plans) plan.destroy();
    for (const parameters of this.#parameters) parameters.destroy();
  }
}

interface TextFacts {
  readonly text: string;
  readonly comma_padding_backtrack: number;
}

export const promptsKind: Kind = {
  name: "prompts",
  recognises: ({ expected }) => [...expected.keys()].some((name) => name.endsWith(".multipliers")),
  async run(run) {
    await run.group("parse", () => parses(run));
    const {
      prompt,
      negative_prompt: negative,
      texts,
    } = run.folder.facts as {
      prompt: string;
      negative_prompt: string;
      texts: Record<string, TextFacts | undefined>;
    };
    const one = await Encoders.open(run, ["text_encoder"], "last");
    const two = await Encoders.open(run, ["text_encoder", "text_encoder_2"], "last-but-one");
    try {
      for (const [name, facts] of Object.entries(texts)) {
        if (facts?.text !== undefined) await run.group(name, () => chunked(run, one, name, facts));
      }
      await run.group("empty chunk", async () => {
        run.compare("empty_chunk", (await one.encode("", USUAL)).embedding, run.tolerances.network);
      });
      for (const skip of [0, 1, 2]) {
        const word = skip === 0 ? "None" : skip;
        await run.group(`clip_skip ${word}`, async () => {
          for (const [family, encoders] of [["sd15", one] as const, ["sdxl", two] as const]) {
            const at = `${family}.clip_skip_${word}`;
            const read = await encoders.encode(prompt, { ...USUAL, clipSkip: skip });
            run.compare(`${at}.prompt`, read.embedding, run.tolerances.network);
            if (family === "sdxl") run.compare(`${at}.pooled`, read.pooled!, run.tolerances.network);
            // diffusers leaves the negative prompt's layers alone.
            run.compare(`${at}.negative`, (await encoders.encode(negative, USUAL)).embedding, run.tolerances.network);
          }
        });
      }
    } finally {
      one.destroy();
      two.destroy();
    }
    // compel's rule is another one: it is given, and is not one of ours.
    for (const name of run.folder.expected.keys()) if (name.startsWith("compel.")) run.optional(name);
  },
};

async function parses(run: CaseRun): Promise<void> {
  interface Parsed {
    readonly text: string;
    readonly segments: readonly (readonly [string, number])[];
  }
  const { cases } = JSON.parse(await run.folder.readText("parse.json")) as { cases: readonly Parsed[] };
  for (const { text, segments } of cases) {
    // The parser of the case leaves BREAK in the text; where chunks end by it, `break.ids` says.
    if (text.includes("BREAK")) continue;
    const parts = weightedParts(text).filter((part) => part !== BREAK);
    const same = JSON.stringify(parts.map((part) => part.text)) === JSON.stringify(segments.map(([words]) => words));
    if (!same) run.fail("parse", text, `gives ${JSON.stringify(parts)}`);
    const [weights, wanted] = [parts.map((part) => part.weight), segments.map(([, weight]) => weight)];
    run.equal("parse", text, weights, wanted, run.tolerances.scheduler);
  }
}

async function chunked(run: CaseRun, encoders: Encoders, name: string, facts: TextFacts): Promise<void> {
  const tokenizer = await loadClipTokenizer(join(run.folder.path, "tokenizer"));
  const { chunks } = readPrompt(tokenizer, facts.text, {
    syntax: "weighted",
    backtrack: facts.comma_padding_backtrack,
  });
  const weightsOf = ({ ids, weights }: Chunk) => [...(weights ?? new Float32Array(ids.length).fill(1))];
  run.compare(
    `${name}.ids`,
    chunks.flatMap(({ ids }) => [...ids]),
    run.tolerances.exact,
  );
  run.compare(`${name}.multipliers`, chunks.flatMap(weightsOf), run.tolerances.scheduler);
  const [plan] = await encoders.plans(USUAL);
  const results: Record<"raw" | "nonorm" | "original", number[]> = { raw: [], nonorm: [], original: [] };
  for (const chunk of chunks) {
    plan!.write("ids", Uint32Array.from(chunk.ids));
    plan!.run();
    const states = (await plan!.read("hidden")) as Float32Array;
    results.raw.push(...states);
    results.nonorm.push(...weighted(states, chunk, { restoresMean: false }));
    results.original.push(...weighted(states, chunk, { restoresMean: true }));
  }
  for (const [field, values] of Object.entries(results))
    run.compare(`${name}.${field}`, values, run.tolerances.network);
  if (facts.comma_padding_backtrack === 0) return;
  const reading: Reading = { ...USUAL, syntax: "weighted" };
  const count = encoders.text.chunkCount([{ prompt: facts.text }], reading);
  const whole = await encoders.encode(facts.text, reading, count);
  run.compare(`${name}.original`, whole.embedding, run.tolerances.network, { by: "as a run reads it" });
}

export const textualInversionKind: Kind = {
  name: "textual inversion",
  recognises: ({ expected, files }) =>
    expected.has("sd15.prompt_embeds") && files.some((file) => file.endsWith("_vector.safetensors")),
  async run(run) {
    const texts = run.folder.facts.texts as Record<"sd15" | "sdxl", readonly string[]>;
    const embedding = async (file: string, name: string): Promise<TextEmbedding> => {
      return { ...(await readEmbedding(join(run.folder.path, file), file)), name };
    };
    const groups = [
      {
        name: "sd15" as const,
        encoders: ["text_encoder"],
        hidden: "last" as const,
        embeddings: [
          await embedding("one_vector.safetensors", "<fox>"),
          await embedding("several_vectors.safetensors", "<style>"),
        ],
      },
      {
        name: "sdxl" as const,
        encoders: ["text_encoder", "text_encoder_2"],
        hidden: "last-but-one" as const,
        embeddings: [await embedding("sdxl_two_encoders.safetensors", "<hero>")],
      },
    ];
    for (const { name, encoders: names, hidden, embeddings } of groups) {
      await run.group(name, async () => {
        const encoders = await Encoders.open(run, names, hidden);
        const reading: Reading = { ...USUAL, embeddings };
        const results: { ids: number[][]; embeds: number[]; pooled: number[] } = {
          ids: names.map(() => []),
          embeds: [],
          pooled: [],
        };
        const positions: number[] = [];
        for (const prompt of texts[name]) {
          const read = await encoders.encode(prompt, reading);
          for (const [index, ids] of read.ids.entries()) results.ids[index]!.push(...ids);
          results.embeds.push(...read.embedding);
          results.pooled.push(...(read.pooled ?? []));
          const last = names.at(-1)!;
          const { config } = await openComponentFolder(join(run.folder.path, last));
          positions.push(poolingPosition(parseClipTextConfig(last, config), read.ids.at(-1)!));
        }
        run.compare(`${name}.ids`, results.ids[0]!, run.tolerances.exact);
        run.compare(`${name}.prompt_embeds`, results.embeds, run.tolerances.network);
        if (name === "sdxl") {
          run.compare(`${name}.ids_2`, results.ids[1]!, run.tolerances.exact);
          const facts = run.folder.facts.pooled_position as { argmax_ids: readonly number[] };
          run.equal(name, "pooled positions", positions, facts.argmax_ids, run.tolerances.exact);
          run.compare(`${name}.pooled`, results.pooled, run.tolerances.network);
        }
        encoders.destroy();
      });
    }
  },
};
