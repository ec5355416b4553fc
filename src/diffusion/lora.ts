/**
 * LoRA for one run: the files are merged into copies of the weights they touch, and the copies go when the run ends.
 * The model's own weights are never written, so nothing is left behind.
 */

import type { Parameter } from "../graph/tensor.ts";
import type { ParameterBuffers } from "../graph/weights.ts";
import type { LoadedParameters } from "../memory/load.ts";
import { mergeLoras } from "../memory/merge-loras.ts";
import { type Residency, withRoom } from "../memory/residency.ts";
import { ownTurn } from "../platform/turns.ts";
import { WeightsError } from "../weights/errors.ts";
import { type LoraComponent, type LoraFile, type ModuleShapes, openLora } from "../weights/lora.ts";
import type { DiffusionModel } from "./diffusion-model.ts";

/** A LoRA file and how strongly it counts: W + scale · (alpha / rank) · up · down. */
export interface LoraRequest {
  readonly path: string;
  readonly scale: number;
}

/** The weights of one run. */
export interface RunWeights {
  /** Set apart in plan and prompt keys; empty for the model's own weights. */
  readonly key: string;
  /** What may give way while it runs: nothing of a model whose weights a run's own build on. */
  readonly residency: Residency;
  readonly unet: ParameterBuffers;
  /** Of the weights that are this run's own, beside the model's. */
  readonly bytes: number;
  /** By the encoder's component. */
  encoder(component: string): ParameterBuffers;
  /** The model's for as long as it lives: later runs find them, and what was made of them, as they are. */
  readonly lasting: boolean;
  destroy(): void;
}

let runs = 0;

/**
 * The weights of the model's own variants, given by their files, which are merged at their first use and then the model's:
 * a realtime session that merged them for each picture would do little else. Where memory is limited they are a run's, as
 * any LoRA's are: the model's own weights, on which they build, must be free to give way.
 * Throws `WeightsError` where a file does not fit this model.
 */
export function variantWeights(model: DiffusionModel, paths: readonly string[]): Promise<RunWeights> {
  const loras = paths.map((path) => ({ path, scale: 1 }));
  if (model.gpu.maxBytes !== undefined || loras.length === 0) return weightsOfRun(model, loras);
  const key = paths.join("\n");
  let merging = model.variants.get(key);
  if (merging === undefined) {
    merging = weightsOfRun(model, loras).then((weights) => ({ ...weights, lasting: true }));
    model.variants.set(key, merging);
    merging.catch(() => model.variants.delete(key));
  }
  return merging;
}

/**
 * The model's weights with `loras` merged in; without any, the model's own.
 * Throws `WeightsError` naming file and module where a file does not fit this model, before anything is allocated.
 */
export async function weightsOfRun(model: DiffusionModel, loras: readonly LoraRequest[]): Promise<RunWeights> {
  const encoders = new Map(model.encoders.map((encoder) => [encoder.component, encoder]));
  if (loras.length === 0) {
    const encoder = (component: string) => encoders.get(component)!.parameters;
    return { key: "", residency: model, unet: model.unet.weights, bytes: 0, encoder, lasting: true, destroy() {} };
  }
  const residency: Residency = { components: [], plans: model.plans };
  await withRoom(
    residency,
    [model.unet.weights, ...model.encoders.map(({ parameters }) => parameters)],
    async () => {},
  );
  const components = new Map<LoraComponent, { base: LoadedParameters; parameters: readonly Parameter[] }>([
    ["unet", { base: model.unet.weights, parameters: model.unet.parameters }],
    ...model.encoders.map((encoder): [LoraComponent, { base: LoadedParameters; parameters: readonly Parameter[] }] => [
      encoder.component as LoraComponent,
      { base: encoder.parameters, parameters: [...encoder.recorder.parameters.values()] },
    ]),
  ]);
  const modules = new Map([...components].map(([name, { parameters }]) => [name, modulesOf(parameters)]));
  const options = { layersPerBlock: model.unet.config.layers_per_block };

  const files: LoraFile[] = [];
  const merged = new Map<LoraComponent, LoadedParameters>();
  const destroy = () => {
    for (const weights of merged.values()) weights.destroy();
    merged.clear();
  };
  try {
    for (const { path } of loras) {
      const file = await openLora(path);
      files.push(file);
      await ownTurn();
      const [stray] = file.unmatched(Object.fromEntries(modules), options);
      if (stray !== undefined) {
        throw new WeightsError("lora-module", `changes ${stray}, which this model does not have`, { file: file.file });
      }
    }
    for (const [name, { base, parameters }] of components) {
      await ownTurn();
      const deltas = files.flatMap((file, index) => {
        if (!file.components.has(name)) return [];
        const { scale } = loras[index]!;
        return file.resolve(name, modules.get(name)!, options).map((delta) => ({ delta, scale }));
      });
      if (deltas.length === 0) continue;
      const merge = () => mergeLoras(model.gpu, base, parameters, deltas, { label: `${name} with LoRA` });
      merged.set(name, await withRoom(residency, [], merge));
    }
    runs += 1;
    return {
      key: `lora ${runs} `,
      lasting: false,
      residency,
      unet: merged.get("unet") ?? model.unet.weights,
      bytes: [...merged.values()].reduce((sum, { bytes }) => sum + bytes, 0),
      encoder: (component) => merged.get(component as LoraComponent) ?? encoders.get(component)!.parameters,
      destroy,
    };
  } catch (error) {
    destroy();
    throw error;
  } finally {
    for (const file of files) await file.close();
  }
}

/** Modules that a LoRA may change: everything with a matrix, by name, with the shape in the checkpoint. */
function modulesOf(parameters: readonly Parameter[]): ModuleShapes {
  const modules = new Map<string, readonly number[]>();
  for (const parameter of parameters) {
    if (parameter.kind !== "matrix") continue;
    for (const { name, shape } of parameter.parts) modules.set(name.replace(/\.weight$/, ""), shape);
  }
  return modules;
}
