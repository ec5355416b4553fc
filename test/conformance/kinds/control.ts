/** ControlNets and T2I-Adapters: what they add to a UNet, the UNet with it, and the networks of whole runs. */

import { createHash } from "node:crypto";
import { join } from "node:path";
import type { ControlPicture, ControlUse } from "../../../src/diffusion/control.ts";
import type { LoadedModel } from "../../../src/diffusion/loaded-model.ts";
import { openControlFile, T2I_ADAPTER, UNION } from "../../../src/families/control/control-file.ts";
import { controlnetParameters } from "../../../src/families/control/controlnet-part.ts";
import { recordAdapter } from "../../../src/families/control/t2i-part.ts";
import { Recorder } from "../../../src/graph/recorder.ts";
import type { Parameter } from "../../../src/graph/tensor.ts";
import { loadComponent } from "../../../src/memory/component.ts";
import type { LoadedParameters } from "../../../src/memory/load.ts";
import { controlEmbedding, controlnet, parseControlNetConfig } from "../../../src/models/controlnet.ts";
import { featureChannels, parseT2iAdapterConfig, unshuffled } from "../../../src/models/t2i-adapter.ts";
import { type UnetControl, unet } from "../../../src/models/unet.ts";
import { parseUnetConfig, type UnetConfig } from "../../../src/models/unet-config.ts";
import { timeProjections, timestepSinusoids } from "../../../src/models/unet-time.ts";
import { type Component, openModelDirectory } from "../../../src/weights/model-directory.ts";
import { type CaseFolder, groupsOf, tensorFiles } from "../case-folder.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { runNetwork } from "../network.ts";
import { channelsLast, type Tensor, toF32 } from "../tensors.ts";
import type { RunFacts } from "./pipeline-request.ts";
import { addedConditions } from "./unet.ts";

const CONTROLNET = /^ControlNet(?:Union)?Model$/;

export const controlKind: Kind = {
  name: "control",
  recognises: ({ components, facts }) =>
    typeof facts.base === "string" &&
    components.some(({ className }) => CONTROLNET.test(className) || className === T2I_ADAPTER),
  async run(run) {
    const directory = await openModelDirectory(join(run.folder.path, run.folder.facts.base as string));
    const base = directory.component("unet")!;
    const bench = await ControlBench.open(run, base);
    try {
      for (const [group, fields] of groupsOf(run.folder.expected, "", [])) {
        if (fields.includes("encoder_hidden_states") && group !== "") {
          await run.group(group, () => compareControlNets(run, bench, group, fields));
        }
        if (fields.includes("feature0")) await run.group(group, () => compareAdapter(run, bench, group));
      }
    } finally {
      bench.close();
    }
  },
};

/** The networks of a case: those in folders with weights, else those in files. */
function sourcesOf({ components, path, ...folder }: CaseFolder): string[] {
  const folders = components.filter(({ className, hasWeights }) => {
    return hasWeights && (CONTROLNET.test(className) || className === T2I_ADAPTER);
  });
  const files = tensorFiles(folder).map((file) => join(path, file));
  return folders.length > 0 ? folders.map((component) => component.path) : files;
}

/** The weights of a case's networks and of its UNet. */
class ControlBench {
  readonly config: UnetConfig;
  readonly parameters: ReadonlyMap<string, LoadedParameters>;
  readonly files: readonly Component[];

  private constructor(config: UnetConfig, parameters: ReadonlyMap<string, LoadedParameters>, files: Component[]) {
    this.config = config;
    this.parameters = parameters;
    this.files = files;
  }

  static async open(run: CaseRun, base: Component): Promise<ControlBench> {
    const { gpu, storage: precision } = run.bench;
    const config = parseUnetConfig(base.config);
    const parameters = new Map<string, LoadedParameters>();
    const load = async (name: string, files: Component, wanted: readonly Parameter[]) =>
      parameters.set(name, await loadComponent(gpu, files, wanted, { precision }));
    await load("unet", base, plainParameters(config));
    const files = [];
    for (const [index, source] of sourcesOf(run.folder).entries()) {
      const file = await openControlFile(source, config);
      files.push(file);
      await load(`net${index}`, file, parametersOf(file));
    }
    return new ControlBench(config, parameters, files);
  }

