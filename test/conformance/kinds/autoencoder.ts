/** AutoencoderKL and AutoencoderTiny: latents to pictures and back, and the arithmetic around them. */

import { recordDecoder, writeDecoderScale } from "../../../src/diffusion/latents.ts";
import { compile } from "../../../src/graph/plan.ts";
import { Recorder } from "../../../src/graph/recorder.ts";
import { loadComponent } from "../../../src/memory/component.ts";
import type { LoadedParameters } from "../../../src/memory/load.ts";
import { type Autoencoder, autoencoder } from "../../../src/models/autoencoder.ts";
import { parseAutoencoderTinyConfig } from "../../../src/models/autoencoder-tiny.ts";
import { openComponentFolder } from "../../../src/weights/model-directory.ts";
import { type ComponentFolder, groupsOf, prefixOf } from "../case-folder.ts";
import { type WeightValues, weightValues } from "../exact.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { compareMilestones, compareNetwork, type NetworkOptions, runNetwork } from "../network.ts";
import { channelsFirst, channelsLast, slice, type Tensor } from "../tensors.ts";

const CLASSES = ["AutoencoderKL", "AutoencoderTiny"];

export const autoencoderKind: Kind = {
  name: "autoencoder",
  recognises: ({ components, expected, files }) =>
    !files.includes("model_index.json") &&
    components.some((component) => CLASSES.includes(component.className)) &&
    [...expected.keys()].some((name) => name.endsWith(".image")),
  async run(run) {
    const components = run.folder.components.filter((component) => CLASSES.includes(component.className));
    const prefixes = components.map((component) => prefixOf(component, "vae"));
    for (const component of components) {
      const groups = groupsOf(run.folder.expected, prefixOf(component, "vae"), prefixes);
      await run.group(component.name, () => runComponent(run, component, groups));
    }
  },
};

interface Loaded {
  readonly parameters: LoadedParameters;
  /** The values that a recording wants, from the files. */
  readonly weights: (recorder: Recorder) => Promise<WeightValues>;
}

async function runComponent(run: CaseRun, component: ComponentFolder, groups: Map<string, string[]>): Promise<void> {
  const { gpu, storage } = run.bench;
  const opened = await openComponentFolder(component.path);
  const coder = autoencoder(opened);
  // The halves that the case is about; a case of one half may come with the weights of that half alone.
  const isEncoding = (group: string) => encodes(groups.get(group)!, group);
  const pictures = [...groups].filter(([, fields]) => fields.includes("image")).map(([group]) => group);
  const g = new Recorder();
  if (pictures.some((group) => !isEncoding(group)))
    coder.decode(g, g.input("latents", [1, 8, 8, coder.latentChannels]));
  if (pictures.some(isEncoding)) coder.encode(g, g.input("picture", [1, 8 * coder.downscale, 8 * coder.downscale, 3]));
  const parameters = await loadComponent(gpu, opened, [...g.parameters.values()], { precision: storage });
  const loaded: Loaded = { parameters, weights: (recorder) => weightValues(opened, recorder) };
  try {
    for (const [group, fields] of groups) {
      await run.group(group, async () => {
        if (!fields.includes("image")) latentScaling(run, component, group, fields);
        else if (isEncoding(group)) await encode(run, coder, loaded, group, fields);
        else await decode(run, coder, loaded, group, fields);
      });
    }
  } finally {
    parameters.destroy();
  }
}

/** Both directions have a picture and latents; which is the input is said by what else there is, else by the name: e1, d1. */
function encodes(fields: readonly string[], group: string): boolean {
  if (fields.includes("moments") || fields.includes("mean")) return true;
  if (fields.includes("decoder_input")) return false;
  return /(?:^|\.)e[^.]*$/.test(group);
}

async function decode(
  run: CaseRun,
  coder: Autoencoder,
  { parameters, weights }: Loaded,
  group: string,
  fields: readonly string[],
): Promise<void> {
  const latents = run.input(`${group}.latents`);
  const unscaled = latents.values.map((value) => value / coder.scalingFactor + coder.shiftFactor);
  if (fields.includes("decoder_input")) run.compare(`${group}.decoder_input`, unscaled, run.tolerances.network);
  const given = fields.includes("decoder_input")
    ? run.input(`${group}.decoder_input`)
    : { ...latents, values: unscaled };
  const input = channelsLast(given);
  const record = () => {
    const g = new Recorder();
    g.output("image", coder.decode(g, g.input("latents", input.shape)));
    return g;
  };
  const inputs = { latents: input.values };
  const options: NetworkOptions = { label: `decoder ${group}`, parameters, inputs, weights: () => weights(record()) };
  await compareNetwork(run, record(), options, { image: `${group}.image` });
  run.compare(`${group}.image`, await decodeAsPipeline(run, coder, parameters, latents), run.tolerances.network, {
    by: "pipeline's decoder",
  });
  await compareMilestones(run, group, record, options);
}

