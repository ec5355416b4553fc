/** CLIP text encoders: hidden states, pooled states and projections, and which token is the pooled one. */

import { Recorder } from "../../../src/graph/recorder.ts";
import type { Tensor as GraphTensor } from "../../../src/graph/tensor.ts";
import { loadComponent } from "../../../src/memory/component.ts";
import type { LoadedParameters } from "../../../src/memory/load.ts";
import {
  type ClipTextConfig,
  type ClipTextOutputs,
  clipText,
  parseClipTextConfig,
  poolingPosition,
} from "../../../src/models/clip.ts";
import { openComponentFolder } from "../../../src/weights/model-directory.ts";
import { type ComponentFolder, groupsOf, prefixOf } from "../case-folder.ts";
import { weightValues } from "../exact.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { compareMilestones, compareNetwork } from "../network.ts";
import { slice } from "../tensors.ts";

const CLASSES = ["CLIPTextModel", "CLIPTextModelWithProjection"];

export const clipKind: Kind = {
  name: "clip",
  recognises: ({ components, expected, files }) =>
    !files.includes("model_index.json") &&
    components.some((component) => CLASSES.includes(component.className)) &&
    [...expected.keys()].some((name) => name.endsWith(".input_ids")),
  async run(run) {
    const components = run.folder.components.filter((component) => CLASSES.includes(component.className));
    const prefixes = components.map((component) => prefixOf(component, "text_encoder"));
    for (const component of components) {
      const groups = groupsOf(run.folder.expected, prefixOf(component, "text_encoder"), prefixes);
      await run.group(component.name, () => runComponent(run, component, groups));
    }
  },
};

async function runComponent(run: CaseRun, component: ComponentFolder, groups: Map<string, string[]>): Promise<void> {
  const config = parseClipTextConfig(component.name, component.config);
  const parameters = await loadTextEncoder(run, component.path, config);
  try {
    for (const [group, fields] of groups) {
      await run.group(group, () =>
        runGroup(run, component.path, { ...config, ...endToken(run, group) }, parameters, group, fields),
      );
    }
  } finally {
    parameters.destroy();
  }
}

/** Loads a text encoder's folder with all that a case may ask of it. */
export async function loadTextEncoder(run: CaseRun, path: string, config: ClipTextConfig): Promise<LoadedParameters> {
  const { gpu, storage } = run.bench;
  return loadComponent(gpu, await openComponentFolder(path), [...clipParameters(config).parameters.values()], {
    precision: storage,
  });
}

/** A recording for the sake of its parameters. */
export function clipParameters(config: ClipTextConfig): Recorder {
  const g = new Recorder();
  clipText(g, config, g.input("ids", [1], { element: "u32" }), 1).pooled(g.input("rows", [1], { element: "u32" }));
  return g;
}

/** Groups `eos_<variant>…` are of a config with another end token, which `case.json` gives. */
function endToken(run: CaseRun, group: string): { eos_token_id?: number } {
  const variants = (run.folder.facts.eos_variants ?? {}) as Record<string, number>;
  const variant = Object.keys(variants).find((name) => `${group}_`.includes(`eos_${name}_`));
  return variant === undefined ? {} : { eos_token_id: variants[variant]! };
}

/** The tensor that a case calls `field`. */
function outputNamed(
  g: Recorder,
  config: ClipTextConfig,
  encoded: ClipTextOutputs,
  rows: GraphTensor,
  field: string,
): GraphTensor | undefined {
  const fromEnd = /^hidden_states_m(\d+)$/.exec(field);
  if (fromEnd) return encoded.hiddenStates.at(-Number(fromEnd[1]));
  const skip = /^clip_skip(\d+)$/.exec(field);
  if (skip) return encoded.normalised(Number(skip[1]));
  switch (field) {
    case "last_hidden_state":
      return encoded.lastHiddenState;
    case "text_embeds":
      return config.withProjection ? encoded.pooled(rows) : undefined;
    case "pooler_output":
      return config.withProjection ? g.gatherRows(encoded.lastHiddenState, rows, "pooler") : encoded.pooled(rows);
    default:
      return undefined;
  }
}

async function runGroup(
  run: CaseRun,
  path: string,
  config: ClipTextConfig,
  parameters: LoadedParameters,
  group: string,
  fields: readonly string[],
): Promise<void> {
  const ids = run.input(`${group}.input_ids`);
  const images = ids.shape[0]!;
  const positions = Array.from({ length: images }, (_, image) => poolingPosition(config, slice(ids, image).values));
  if (fields.includes("pool_index")) run.compare(`${group}.pool_index`, positions, run.tolerances.exact);
  const record = () => {
    const g = new Recorder();
    const encoded = clipText(g, config, g.input("ids", [ids.values.length], { element: "u32" }), images);
    const rows = g.input("rows", [images], { element: "u32" });
    for (const field of fields) {
      const tensor = outputNamed(g, config, encoded, rows, field);
      if (tensor) g.output(field, tensor);
    }
    return { g, encoded };
  };
  const inputs = { ids: Uint32Array.from(ids.values), rows: Uint32Array.from(positions) };
  const weights = async () => weightValues(await openComponentFolder(path), record().g);
  const options = { label: `text encoder ${group}`, parameters, inputs, weights };
  const { g } = record();
  const tensors = Object.fromEntries([...g.outputs.keys()].map((field) => [field, `${group}.${field}`]));
  await compareNetwork(run, g, options, tensors);

  const probed = record();
  const named = (module: string) => {
    const layer = /^hidden_states\.(\d+)$/.exec(module);
    return layer ? probed.encoded.hiddenStates[Number(layer[1])] : undefined;
  };
  await compareMilestones(run, group, () => probed.g, options, named);
}