  close(): void {
    for (const parameters of this.parameters.values()) parameters.destroy();
  }
}

/** The parameters of a UNet by itself. */
export function plainParameters(config: UnetConfig): Parameter[] {
  const g = new Recorder();
  const side = 2 ** config.block_out_channels.length;
  recordPass(g, config, { rows: 1, height: side, width: side, tokens: 1 }, () => undefined);
  return [...g.parameters.values()];
}

/** A pass that a case gives, and the values of the UNet's own inputs. */
export interface PassValues {
  readonly size: PassSize;
  readonly values: Readonly<Record<string, Float32Array>>;
}

/** The pass whose tensors stand under `group`; `""`: by their own names. */
export function passOf(run: CaseRun, config: UnetConfig, group: string): PassValues {
  const name = (field: string) => (group === "" ? field : `${group}.${field}`);
  const sample = channelsLast(run.input(name("sample")));
  const [rows, height, width] = sample.shape as [number, number, number];
  const text = run.input(name("encoder_hidden_states"));
  const sinusoids = { flip: config.flip_sin_to_cos, freqShift: config.freq_shift };
  const timestep = timestepSinusoids(run.input(name("timestep")).values, config.block_out_channels[0]!, sinusoids);
  const [embeds, ids] = ["text_embeds", "time_ids"].map((field) => run.optional(name(field)));
  const added = embeds && ids && addedConditions(config, embeds, ids);
  const values = { sample: sample.values, text: toF32(text), timestep, ...(added && { added }) };
  return { size: { rows, height, width, tokens: text.shape[1]! }, values };
}

function parametersOf({ className, name, config }: Component): Parameter[] {
  if (className !== T2I_ADAPTER) return controlnetParameters(parseControlNetConfig(name, config, className === UNION));
  const adapter = parseT2iAdapterConfig(name, config);
  const side = adapter.downscale_factor * 2 ** adapter.channels.length;
  return [...recordAdapter(adapter, side, side).parameters.values()];
}

export interface PassSize {
  readonly rows: number;
  readonly height: number;
  readonly width: number;
  readonly tokens: number;
}

interface PassInputs {
  readonly sample: ReturnType<Recorder["input"]>;
  readonly text: ReturnType<Recorder["input"]>;
  readonly timesteps: ReturnType<Recorder["input"]>;
  readonly added?: ReturnType<Recorder["input"]>;
}

/** Records a UNet's pass with what `control` records beside it; its output is `unet_output`. */
export function recordPass(
  g: Recorder,
  config: UnetConfig,
  { rows, height, width, tokens }: PassSize,
  control: (inputs: PassInputs) => UnetControl | undefined,
): void {
  const addedWidth = config.projection_class_embeddings_input_dim;
  const inputs = {
    sample: g.input("sample", [rows, height, width, config.in_channels]),
    text: g.input("text", [rows, tokens, config.cross_attention_dim], { constant: true }),
    timesteps: g.input("timestep", [rows, config.block_out_channels[0]!]),
    added: addedWidth ? g.input("added", [rows, addedWidth], { constant: true }) : undefined,
  };
  const beside = control(inputs);
  const pass = () => {
    const time = timeProjections(g, config, { timesteps: inputs.timesteps, added: inputs.added });
    return unet(g, config, { ...inputs, time, control: beside });
  };
  g.output("unet_output", beside ? g.component("unet", pass) : pass());
}