/** Picture by picture from scaled latents, as the pipelines do it. */
async function decodeAsPipeline(
  run: CaseRun,
  coder: Autoencoder,
  parameters: LoadedParameters,
  latents: Tensor,
): Promise<number[]> {
  const { gpu, activations: storage, choose } = run.bench;
  const [images, channels, height, width] = latents.shape as [number, number, number, number];
  const recorder = recordDecoder(coder, { height, width, channels }, { keepPicture: true });
  const plan = await compile(gpu, recorder, { label: "decoder", storage, parameters, choose });
  writeDecoderScale(plan, coder);
  try {
    const pictures: number[] = [];
    for (let image = 0; image < images; image++) {
      const one = slice(latents, image);
      plan.write("latents", channelsLast({ shape: [1, ...one.shape], values: one.values }).values);
      plan.run();
      const shape = [1, height * coder.downscale, width * coder.downscale, 3];
      pictures.push(...channelsFirst(shape, await plan.read("picture")));
    }
    return pictures;
  } finally {
    plan.destroy();
  }
}

async function encode(
  run: CaseRun,
  coder: Autoencoder,
  { parameters, weights }: Loaded,
  group: string,
  fields: readonly string[],
): Promise<void> {
  const picture = channelsLast(run.input(`${group}.image`));
  const record = () => {
    const g = new Recorder();
    g.output("encoded", coder.encode(g, g.input("picture", picture.shape)));
    return g;
  };
  const inputs = { picture: picture.values };
  const options: NetworkOptions = { label: `encoder ${group}`, parameters, inputs, weights: () => weights(record()) };
  const encoded = (await runNetwork(run, record(), options)).get("encoded")!;
  const { network } = run.tolerances;
  if (coder.kind === "tiny") {
    run.compare(`${group}.latents`, encoded, network);
  } else {
    const { mean, logVariance } = posterior(encoded, picture.shape[0]!);
    const results: Record<string, () => ArrayLike<number>> = {
      moments: () => encoded,
      mean: () => mean,
      logvar: () => logVariance,
      sample: () => {
        const noise = run.input(`${group}.noise`).values;
        return mean.map((value, i) => value + Math.exp(0.5 * logVariance[i]!) * noise[i]!);
      },
      latents: () => mean.map((value) => (value - coder.shiftFactor) * coder.scalingFactor),
    };
    for (const field of fields) if (results[field]) run.compare(`${group}.${field}`, results[field](), network);
  }
  await compareMilestones(run, group, record, options);
}

/** Moments, mean and log-variance one behind the other in each image, taken apart. */
function posterior(moments: Float64Array, images: number): { mean: Float64Array; logVariance: Float64Array } {
  const half = moments.length / images / 2;
  const part = (offset: number) =>
    Float64Array.from(
      { length: half * images },
      (_, i) => moments[Math.floor(i / half) * 2 * half + offset + (i % half)]!,
    );
  return { mean: part(0), logVariance: part(half).map((value) => Math.min(Math.max(value, -30), 20)) };
}

/** TAESD's way to put latents into bytes; nothing of the product needs it, so this checks that the config is read right. */
function latentScaling(run: CaseRun, component: ComponentFolder, group: string, fields: readonly string[]): void {
  if (!fields.includes("scaled")) return;
  const { latent_magnitude: magnitude, latent_shift: shift } = parseAutoencoderTinyConfig(component.config);
  const raw = run.input(`${group}.latents`).values;
  const scaled = raw.map((value) => Math.min(Math.max(value / (2 * magnitude) + shift, 0), 1));
  run.compare(`${group}.scaled`, scaled, run.tolerances.network);
  const unscaled = scaled.map((value) => (value - shift) * (2 * magnitude));
  if (fields.includes("unscaled")) run.compare(`${group}.unscaled`, unscaled, run.tolerances.network);
}
