/** Checkpoints of one file: opened as the product opens them; text encoders, UNet and VAE against their references. */

import { join } from "node:path";
import { openCheckpoint } from "../../../src/families/checkpoint/open-checkpoint.ts";
import { Recorder } from "../../../src/graph/recorder.ts";
import { loadComponent } from "../../../src/memory/component.ts";
import { autoencoder } from "../../../src/models/autoencoder.ts";
import { clipText, parseClipTextConfig, poolingPosition } from "../../../src/models/clip.ts";
import { parseUnetConfig } from "../../../src/models/unet-config.ts";
import { fileOf } from "../../../src/platform/folder-files.ts";
import type { Component, ModelDirectory } from "../../../src/weights/model-directory.ts";
import { openTensorFile } from "../../../src/weights/tensor-file.ts";
import { type CaseFolder, tensorFiles } from "../case-folder.ts";
import { entryValues, weightValues } from "../exact.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { compareNetwork, runNetwork } from "../network.ts";
import { channelsFirst, channelsLast, slice, type Tensor } from "../tensors.ts";
import { clipParameters } from "./clip.ts";
import { recordUnet } from "./unet.ts";

/** Fields of configs that no shape says; tiny networks have others than the published ones. */
const UNSAID =
  /^(?:attention_head_dim|num_attention_heads|norm_num_groups|addition_time_embed_dim|sample_size|hidden_act|eos_token_id)$/;

export const singleFileKind: Kind = {
  name: "single file",
  recognises: (folder) =>
    tensorFiles(folder).length === 1 && folder.expected.has("prompt_embeds") && folder.components.length > 0,
  async run(run) {
    const path = join(run.folder.path, tensorFiles(run.folder)[0]!);
    const directory = await openCheckpoint(fileOf(path), { hasVae: true, configs: unsaidIn(run.folder) });
    const prediction = run.folder.facts.prediction_type;
    const found = directory.component("scheduler")!.config.prediction_type;
    if (prediction !== undefined && found !== prediction)
      run.fail("scheduler", "prediction_type", `is ${String(found)}`);
    await run.group("text", () => texts(run, directory));
    await run.group("unet", () => denoiser(run, directory.component("unet")!));
    const vae = directory.component("vae");
    if (vae !== undefined) await run.group("vae", () => wholeAutoencoder(run, vae, "vae."));
    await run.group("dequantised", () => dequantised(run, path));
  },
};

function unsaidIn({ components }: CaseFolder): Record<string, Record<string, unknown>> {
  const picked = components.map(({ name, config }) => {
    return [name, Object.fromEntries(Object.entries(config).filter(([field]) => UNSAID.test(field)))] as const;
  });
  return Object.fromEntries(picked);
}

/** Hidden states side by side, and the pooled vector of the second encoder. */
async function texts(run: CaseRun, directory: ModelDirectory): Promise<void> {
  const isXl = directory.component("text_encoder_2") !== undefined;
  const ids = run.input("input_ids");
  const first = await encode(run, directory.component("text_encoder")!, ids, isXl);
  if (!isXl) {
    run.compare("prompt_embeds", first.hidden, run.tolerances.network);
    return;
  }
  const second = await encode(run, directory.component("text_encoder_2")!, run.input("input_ids_2"), isXl);
  const tokens = ids.values.length;
  const rows = Array.from({ length: tokens }, (_, token) =>
    [first, second].flatMap(({ hidden }) => {
      const width = hidden.length / tokens;
      return [...hidden.subarray(token * width, (token + 1) * width)];
    }),
  );
  run.compare("prompt_embeds", rows.flat(), run.tolerances.network);
  run.compare("pooled", second.pooled!, run.tolerances.network);
}

async function encode(run: CaseRun, component: Component, ids: Tensor, isXl: boolean) {
  const config = parseClipTextConfig(component.name, component.config);
  const images = ids.shape[0]!;
  const g = new Recorder();
  const encoded = clipText(g, config, g.input("ids", [ids.values.length], { element: "u32" }), images);
  g.output("hidden", isXl ? encoded.hiddenStates.at(-2)! : encoded.lastHiddenState);
  if (config.withProjection) g.output("pooled", encoded.pooled(g.input("rows", [images], { element: "u32" })));
  const ends = Array.from({ length: images }, (_, image) => poolingPosition(config, slice(ids, image).values));
  const inputs = {
    ids: Uint32Array.from(ids.values),
    ...(config.withProjection && { rows: Uint32Array.from(ends) }),
  };
  const parameters = await loadComponent(run.bench.gpu, component, [...clipParameters(config).parameters.values()], {
    precision: run.bench.storage,
  });
  try {
    const weights = () => weightValues(component, g);
    const outputs = await runNetwork(run, g, { label: component.name, parameters, inputs, weights });
    return { hidden: outputs.get("hidden")!, pooled: outputs.get("pooled") };
  } finally {
    parameters.destroy();
  }
}

async function denoiser(run: CaseRun, component: Component): Promise<void> {
  const config = parseUnetConfig(component.config);
  const [prefix, output] = run.folder.expected.has("unet.sample") ? ["unet.", "unet.output"] : ["", "output"];
  run.optional("output_unquantised"); // of weights that the file does not have
  const { record, inputs } = recordUnet(config, {
    sample: run.input(`${prefix}sample`),
    timestep: run.input(`${prefix}timestep`),
    text: run.optional("encoder_hidden_states") ?? run.input("prompt_embeds"),
    textEmbeds: run.optional("pooled"),
    timeIds: run.optional("time_ids"),
  });
  const parameters = await loadComponent(run.bench.gpu, component, [...record().parameters.values()], {
    precision: run.bench.storage,
  });
  try {
    const weights = () => weightValues(component, record());
    await compareNetwork(run, record(), { label: "unet", parameters, inputs, weights }, { output });
  } finally {
    parameters.destroy();
  }
}

/** `<prefix>image` to moments, and `<prefix>z` to a picture. */
export async function wholeAutoencoder(run: CaseRun, component: Component, prefix: string): Promise<void> {
  const coder = autoencoder(component);
  const passes = [
    { from: "image", to: "moments", apply: coder.encode },
    { from: "z", to: "image_out", apply: coder.decode },
  ];
  const all = new Recorder();
  for (const { from, apply } of passes) apply(all, all.input(from, channelsLast(run.input(prefix + from)).shape));
  const parameters = await loadComponent(run.bench.gpu, component, [...all.parameters.values()], {
    precision: run.bench.storage,
  });
  try {
    for (const { from, to, apply } of passes) {
      const input = channelsLast(run.input(prefix + from));
      const g = new Recorder();
      g.output(to, apply(g, g.input(from, input.shape)));
      const weights = () => weightValues(component, g);
      const options = { label: `vae ${to}`, parameters, inputs: { [from]: input.values }, weights };
      await compareNetwork(run, g, options, { [to]: prefix + to });
    }
  } finally {
    parameters.destroy();
  }
}

async function dequantised(run: CaseRun, path: string): Promise<void> {
  const file = await openTensorFile(path);
  try {
    for (const name of run.folder.expected.keys()) {
      if (!name.startsWith("dequantised.")) continue;
      const entry = file.get(name.slice("dequantised.".length));
      const group = { group: "dequantised" };
      if (entry) run.compare(name, channelsFirst([], await entryValues(entry)), run.tolerances.exact, group);
    }
  } finally {
    await file.close();
  }
}
