/**
 * A family that is nothing like the UNet's, to try what a family may be: a small transformer over latents of six channels
 * and a quarter of the picture's side, which predicts a velocity; one text encoder reads the prompt in windows, whose tokens
 * are joined, so that the shape of a step depends on the words.
 */
import type { FamilyModel, StepModel, StepPlace, StepShape } from "../../src/diffusion/model.ts";
import type { RunShape } from "../../src/diffusion/request.ts";
import { createRunSchedule } from "../../src/diffusion/schedulers/run-schedule.ts";
import type { Family } from "../../src/families/family.ts";
import type { Plan } from "../../src/graph/plan.ts";
import { headPadding, Recorder } from "../../src/graph/recorder.ts";
import type { Tensor } from "../../src/graph/tensor.ts";
import { autoencoder } from "../../src/models/autoencoder.ts";
import { type ClipTextConfig, clipText, parseClipTextConfig } from "../../src/models/clip.ts";
import { timestepSinusoids } from "../../src/models/unet-time.ts";
import { type ClipTokenizer, loadClipTokenizer } from "../../src/text/clip-tokenizer.ts";

/** Tokens that the text encoder reads at once. */
export const WINDOW = 8;
const CHANNELS = 16;
const LATENTS = 6;
const HEADS = 2;

/** Embeddings of the windows by branch of guidance, `[windows · WINDOW, CHANNELS]`. */
type Conditioning = readonly Float32Array[];

export class SketchStep implements StepModel<Conditioning> {
  readonly part = "transformer";
  readonly #windows: (prompt: string) => number;

  /** @param windows how many a prompt is read in */
  constructor(windows: (prompt: string) => number) {
    this.#windows = windows;
  }

  needs() {
    return ["transformer"];
  }

