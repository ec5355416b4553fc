/** A model folder of the sketch family: configurations, and weights that are generated for what the family asks for. */
import { cp, mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { openFamily } from "../../src/families/registry.ts";
import { writeSafetensors } from "../../src/weights/safetensors.ts";
import { normals } from "../generated-weights.ts";
import { sketch, WINDOW } from "./sketch-family.ts";

const BUILT_IN = path.resolve(import.meta.dirname, "../../models/landscapes");

const CONFIGS: Readonly<Record<string, object>> = {
  "model_index.json": {
    _class_name: "SketchPipeline",
    transformer: ["diffusers", "SketchTransformer2DModel"],
    vae: ["diffusers", "AutoencoderKL"],
    text_encoder: ["transformers", "CLIPTextModel"],
    tokenizer: ["transformers", "CLIPTokenizer"],
    scheduler: ["diffusers", "FlowMatchEulerDiscreteScheduler"],
  },
  "transformer/config.json": { _class_name: "SketchTransformer2DModel" },
  "vae/config.json": {
    _class_name: "AutoencoderKL",
    latent_channels: 6,
    block_out_channels: [8, 16, 16],
    layers_per_block: 1,
    norm_num_groups: 4,
    scaling_factor: 0.5,
    shift_factor: 0.1,
  },
  "text_encoder/config.json": {
    architectures: ["CLIPTextModel"],
    hidden_size: 16,
    intermediate_size: 32,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    max_position_embeddings: WINDOW,
    vocab_size: 910,
    eos_token_id: 909,
  },
  "scheduler/scheduler_config.json": {
    _class_name: "FlowMatchEulerDiscreteScheduler",
    use_dynamic_shifting: true,
    base_image_seq_len: 16,
    max_image_seq_len: 256,
  },
};

/** Writes the folder. */
export async function writeSketch(folder: string): Promise<void> {
  for (const [file, content] of Object.entries(CONFIGS)) {
    await mkdir(path.join(folder, path.dirname(file)), { recursive: true });
    await writeFile(path.join(folder, file), JSON.stringify(content));
  }
  await cp(path.join(BUILT_IN, "tokenizer"), path.join(folder, "tokenizer"), { recursive: true });
  const { components } = await openFamily(folder, {}, [sketch]);
  let seed = 1;
  for (const { id, parameters } of components) {
    const file = id === "text_encoder" ? "model.safetensors" : "diffusion_pytorch_model.safetensors";
    const tensors = parameters
      .flatMap(({ parts }) => parts)
      .map(({ name, shape }) => {
        const count = shape.reduce((product, size) => product * size, 1);
        const values = normals(count, 7919 * seed++, 1 / Math.sqrt(count / shape[0]!));
        return { name, dtype: "F32" as const, shape, data: new Uint8Array(values.buffer) };
      });
    await writeSafetensors(path.join(folder, id, file), tensors);
  }
}
