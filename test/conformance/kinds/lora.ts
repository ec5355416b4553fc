/** LoRA files merged into a model of another case: one file at a scale, several together, and the text encoder's. */

import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { Recorder } from "../../../src/graph/recorder.ts";
import type { Parameter } from "../../../src/graph/tensor.ts";
import { loadComponent } from "../../../src/memory/component.ts";
import type { LoadedParameters } from "../../../src/memory/load.ts";
import { mergeLoras, type WeightedDelta } from "../../../src/memory/merge-loras.ts";
import { clipText, parseClipTextConfig } from "../../../src/models/clip.ts";
import { parseUnetConfig } from "../../../src/models/unet-config.ts";
import { type LoraComponent, type ModuleShapes, openLora, type ResolveOptions } from "../../../src/weights/lora.ts";
import { openComponentFolder } from "../../../src/weights/model-directory.ts";

import { entryValues, type WeightValues, weightValues } from "../exact.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { compareNetwork } from "../network.ts";
import { clipParameters, loadTextEncoder } from "./clip.ts";
import { unetPass } from "./unet.ts";

export const loraKind: Kind = {
  name: "lora",
  recognises: ({ facts, files, components }) =>
    facts.model !== undefined && components.length === 0 && files.some((file) => /^lora.*\.safetensors$/.test(file)),
  async run(run) {
    const { model } = run.folder.facts as { model: string | { unet?: string; text_encoder?: string } };
    const { unet, text_encoder } = typeof model === "string" ? { unet: model } : { text_encoder: undefined, ...model };
    const names = [...run.folder.expected.keys()];
    if (names.some((name) => name.endsWith(".output"))) {
      await run.group("unet", () => runUnet(run, join(run.folder.path, unet ?? ".", "unet")));
    }
    if (names.some((name) => name.endsWith(".last_hidden_state"))) {
      await run.group("text_encoder", () =>
        runTextEncoder(run, join(run.folder.path, text_encoder ?? ".", "text_encoder")),
      );
    }
  },
};

/** A LoRA file of the case, and how strongly it counts. */
interface Member {
  readonly file: string;
  readonly scale: number;
}

async function runUnet(run: CaseRun, path: string): Promise<void> {
  const folder = await openComponentFolder(path);
  const config = parseUnetConfig(folder.config);
  const pass = unetPass(run, config, "input");
  const parameters = [...pass.record().parameters.values()];
  const base = await loadComponent(run.bench.gpu, folder, parameters, { precision: run.bench.storage });
  try {
    const compute = async ({ parameters, weights }: Merged, name: string) => {
      const options = { label: `unet ${name}`, parameters, inputs: pass.inputs, weights };
      await compareNetwork(run, pass.record(), options, { output: name });
    };
    const baseWeights = () => weightValues(folder, pass.record());
    const options = { layersPerBlock: config.layers_per_block };
    for (const name of run.folder.expected.keys()) {
      if (!name.endsWith(".output")) continue;
      const group = name.slice(0, -".output".length);
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
  const base = await loadTextEncoder(run, path, config);
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
    weights: () => resolved(async (deltas) => mergeExactly(await base.weights(), deltas)),
  };
}

/** The sum in float64, kept in float32 as the reference keeps it. A `mid`, which no case has, is not in it. */
async function mergeExactly(weights: WeightValues, deltas: readonly WeightedDelta[]): Promise<WeightValues> {
  const merged = new Map(weights);
  for (const { delta, scale } of deltas) {
    const name = `${delta.module}.weight`;
    const values = merged.get(name)!.slice();
    const [down, up] = [await entryValues(delta.down), await entryValues(delta.up)];
    const columns = values.length / delta.up.shape[0]!;
    for (let at = 0; at < values.length; at++) {
      let sum = 0;
      for (let r = 0; r < delta.rank; r++) {
        sum += up[Math.floor(at / columns) * delta.rank + r]! * down[r * columns + (at % columns)]!;
      }
      values[at]! += scale * delta.scale * sum;
    }
    merged.set(name, values);
  }
  for (const name of new Set(deltas.map(({ delta }) => `${delta.module}.weight`))) {
    merged.set(name, merged.get(name)!.map(Math.fround));
  }
  return merged;
}

function modulesOf(parameters: readonly Parameter[]): ModuleShapes {
  const matrices = parameters.filter((parameter) => parameter.kind === "matrix");
  return new Map(
    matrices.flatMap(({ parts }) => parts.map(({ name, shape }) => [name.replace(/\.weight$/, ""), shape])),
  );
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
  const files = run.folder.files.filter((file) => /^lora.*\.safetensors$/.test(file));
  const stem = (file: string) => basename(file, ".safetensors");
  const exact = files.find((file) => stem(file) === word || stem(file) === `lora_${word}`);
  const containing = files.filter((file) => `_${stem(file)}_`.includes(`_${word}_`));
  if (exact) return exact;
  if (containing.length === 1) return containing[0]!;
  throw new Error(`${containing.length === 0 ? "no" : "more than one"} LoRA file is named for ${word}`);
}
