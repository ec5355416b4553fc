/** Adapter files merged into a model of another case: one file at a scale, several together, and the text encoders'. */

import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { Recorder } from "../../../src/graph/recorder.ts";
import type { Parameter } from "../../../src/graph/tensor.ts";
import { loadComponent } from "../../../src/memory/component.ts";
import { type LoadedParameters, loadParameters } from "../../../src/memory/load.ts";
import { mergeLoras, modulesOf, type WeightedDelta } from "../../../src/memory/merge-loras.ts";
import { clipText, parseClipTextConfig, poolingPosition } from "../../../src/models/clip.ts";
import { parseUnetConfig } from "../../../src/models/unet-config.ts";
import { type LoraComponent, openLora, type ResolveOptions } from "../../../src/weights/lora.ts";
import { checkTensors } from "../../../src/weights/manifest.ts";
import { type Component, openComponentFolder } from "../../../src/weights/model-directory.ts";
import { mergedExactly } from "../../adapter-reference.ts";
import type { CaseFolder } from "../case-folder.ts";
import { type WeightValues, weightValues } from "../exact.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { compareNetwork, runNetwork } from "../network.ts";
import { clipParameters } from "./clip.ts";
import { recordUnet, unetPass } from "./unet.ts";

export const loraKind: Kind = {
  name: "lora",
  recognises: (folder) => {
    const { facts, expected, components } = folder;
    const isAboutUnet = facts.model !== undefined || (facts.base !== undefined && expected.has("sample"));
    return isAboutUnet && components.length === 0 && adapterFiles(folder).length > 0;
  },
  async run(run) {
    const { model, base } = run.folder.facts as {
      model?: string | { unet?: string; text_encoder?: string };
      base?: string;
    };
    const given = model ?? base ?? ".";
    const { unet, text_encoder } = typeof given === "string" ? { unet: given } : { text_encoder: undefined, ...given };
    const names = [...run.folder.expected.keys()];
    if (names.some((name) => name.endsWith(".prompt_embeds")))
      return runTwoEncoders(run, join(run.folder.path, given as string));
    if (names.some(isUnetOutput)) {
      await run.group("unet", () => runUnet(run, join(run.folder.path, unet ?? ".", "unet")));
    }
    if (names.some((name) => name.endsWith(".last_hidden_state"))) {
      await run.group("text_encoder", () =>
        runTextEncoder(run, join(run.folder.path, text_encoder ?? ".", "text_encoder")),
      );
    }
  },
};

/** `lora_peft.safetensors`, or any file that groups of tensors are named for: `loha` of `loha.scale0.6`. */
function adapterFiles({ files, expected }: CaseFolder): string[] {
  const names = [...expected.keys()];
  return files.filter((file) => {
    if (!file.endsWith(".safetensors")) return false;
    const stem = basename(file, ".safetensors");
    return stem.startsWith("lora") || names.some((name) => name.startsWith(`${stem}.scale`));
  });
}

/** `lora_peft.scale1.0.output`, or `loha.scale1.0`. */
function isUnetOutput(name: string): boolean {
  return name.endsWith(".output") || /\.scale-?[\d.]+$/.test(name);
}

/** A LoRA file of the case, and how strongly it counts. */
interface Member {
  readonly file: string;
  readonly scale: number;
}

async function runUnet(run: CaseRun, path: string): Promise<void> {
  const folder = await openComponentFolder(path);
  const config = parseUnetConfig(folder.config);
  // The inputs stand by themselves, or in a group.
  const pass = unetPass(run, config, run.folder.expected.has("sample") ? "" : "input");
  const parameters = [...pass.record().parameters.values()];
  const base = await loadStored(run, folder, parameters);
  try {
    const compute = async ({ parameters, weights }: Merged, name: string) => {
      const options = { label: `unet ${name}`, parameters, inputs: pass.inputs, weights };
      await compareNetwork(run, pass.record(), options, { output: name });
    };
    const baseWeights = () => weightValues(folder, pass.record());
    const options = { layersPerBlock: config.layers_per_block };
    for (const name of run.folder.expected.keys()) {
      if (!isUnetOutput(name) || name === "base.output") continue;
      const group = name.replace(/\.output$/, "");
      await run.group(group, async () => {
        const members = await membersOf(run, group);
        const merged = await merge(
          run,
          "unet",
          { parameters: base, weights: baseWeights },
          parameters,
          members,
          options,
        );
        await compute(merged, name).finally(() => merged.parameters.destroy());
      });
    }
    // Last: what merging may have left behind would show.
    if (run.folder.expected.has("base.output"))
      await compute({ parameters: base, weights: baseWeights }, "base.output");
  } finally {
    base.destroy();
  }
}

