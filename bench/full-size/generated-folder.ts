/**
 * A diffusers folder with the real shapes and generated f16 weights, written through the product's own writer, a piece of a
 * tensor at a time.
 *
 * Weights are normal with a deviation of 1/√fan_in (He et al. 2015 without the factor for rectifiers), so that activations
 * neither grow nor vanish on their way through; norms are 1 and biases 0. The numbers come from one block of noise that is
 * repeated: its length is a prime, so that no two rows of a matrix are the same.
 */

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ParameterPart } from "../../src/graph/tensor.ts";
import { float32ToFloat16Bits } from "../../src/platform/float16.ts";
import { type Component, openComponentFolder, openModelDirectory } from "../../src/weights/model-directory.ts";
import { type TensorToWrite, writeSafetensors } from "../../test/fixtures/safetensors-writer.ts";
import { randomValues } from "../random.ts";
import type { Architecture, ComponentSpec } from "./architectures.ts";
import { wantedParameters } from "./wanted-parameters.ts";

// 2¹⁹ − 1, a Mersenne prime: a megabyte of halves.
const BLOCK = 524_287;
const HALF_ONE = 0x3c00;

/** Numbers in all tensors of each component, by its name. */
export type ParameterCounts = ReadonlyMap<string, number>;

/** Writes the folder; it must be empty. Weights are written in the order in which the model uses them. */
export async function writeModelFolder(path: string, architecture: Architecture): Promise<ParameterCounts> {
  const { components, scheduler, pipelineClass } = architecture;
  const tokenizers = Object.keys(components)
    .filter((name) => name.startsWith("text_encoder"))
    .map((name) => name.replace("text_encoder", "tokenizer"));
  const index = {
    _class_name: pipelineClass,
    ...Object.fromEntries(
      Object.entries(components).map(([name, { library, className }]) => [name, [library, className]]),
    ),
    ...Object.fromEntries(tokenizers.map((name) => [name, ["transformers", "CLIPTokenizer"]])),
    scheduler: ["diffusers", scheduler.className],
  };
  await writeFile(join(path, "model_index.json"), JSON.stringify(index));
  const write = async (folder: string, file: string, content: unknown) => {
    await mkdir(join(path, folder));
    await writeFile(join(path, folder, file), JSON.stringify(content));
  };
  for (const [name, { config }] of Object.entries(components)) await write(name, "config.json", config);
  for (const name of tokenizers) await write(name, "tokenizer_config.json", { tokenizer_class: "CLIPTokenizer" });
  await write("scheduler", "scheduler_config.json", scheduler.config);

  const directory = await openModelDirectory(path);
  const counts = new Map<string, number>();
  for (const name of Object.keys(components)) {
    counts.set(name, await writeWeights(directory.component(name)!, join(path, name)));
  }
  return counts;
}

/** Writes one component's folder; `path` must not exist. Gives the numbers in its tensors. */
export async function writeComponentFolder(path: string, { config }: ComponentSpec): Promise<number> {
  await mkdir(path);
  await writeFile(join(path, "config.json"), JSON.stringify(config));
  return writeWeights(await openComponentFolder(path), path);
}

async function writeWeights(component: Component, folder: string): Promise<number> {
  const parts = wantedParameters(component).flatMap((parameter) => parameter.parts);
  const stem = component.kind === "text encoder" ? "model" : "diffusion_pytorch_model";
  const noise = randomValues(component.name, BLOCK, { deviation: 1 });
  const scaled = new Map<number, Uint8Array>();
  const blockOf = (deviation: number) => {
    const known = scaled.get(deviation);
    if (known) return known;
    const block = asBytes(Uint16Array.from(noise, (value) => float32ToFloat16Bits(value * deviation)));
    scaled.set(deviation, block);
    return block;
  };
  const tensors = parts.map((part, index) => tensor(part, index, blockOf));
  await writeSafetensors(join(folder, `${stem}.safetensors`), tensors, { metadata: { format: "pt" } });
  return parts.reduce((sum, part) => sum + countOf(part), 0);
}

function tensor(part: ParameterPart, index: number, blockOf: (deviation: number) => Uint8Array): TensorToWrite {
  const { name, shape } = part;
  const count = countOf(part);
  return {
    name,
    dtype: "F16",
    shape,
    *data() {
      if (shape.length === 1) {
        yield asBytes(new Uint16Array(count).fill(name.endsWith(".weight") ? HALF_ONE : 0));
        return;
      }
      const fanIn = count / shape[0]!;
      const block = blockOf(1 / Math.sqrt(fanIn));
      let from = ((index * 7919) % BLOCK) * 2;
      for (let left = count * 2; left > 0; ) {
        const piece = block.subarray(from, Math.min(from + left, block.byteLength));
        yield piece;
        left -= piece.byteLength;
        from = 0;
      }
    },
  };
}

function countOf(part: ParameterPart): number {
  return part.shape.reduce((product, size) => product * size, 1);
}

function asBytes(halves: Uint16Array): Uint8Array {
  return new Uint8Array(halves.buffer, halves.byteOffset, halves.byteLength);
}