async function compareControlNets(
  run: CaseRun,
  bench: ControlBench,
  group: string,
  fields: readonly string[],
): Promise<void> {
  const { config } = bench;
  const input = (field: string) => run.input(`${group}.${field}`);
  const pass = passOf(run, config, group);
  const { rows } = pass.size;
  const { facts } = run.folder;
  const union = facts[group] as { conditioning_scale?: number; control_type_idx?: number[] } | undefined;
  const pictures = fields.filter((field) => /^cond\d+$/.test(field)).length;
  const modes = union?.control_type_idx;
  const nets = modes ? 1 : pictures;
  const scales = await scalesOf(run, group, nets, union?.conditioning_scale);
  const g = new Recorder();
  const values: Record<string, Float32Array> = {
    ...pass.values,
    factors: Float32Array.from({ length: rows * nets }, (_, at) => scales[at % nets]!),
  };
  const names: [string, string][] = [["unet_output", `${group}.unet_output`]];
  recordPass(g, config, pass.size, (inputs) => {
    const factors = g.input("factors", [rows, nets], { element: "f32" });
    const residuals = Array.from({ length: nets }, (_, net) => {
      const file = bench.files[net]!;
      const own = parseControlNetConfig(file.name, file.config, file.className === UNION);
      const kinds = own.union?.num_control_type ?? 0;
      const dim = config.addition_time_embed_dim ?? 0;
      const made = g.component(`net${net}`, () => {
        const conditions = (modes ?? [net]).map((mode, picture) => {
          const name = `cond${modes ? picture : net}`;
          const pixels = channelsLast(input(name));
          values[name] = pixels.values;
          const kind = own.union && g.input(`kind${picture}`, [rows, kinds]);
          if (kind) values[`kind${picture}`] = oneHot(rows, kinds, [mode]);
          return { embedding: controlEmbedding(g, own, g.input(name, pixels.shape)), kind };
        });
        if (own.union) {
          run.equal(
            group,
            "control_type",
            oneHot(rows, kinds, modes!),
            [...input("control_type").values],
            run.tolerances.exact,
          );
          run.input(`${group}.control_type_idx`);
          values.kinds = timestepSinusoids(oneHot(rows, kinds, modes!), dim);
        }
        const time = timeProjections(
          g,
          own.unet,
          {
            timesteps: inputs.timesteps,
            added: inputs.added,
            kinds: own.union && g.input("kinds", [rows, kinds * dim]),
          },
          "down",
        );
        return controlnet(g, own, { ...inputs, time, conditions, attendsBatch: true });
      });
      const prefix = modes ? group : `${group}.net${net}`;
      for (const [index, skip] of made.skips.entries()) {
        g.output(`net${net}.down${index}`, g.affine(skip, "scaled", { scale: scales[net]! }));
        names.push([`net${net}.down${index}`, `${prefix}.down${index}`]);
      }
      g.output(`net${net}.mid`, g.affine(made.middle, "scaled", { scale: scales[net]! }));
      names.push([`net${net}.mid`, `${prefix}.mid`]);
      return {
        skips: made.skips.map((tensor) => ({ tensor, factors, column: net })),
        middle: { tensor: made.middle, factors, column: net },
      };
    });
    return { residuals };
  });
  const outputs = await runNetwork(run, g, { label: group, parameters: bench.parameters, inputs: values });
  for (const [output, name] of names) run.compare(name, outputs.get(output)!, run.tolerances.network);
}

/** The scales of a pass: of `case.json`, else of the table in the case's README. */
async function scalesOf(run: CaseRun, group: string, nets: number, scale?: number): Promise<number[]> {
  if (scale !== undefined) return [scale];
  const readme = run.folder.files.includes("README.md") ? await run.folder.readText("README.md") : "";
  return Array.from({ length: nets }, (_, net) => {
    const found = new RegExp(`\`${group}\\.cond${net}\`.*scale ([\\d.]+)`).exec(readme);
    return Number(found?.[1] ?? 1);
  });
}

function oneHot(rows: number, kinds: number, modes: readonly number[]): Float32Array {
  return Float32Array.from({ length: rows * kinds }, (_, at) => (modes.includes(at % kinds) ? 1 : 0));
}

