/** UNet2DConditionModel: single passes, with the plain weights and with saved variants of them. */

import { Recorder } from "../../../src/graph/recorder.ts";
import { loadComponent } from "../../../src/memory/component.ts";
import type { LoadedParameters } from "../../../src/memory/load.ts";
import { unet } from "../../../src/models/unet.ts";
import { parseUnetConfig, type UnetConfig } from "../../../src/models/unet-config.ts";
import { timeProjections, timestepSinusoids } from "../../../src/models/unet-time.ts";
import { type Component, openComponentFolder } from "../../../src/weights/model-directory.ts";
import { groupsOf, prefixOf } from "../case-folder.ts";
import { weightValues } from "../exact.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { asPicture, compareMilestones, compareNetwork, type NetworkOptions, runNetwork } from "../network.ts";
import { channelsLast, type Tensor, toF32 } from "../tensors.ts";

const CLASS = "UNet2DConditionModel";
/** `output`, or `output_fp16_weights`: what the variant `fp16` of the weights gives. */
const OUTPUT = /^output(?:_(\w+)_weights)?$/;

export const unetKind: Kind = {
  name: "unet",
  recognises: ({ components, expected }) =>
    components.some(({ className, hasWeights }) => className === CLASS && hasWeights) &&
    [...expected.keys()].some((name) => /(?:^|\.)encoder_hidden_states$/.test(name)),
  async run(run) {
    const { gpu, storage } = run.bench;
    const components = run.folder.components.filter((component) => component.className === CLASS);
    const prefixes = components.map((component) => prefixOf(component, "unet"));
    for (const component of components) {
      const config = parseUnetConfig(component.config);
      const loaded = new Map<string, { folder: Component; parameters: LoadedParameters }>();
      const load = async (variant: string, record: () => Recorder) => {
        const known = loaded.get(variant);
        if (known) return known;
        const folder = await openComponentFolder(component.path, variant === "" ? {} : { variant });
        const parameters = await loadComponent(gpu, folder, [...record().parameters.values()], { precision: storage });
        loaded.set(variant, { folder, parameters });
        return { folder, parameters };
      };
      for (const [group, fields] of groupsOf(run.folder.expected, prefixOf(component, "unet"), prefixes)) {
        if (!fields.includes("encoder_hidden_states")) continue; // blocks inside a pass, and runs
        await run.group(group, async () => {
          const { record, inputs } = unetPass(run, config, group);
          for (const field of fields) {
            const variant = OUTPUT.exec(field);
            if (!variant) continue;
            const { folder, parameters } = await load(variant[1] ?? "", record);
            const weights = () => weightValues(folder, record());
            const options = { label: `unet ${group}`, parameters, inputs, weights };
            await compareNetwork(run, record(), options, { output: inGroup(group, field) });
            if (variant[1] === undefined) await compareBlocks(run, group, record, options);
            if (variant[1]) continue;
            const named = (module: string, g: Recorder) =>
              module === "time_proj" ? g.inputs.get("timestep") : undefined;
            await compareMilestones(run, group, record, options, named);
          }
        });
      }
      for (const { parameters } of loaded.values()) parameters.destroy();
    }
  },
};

/** The name of a tensor of a group; a case of one pass has no groups. */
function inGroup(group: string, field: string): string {
  return group === "" ? field : `${group}.${field}`;
}

/**
 * Compares the outputs of blocks that a case has beside a pass's own, `<group>.down_blocks.0`, for the first row. They are
 * read in a run of their own, since a tensor that is read cannot be fused away.
 */
async function compareBlocks(
  run: CaseRun,
  group: string,
  record: () => Recorder,
  options: NetworkOptions,
): Promise<void> {
  const blocks = /^(?:down_blocks\.\d+|mid_block|up_blocks\.\d+)$/;
  const prefix = inGroup(group, "");
  const names = [...run.folder.expected.keys()].filter(
    (name) => name.startsWith(prefix) && blocks.test(name.slice(prefix.length)),
  );
  if (names.length === 0) return;
  const recorder = record();
  recorder.outputs.clear();
  for (const name of names) {
    const scope = `${name.slice(prefix.length)}.`;
    const last = recorder.operations.filter((operation) => operation.name.startsWith(scope)).at(-1);
    if (last) recorder.output(name, asPicture(last.output, run.input(name).shape));
  }
  for (const [name, values] of await runNetwork(run, recorder, options)) {
    run.compare(name, values.subarray(0, run.input(name).values.length), run.tolerances.network);
  }
}

/** One pass on the inputs that stand under `group`: how to record it, and what to write. Its output is `output`. */
export function unetPass(
  run: CaseRun,
  config: UnetConfig,
  group: string,
): { record: () => Recorder; inputs: Record<string, Float32Array> } {
  return recordUnet(config, {
    sample: run.input(inGroup(group, "sample")),
    timestep: run.input(inGroup(group, "timestep")),
    text: run.input(inGroup(group, "encoder_hidden_states")),
    guidance: run.optional(inGroup(group, "timestep_cond")),
    textEmbeds: run.optional(inGroup(group, "text_embeds")),
    timeIds: run.optional(inGroup(group, "time_ids")),
  });
}

/** The inputs of a pass as the case has them. */
export interface UnetTensors {
  readonly sample: Tensor;
  readonly timestep: Tensor;
  readonly text: Tensor;
  readonly guidance?: Tensor | undefined;
  readonly textEmbeds?: Tensor | undefined;
  readonly timeIds?: Tensor | undefined;
}

/** One pass on these inputs. */
export function recordUnet(
  config: UnetConfig,
  { sample: given, timestep, text, guidance, textEmbeds, timeIds }: UnetTensors,
): { record: () => Recorder; inputs: Record<string, Float32Array> } {
  const sample = channelsLast(given);
  const width = config.block_out_channels[0]!;
  const rows = sample.shape[0]!;
  const added = textEmbeds && timeIds && addedConditions(config, textEmbeds, timeIds);
  const record = () => {
    const g = new Recorder();
    const output = unet(g, config, {
      sample: g.input("sample", sample.shape),
      time: timeProjections(g, config, {
        timesteps: g.input("timestep", [rows, width]),
        guidance: guidance && g.input("guidance", guidance.shape, { constant: true }),
        added: added && g.input("added", [rows, added.length / rows], { constant: true }),
      }),
      text: g.input("text", text.shape, { constant: true }),
    });
    g.output("output", output);
    return g;
  };
  const sinusoids = { flip: config.flip_sin_to_cos, freqShift: config.freq_shift };
  return {
    record,
    inputs: {
      sample: sample.values,
      timestep: timestepSinusoids(timestep.values, width, sinusoids),
      text: toF32(text),
      ...(guidance ? { guidance: toF32(guidance) } : {}),
      ...(added ? { added } : {}),
    },
  };
}

/** SDXL: each row's pooled text, then the sinusoids of its six sizes. */
export function addedConditions(config: UnetConfig, textEmbeds: Tensor, timeIds: Tensor): Float32Array {
  const [rows, pooled] = textEmbeds.shape as [number, number];
  const sinusoids = timestepSinusoids(timeIds.values, config.addition_time_embed_dim!);
  const sizes = sinusoids.length / rows;
  const added = new Float32Array(rows * (pooled + sizes));
  for (let row = 0; row < rows; row++) {
    added.set(textEmbeds.values.subarray(row * pooled, (row + 1) * pooled), row * (pooled + sizes));
    added.set(sinusoids.subarray(row * sizes, (row + 1) * sizes), row * (pooled + sizes) + pooled);
  }
  return added;
}
