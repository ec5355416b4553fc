/** The model of `daguerre doctor --model`: what a path holds, without a device. */

import { locateModel } from "../src/engine/model-location.ts";
import { openFamily } from "../src/families/registry.ts";

/** The report in JSON. */
export interface ModelReport {
  readonly name: string;
  readonly family: string;
  /** The kind of a checkpoint in one file, in words; null for a folder. */
  readonly description: string | null;
  readonly width: number;
  readonly height: number;
  readonly num_inference_steps: number;
  readonly guidance_scale: number;
  /** Numbers that are weights, by component. */
  readonly parameters: Readonly<Record<string, number>>;
}

/**
 * Reads what the model at a path is, and writes it.
 * @throws WeightsError, ModelConfigError that says what is there instead
 */
export async function examineModel(
  path: string,
  options: { readonly vae?: string; readonly tinyVae?: string },
  write: (line: string) => void,
): Promise<ModelReport> {
  const located = await locateModel(path);
  const { facts, components } = await openFamily(located, { vae: options.vae, tinyAutoencoder: options.tinyVae });
  const { width, height, steps, guidanceScale } = facts.defaults;
  const parameters = Object.fromEntries(
    components.map(({ id, parameters }) => [id, parameters.flatMap(({ parts }) => parts).reduce(addCount, 0)]),
  );
  const total = Object.values(parameters).reduce((sum, count) => sum + count, 0);
  write("Model");
  write(`  ${facts.name}: ${facts.description ?? `${facts.family}, a folder`}`);
  write(`  ${width}x${height}, ${steps} steps, guidance scale ${guidanceScale}`);
  for (const [id, count] of Object.entries(parameters)) write(`  ${id}: ${millions(count)}`);
  write(`  weights take ${gibibytes(2 * total)} of device memory in f16, ${gibibytes(4 * total)} in f32`);
  write("");
  return {
    name: facts.name,
    family: facts.family,
    description: facts.description ?? null,
    width,
    height,
    num_inference_steps: steps,
    guidance_scale: guidanceScale,
    parameters,
  };
}

function addCount(sum: number, { shape }: { readonly shape: readonly number[] }): number {
  return sum + shape.reduce((product, size) => product * size, 1);
}

function millions(count: number): string {
  return `${(count / 1e6).toFixed(1)} M parameters`;
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
