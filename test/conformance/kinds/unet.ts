/** UNet2DConditionModel: single passes, with the plain weights and with saved variants of them. */

import { Recorder } from "../../../src/graph/recorder.ts";
import { loadComponent } from "../../../src/memory/component.ts";
import type { LoadedParameters } from "../../../src/memory/load.ts";
import {
  parseUnetConfig,
  timeProjections,
  timestepSinusoids,
  type UnetConfig,
  unet,
} from "../../../src/models/unet.ts";
import { type Component, openComponentFolder } from "../../../src/weights/model-directory.ts";
import { groupsOf, prefixOf } from "../case-folder.ts";
import { weightValues } from "../exact.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { compareMilestones, compareNetwork } from "../network.ts";
import { channelsLast, type Tensor, toF32 } from "../tensors.ts";

const CLASS = "UNet2DConditionModel";
/** `output`, or `output_fp16_weights`: what the variant `fp16` of the weights gives. */
const OUTPUT = /^output(?:_(\w+)_weights)?$/;

export const unetKind: Kind = {
  name: "unet",
  recognises: ({ components, expected }) =>
    components.some((component) => component.className === CLASS) &&
    [...expected.keys()].some((name) => name.endsWith(".encoder_hidden_states")),
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
        await run.group(group, async () => {
          const { record, inputs } = unetPass(run, config, group);
          for (const field of fields) {
            const variant = OUTPUT.exec(field);
            if (!variant) continue;
            const { folder, parameters } = await load(variant[1] ?? "", record);
            const weights = () => weightValues(folder, record());
            const options = { label: `unet ${group}`, parameters, inputs, weights };
            await compareNetwork(run, record(), options, { output: `${group}.${field}` });
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

/** One pass on the inputs that stand under `group`: how to record it, and what to write. Its output is `output`. */
export function unetPass(
  run: CaseRun,
  config: UnetConfig,
  group: string,
): { record: () => Recorder; inputs: Record<string, Float32Array> } {
  const sample = channelsLast(run.input(`${group}.sample`));
  const timestep = run.input(`${group}.timestep`);
  const text = run.input(`${group}.encoder_hidden_states`);
  const guidance = run.optional(`${group}.timestep_cond`);
  const textEmbeds = run.optional(`${group}.text_embeds`);
  const timeIds = run.optional(`${group}.time_ids`);
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
function addedConditions(config: UnetConfig, textEmbeds: Tensor, timeIds: Tensor): Float32Array {
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