  shape({ guidanceScale, prompt = "", negativePrompt = "" }: RunShape) {
    const branches = guidanceScale > 1 ? 2 : 1;
    const windows = Math.max(this.#windows(prompt), branches === 2 ? this.#windows(negativePrompt) : 1);
    return { branches, windows } as const;
  }

  predict(g: Recorder, shape: StepShape, sample: Tensor): Tensor {
    const rows = shape.slots * shape.branches;
    const time = g.input("time", [rows, CHANNELS]);
    const text = g.input("text", [rows, (shape.windows as number) * WINDOW, CHANNELS], { constant: true });
    const head = headPadding(CHANNELS / HEADS);
    const inner = HEADS * head.padded;
    let h = g.conv2d(sample, "patch", { outputs: CHANNELS, padding: 1 });
    h = g.add(h, g.linear(time, "time", { outputs: CHANNELS }));
    const [n, height, width] = h.shape as [number, number, number];
    const query = g.linear(g.groupNorm(h, "norm", { groups: 4, eps: 1e-5 }), "to_q", {
      outputs: CHANNELS,
      bias: false,
      outputHead: head,
    });
    const keys = g.linear(text, ["to_k", "to_v"], { outputs: [CHANNELS, CHANNELS], bias: false, outputHead: head });
    const attended = g.attention(
      "cross",
      {
        query: { tensor: query, offset: 0 },
        key: { tensor: keys, offset: 0 },
        value: { tensor: keys, offset: inner },
      },
      { heads: HEADS, head },
    );
    h = g.add(
      g.reshape(g.linear(attended, "to_out", { outputs: CHANNELS, inputHead: head }), [n, height, width, CHANNELS]),
      h,
    );
    return g.conv2d(g.activation(h, "silu"), "out", { outputs: LATENTS, padding: 1 });
  }

  async writeConditioning(plan: Plan, shape: StepShape, slot: number, branches: Conditioning): Promise<void> {
    for (const [branch, embedding] of branches.entries()) {
      const padded = new Float32Array((shape.windows as number) * WINDOW * CHANNELS);
      padded.set(embedding);
      plan.write("text", padded, branch * shape.slots + slot);
    }
  }

  writeTimestep(plan: Plan, shape: StepShape, slot: number, { rows, index }: StepPlace): void {
    const time = timestepSinusoids([rows[index]!.timestep], CHANNELS);
    for (let branch = 0; branch < shape.branches; branch++) plan.write("time", time, branch * shape.slots + slot);
  }
}

function recordWindow(config: ClipTextConfig): Recorder {
  const g = new Recorder();
  g.output("hidden", clipText(g, config, g.input("ids", [WINDOW], { element: "u32" }), 1).lastHiddenState);
  return g;
}

/** Its tokens, in windows; the last one is filled up. */
function windowsOf(tokenizer: ClipTokenizer, prompt: string): Uint32Array[] {
  const { ids, tokenCount } = tokenizer.encode(prompt);
  const windows = Math.max(1, Math.ceil(Math.min(tokenCount, ids.length) / WINDOW));
  return Array.from({ length: windows }, (_, at) => Uint32Array.from(ids.subarray(at * WINDOW, (at + 1) * WINDOW)));
}

export const sketch: Family = {
  name: "sketch",
  classes: {
    pipelines: { SketchPipeline: ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"] },
    components: { SketchTransformer2DModel: "denoiser" },
  },
  recognises: ({ pipelineClass }) => pipelineClass === "SketchPipeline",
  async open(directory): Promise<FamilyModel<Conditioning>> {
    const component = (name: string) => directory.component(name)!; // `classes` says that they are there
    const [transformer, vae, encoder] = [component("transformer"), component("vae"), component("text_encoder")];
    const tokenizer = await loadClipTokenizer(component("tokenizer").files);
    const windows = (prompt: string) => windowsOf(tokenizer, prompt).length;
    const step = new SketchStep(windows);
    const text = recordWindow(parseClipTextConfig("text_encoder", encoder.config));
    const coder = autoencoder(vae);
    const schedule = createRunSchedule(component("scheduler"));
    const parametersOf = (record: (g: Recorder) => void) => {
      const g = new Recorder();
      record(g);
      return [...g.parameters.values()];
    };
    return {
      facts: {
        name: "sketch",
        family: "sketch",
        defaults: { width: 32, height: 24, steps: 4, guidanceScale: 3 },
      },
      components: [
        { id: "text_encoder", parameters: [...text.parameters.values()], files: encoder },
        {
          id: "transformer",
          parameters: parametersOf((g) => {
            const shape = { slots: 1, branches: 1, windows: 1, height: 4, width: 4, channels: LATENTS };
            step.predict(g, shape, g.input("sample", [1, 4, 4, LATENTS]));
          }),
          files: transformer,
        },
        {
          id: "vae",
          parameters: parametersOf((g) => {
            coder.decode(g, g.input("latents", [1, 4, 4, LATENTS]));
            coder.encode(g, g.input("picture", [1, 16, 16, 3]));
          }),
          files: vae,
        },
      ],
      latent: { channels: LATENTS, downscale: coder.downscale },
      step,
      picture: { full: { component: "vae", autoencoder: coder } },
      encoders: [
        { part: "text_encoder", shape: {}, label: "text_encoder", components: ["text_encoder"], record: () => text },
      ],
      schedule: (request) => schedule(request, coder.downscale),
      async encode(request, { branches }, encoders) {
        const read = async (prompt: string) => {
          const { joined } = await encoders.remember(["windows", prompt], async () => {
            const [plan] = await encoders.plans();
            const parts: Float32Array[] = [];
            for (const ids of windowsOf(tokenizer, prompt)) {
              plan!.write("ids", ids);
              plan!.run();
              parts.push((await plan!.read("hidden")) as Float32Array);
            }
            return { joined: Float32Array.from(parts.flatMap((part) => [...part])) };
          });
          return joined;
        };
        const positive = await read(request.prompt);
        return branches === 1 ? [positive] : [await read(request.negativePrompt ?? ""), positive];
      },
      countTokens: (prompt) => tokenizer.encode(prompt).tokenCount,
      promptWarnings: async () => [],
    };
  },
};