async function runTextEncoder(run: CaseRun, path: string): Promise<void> {
  const folder = await openComponentFolder(path);
  const config = parseClipTextConfig("text_encoder", folder.config);
  const parameters = [...clipParameters(config).parameters.values()];
  const base = await loadStored(run, folder, parameters);
  const weights = () => weightValues(folder, clipParameters(config));
  try {
    for (const name of run.folder.expected.keys()) {
      if (!name.endsWith(".last_hidden_state")) continue;
      const group = name.slice(0, name.lastIndexOf("."));
      await run.group(group, async () => {
        const ids = run.input(`${group.split(".")[0]}.input_ids`);
        const g = new Recorder();
        const encoded = clipText(g, config, g.input("ids", [ids.values.length], { element: "u32" }), ids.shape[0]!);
        g.output("hidden", encoded.lastHiddenState);
        const members = await membersOf(run, group);
        const merged = await merge(run, "text_encoder", { parameters: base, weights }, parameters, members);
        const inputs = { ids: Uint32Array.from(ids.values) };
        const options = { label: `text encoder ${group}`, ...merged, inputs };
        await compareNetwork(run, g, options, { hidden: name }).finally(() => merged.parameters.destroy());
      });
    }
  } finally {
    base.destroy();
  }
}

/** SDXL: the conditioning of both text encoders, and a pass on the conditioning that the case has. */
async function runTwoEncoders(run: CaseRun, path: string): Promise<void> {
  const groups = [...run.folder.expected.keys()]
    .filter((name) => name.endsWith(".prompt_embeds"))
    .map((name) => name.slice(0, -".prompt_embeds".length));
  const membersFor = async (group: string, component: LoraComponent): Promise<Member[]> => {
    const textOnly = /^(.+)\.te_only$/.exec(group);
    if (!textOnly) return membersOf(run, group);
    return component === "unet" ? [] : [{ file: fileNamed(run, textOnly[1]!), scale: 1 }];
  };
  for (const group of groups) {
    await run.group(group, async () => {
      const outputs: Float64Array[] = [];
      let pooled: Float64Array | undefined;
      for (const [index, name] of (["text_encoder", "text_encoder_2"] as const).entries()) {
        const members = await membersFor(group, name);
        const ids = run.input(index === 0 ? "input_ids" : "input_ids_2");
        const encoded = await encodeMerged(run, join(path, name), name, members, ids.values);
        outputs.push(encoded.get("hidden")!);
        pooled = encoded.get("pooled") ?? pooled;
      }
      run.compare(
        `${group}.prompt_embeds`,
        besides(outputs, run.input("input_ids").values.length),
        run.tolerances.network,
      );
      run.compare(`${group}.pooled`, pooled!, run.tolerances.network);
      await passMerged(run, join(path, "unet"), group, await membersFor(group, "unet"));
    });
  }
}

/** The state before the last of a text encoder with adapters, and its projection if it has one. */
async function encodeMerged(
  run: CaseRun,
  path: string,
  component: LoraComponent,
  members: readonly Member[],
  ids: ArrayLike<number>,
): Promise<Map<string, Float64Array>> {
  const folder = await openComponentFolder(path);
  const config = parseClipTextConfig(component, folder.config);
  const parameters = [...clipParameters(config).parameters.values()];
  const base = await loadStored(run, folder, parameters);
  try {
    const weights = () => weightValues(folder, clipParameters(config));
    const merged = await merge(run, component, { parameters: base, weights }, parameters, members);
    const g = new Recorder();
    const encoded = clipText(g, config, g.input("ids", [ids.length], { element: "u32" }), 1);
    g.output("hidden", encoded.hiddenStates.at(-2)!);
    if (config.withProjection) g.output("pooled", encoded.pooled(g.input("rows", [1], { element: "u32" })));
    const inputs: Record<string, Uint32Array> = { ids: Uint32Array.from(ids) };
    if (config.withProjection) inputs.rows = Uint32Array.of(poolingPosition(config, Int32Array.from(ids)));
    const options = { label: `${component} merged`, ...merged, inputs };
    return await runNetwork(run, g, options).finally(() => merged.parameters.destroy());
  } finally {
    base.destroy();
  }
}

async function passMerged(run: CaseRun, path: string, group: string, members: readonly Member[]): Promise<void> {
  const folder = await openComponentFolder(path);
  const config = parseUnetConfig(folder.config);
  const pass = recordUnet(config, {
    sample: run.input("sample"),
    timestep: run.input("timestep"),
    text: run.input(`${group}.prompt_embeds`),
    textEmbeds: run.input(`${group}.pooled`),
    timeIds: run.input("time_ids"),
  });
  const parameters = [...pass.record().parameters.values()];
  const base = await loadStored(run, folder, parameters);
  try {
    const weights = () => weightValues(folder, pass.record());
    const options = { layersPerBlock: config.layers_per_block };
    const merged = await merge(run, "unet", { parameters: base, weights }, parameters, members, options);
    await compareNetwork(
      run,
      pass.record(),
      { label: `unet ${group}`, ...merged, inputs: pass.inputs },
      {
        output: `${group}.unet_output`,
      },
    ).finally(() => merged.parameters.destroy());
  } finally {
    base.destroy();
  }
}