/** A T2I-Adapter's features, in both of its layouts, and the UNet with them. */
async function compareAdapter(run: CaseRun, bench: ControlBench, group: string): Promise<void> {
  const { gpu, storage: precision } = run.bench;
  const { config } = bench;
  const picture = channelsLast(run.input("control_image"));
  const [, height, width] = picture.shape as [number, number, number];
  const isLight = group.includes("light");
  const files = tensorFiles(run.folder).filter((file) => /light/.test(file) === isLight);
  const folders = run.folder.components.filter(({ name }) => /light/.test(name) === isLight).map(({ path }) => path);
  for (const source of [...folders, ...files.map((file) => join(run.folder.path, file))]) {
    const file = await openControlFile(source, config);
    const adapter = parseT2iAdapterConfig(file.name, file.config);
    const parameters = await loadComponent(gpu, file, parametersOf(file), { precision });
    const pixels = { height, width, channels: adapter.in_channels };
    const values = unshuffled(picture.values, pixels, adapter.downscale_factor);
    const features = await runNetwork(run, recordAdapter(adapter, height, width), {
      label: group,
      parameters,
      inputs: { picture: values },
    });
    parameters.destroy();
    const by = source.slice(run.folder.path.length + 1);
    for (const level of featureChannels(adapter).keys()) {
      run.compare(`${group}.feature${level}`, features.get(`feature ${level}`)!, run.tolerances.network, { by });
    }
  }
  if (!run.folder.expected.has(`${group}.output`)) return;
  await compareWithFeatures(run, bench, group);
}

async function compareWithFeatures(run: CaseRun, bench: ControlBench, group: string): Promise<void> {
  const { config } = bench;
  const pass = passOf(run, config, "");
  const { rows } = pass.size;
  const runs = run.folder.facts.runs as Record<string, RunFacts>;
  const values: Record<string, Float32Array> = {
    ...pass.values,
    factors: new Float32Array(rows).fill(runs[group]!.adapter_conditioning_scale!),
  };
  const g = new Recorder();
  recordPass(g, config, pass.size, () => {
    const factors = g.input("factors", [rows, 1], { element: "f32" });
    const features = config.block_out_channels.map((_, level) => {
      const feature = channelsLast(run.input(`${group}.feature${level}`));
      values[`feature${level}`] = feature.values;
      return { tensor: g.input(`feature${level}`, feature.shape), factors, column: 0 };
    });
    return { features: [features] };
  });
  const outputs = await runNetwork(run, g, { label: group, parameters: bench.parameters, inputs: values });
  run.compare(`${group}.output`, outputs.get("unet_output")!, run.tolerances.network);
}

/** The networks of a run, with their pictures. */
export async function controlsOf(
  run: CaseRun,
  { family }: LoadedModel,
  name: string,
  facts: RunFacts,
): Promise<ControlUse[] | undefined> {
  const { adapter_conditioning_scale: adapterScale, controlnet_conditioning_scale: scale } = facts;
  if (adapterScale === undefined && scale === undefined) return undefined;
  const sources = sourcesOf(run.folder).filter(
    (source) => adapterScale === undefined || /light/.test(source) === /light/.test(name),
  );
  const at = <T>(value: T | readonly T[] | undefined, index: number, usual: T): T =>
    Array.isArray(value) ? (value as readonly T[])[index]! : ((value as T | undefined) ?? usual);
  const pictures = [...run.folder.expected.keys()].filter((tensor) => /^control_image\d*$/.test(tensor)).sort();
  const modes = facts.control_mode;
  const count = modes?.length ?? (Array.isArray(scale) ? scale.length : 1);
  const networks = new Map<string, ControlUse["network"]>();
  return Promise.all(
    Array.from({ length: count }, async (_, index): Promise<ControlUse> => {
      const source = sources[modes ? 0 : index]!;
      const network = networks.get(source) ?? (await family.openControl!(source, `control ${source}`));
      networks.set(source, network);
      return {
        field: `control.${index}`,
        network,
        picture: pictureOf(run.input(pictures[index]!)),
        scale: adapterScale ?? at(scale, index, 1),
        start: at(facts.control_guidance_start, index, 0),
        end: at(facts.control_guidance_end, index, 1),
        mode: modes?.[index],
        isGuess: facts.guess_mode,
      };
    }),
  );
}

function pictureOf(tensor: Tensor): ControlPicture {
  const { values, shape } = channelsLast(tensor);
  const digest = createHash("sha256")
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest("hex");
  return { values, height: shape[1]!, width: shape[2]!, digest };
}