/** Rows of several networks side by side. */
function besides(outputs: readonly Float64Array[], rows: number): Float64Array {
  const all = Array.from({ length: rows }, (_, row) =>
    outputs.flatMap((values) => [...values.subarray((row * values.length) / rows, ((row + 1) * values.length) / rows)]),
  );
  return Float64Array.from(all.flat());
}

/** Stored as the bench says, although a file of halves would be stored as halves, and a sum with them be rounded to one. */
async function loadStored(
  run: CaseRun,
  folder: Component,
  parameters: readonly Parameter[],
): Promise<LoadedParameters> {
  const { gpu, storage } = run.bench;
  if (storage === "f16") return loadComponent(gpu, folder, parameters, { precision: storage });
  const weights = await folder.weights();
  try {
    const parts = parameters.flatMap((parameter) => parameter.parts);
    const tensors = checkTensors(weights, parts, { component: folder.name, ignore: () => true });
    return await loadParameters(gpu, parameters, tensors, { label: folder.name, storage });
  } finally {
    await weights.close();
  }
}

/** Weights on the device, and the same for the judge. */
interface Merged {
  readonly parameters: LoadedParameters;
  readonly weights: () => Promise<WeightValues>;
}

async function merge(
  run: CaseRun,
  component: LoraComponent,
  base: Merged,
  parameters: readonly Parameter[],
  members: readonly Member[],
  options?: ResolveOptions,
): Promise<Merged> {
  const modules = modulesOf(parameters);
  const resolved = async <T>(use: (deltas: WeightedDelta[]) => Promise<T>): Promise<T> => {
    const files = await Promise.all(members.map(({ file }) => openLora(join(run.folder.path, file))));
    try {
      return await use(
        files.flatMap((file, index) =>
          file.resolve(component, modules, options).map((delta) => ({ delta, scale: members[index]!.scale })),
        ),
      );
    } finally {
      await Promise.all(files.map((file) => file.close()));
    }
  };
  return {
    parameters: await resolved((deltas) =>
      mergeLoras(run.bench.gpu, base.parameters, parameters, deltas, { label: component }),
    ),
    weights: () => resolved(async (deltas) => mergeExactly(await base.weights(), parameters, deltas)),
  };
}

/** The sum in float64, kept in float32 as the reference keeps it. */
async function mergeExactly(
  weights: WeightValues,
  parameters: readonly Parameter[],
  deltas: readonly WeightedDelta[],
): Promise<WeightValues> {
  const merged = new Map(weights);
  const shapes = new Map(parameters.flatMap(({ parts }) => parts.map(({ name, shape }) => [name, shape] as const)));
  const nameOf = ({ delta }: WeightedDelta) => `${delta.module}.${delta.kind === "vector" ? delta.of : "weight"}`;
  for (const name of new Set(deltas.map(nameOf))) {
    const own = deltas.filter((weighted) => nameOf(weighted) === name);
    const values = await mergedExactly({ shape: shapes.get(name)!, values: merged.get(name)! }, own);
    merged.set(name, values.map(Math.fround));
  }
  return merged;
}

/** The files that a group of tensors is about: `base` none, `<file>.scale<s>` one, `stack` those that the README names. */
async function membersOf(run: CaseRun, group: string): Promise<Member[]> {
  if (group === "base") return [];
  const single = /^(.+)\.scale(-?[\d.]+)$/.exec(group);
  if (single) return [{ file: fileNamed(run, single[1]!), scale: Number(single[2]) }];
  const readme = await readFile(join(run.folder.path, "README.md"), "utf8").catch(() => "");
  const row = readme.split("\n").find((line) => line.includes(`\`${group}.output\``)) ?? "";
  const members = [...row.matchAll(/(lora_\w+) at (-?[\d.]*\d)/g)];
  if (members.length === 0) throw new Error("neither its name nor the README says which LoRA files it is of");
  return members.map(([, file, scale]) => ({ file: fileNamed(run, file!), scale: Number(scale) }));
}

/** `lora_peft.safetensors` for `peft`; else the one file that has the word in its name. */
function fileNamed(run: CaseRun, word: string): string {
  const files = adapterFiles(run.folder);
  const stem = (file: string) => basename(file, ".safetensors");
  const exact = files.find((file) => stem(file) === word || stem(file) === `lora_${word}`);
  const containing = files.filter((file) => `_${stem(file)}_`.includes(`_${word}_`));
  if (exact) return exact;
  if (containing.length === 1) return containing[0]!;
  throw new Error(`${containing.length === 0 ? "no" : "more than one"} LoRA file is named for ${word}`);
}
