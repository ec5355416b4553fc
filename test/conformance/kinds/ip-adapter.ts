/** IP-Adapters: the encoder of pictures, both projections, the UNet that reads their tokens, and the networks of whole runs. */

import { join } from "node:path";
import type { ControlPicture, ControlUse } from "../../../src/diffusion/control.ts";
import type { LoadedModel } from "../../../src/diffusion/loaded-model.ts";
import { openControlFile } from "../../../src/families/control/control-file.ts";
import { ImageEncoder, recordEncoder } from "../../../src/families/control/image-encoder.ts";
import { adapterParameters, identity, recordProjection } from "../../../src/families/control/ip-adapter-part.ts";
import { Recorder } from "../../../src/graph/recorder.ts";
import { loadComponent } from "../../../src/memory/component.ts";
import type { LoadedParameters } from "../../../src/memory/load.ts";
import { visionTokens } from "../../../src/models/clip-vision.ts";
import { type ImageProjection, parseImageProjection } from "../../../src/models/ip-adapter.ts";
import { referencePlaces } from "../../../src/models/unet-blocks.ts";
import { parseUnetConfig, type UnetConfig } from "../../../src/models/unet-config.ts";
import { openModelDirectory } from "../../../src/weights/model-directory.ts";
import { type CaseFolder, tensorFiles } from "../case-folder.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { runNetwork } from "../network.ts";
import { channelsLast } from "../tensors.ts";
import { type PassValues, passOf, plainParameters, recordPass } from "./control.ts";
import type { RunFacts } from "./pipeline-request.ts";

const ENCODER = "CLIPVisionModelWithProjection";

export const ipAdapterKind: Kind = {
  name: "ip-adapter",
  recognises: ({ components, facts }) =>
    typeof facts.base === "string" && components.some(({ className }) => className === ENCODER),
  async run(run) {
    const directory = await openModelDirectory(join(run.folder.path, run.folder.facts.base as string));
    const base = directory.component("unet")!;
    const config = parseUnetConfig(base.config);
    const encoder = await ImageEncoder.open(encoderOf(run.folder));
    const { gpu, storage: precision } = run.bench;
    const unet = await loadComponent(gpu, base, plainParameters(config), { precision });
    try {
      await run.group("encoder", () => compareEncoder(run, encoder));
      for (const file of tensorFiles(run.folder)) {
        await run.group(file, () => compareAdapter(run, { file, encoder, config, unet }));
      }
    } finally {
      unet.destroy();
    }
  },
};

function encoderOf({ components }: CaseFolder) {
  const { path, name } = components.find(({ className }) => className === ENCODER)!;
  return { id: name, source: path };
}

function pictureOf(run: CaseRun): ControlPicture {
  const { shape, values } = run.input("image_u8");
  const [height, width] = shape as [number, number];
  return { width, height, values: Float32Array.from(values, (value) => value / 255), digest: "picture" };
}

async function compareEncoder(run: CaseRun, encoder: ImageEncoder): Promise<void> {
  const { config, component } = encoder;
  const { tolerances, folder } = run;
  const side = config.image_size;
  const pixels = channelsLast(run.input("pixel_values"));
  const own = encoder.pixels(pictureOf(run));
  run.equal("encoder", "pixel_values", own, pixels.values, tolerances.scheduler);
  const parameters = await loadComponent(run.bench.gpu, component.files, component.parameters, {
    precision: run.bench.storage,
  });
  const outputs = ["features", "embedding", "lastHiddenState"] as const;
  const ids = Uint32Array.from({ length: visionTokens(config) }, (_, id) => id);
  try {
    const see = (values: Float32Array) =>
      runNetwork(run, recordEncoder(config, outputs), {
        label: "encoder",
        parameters,
        inputs: { pixels: values, ids },
      });
    const seen = await see(pixels.values);
    const names = { image_embeds: "embedding", features: "features", vision_last_hidden_state: "lastHiddenState" };
    for (const [name, output] of Object.entries(names)) {
      if (folder.expected.has(name)) run.compare(name, seen.get(output)!, tolerances.network);
    }
    if (!folder.expected.has("neg_features")) return;
    const nothing = await see(new Float32Array(side * side * 3));
    run.compare("neg_features", nothing.get("features")!, tolerances.network);
  } finally {
    parameters.destroy();
  }
}

interface Adapter {
  readonly file: string;
  readonly encoder: ImageEncoder;
  readonly config: UnetConfig;
  /** The weights of the UNet. */
  readonly unet: LoadedParameters;
}

async function compareAdapter(run: CaseRun, { file, encoder, config, unet }: Adapter): Promise<void> {
  const { expected, path } = run.folder;
  const opened = await openControlFile(join(path, file), config);
  const projection = parseImageProjection(opened.name, opened.config);
  const prefix = expected.has(`${projection.kind}.image_tokens`) ? `${projection.kind}.` : "";
  const parameters = await loadComponent(run.bench.gpu, opened, adapterParameters(config, projection), {
    precision: run.bench.storage,
  });
  try {
    const project = async (view: ArrayLike<number>) => {
      const values = { view: Float32Array.from(view), identity: identity(projection.tokens) };
      const inputs = projection.kind === "plus" ? values : { view: values.view };
      const recorder = recordProjection(projection, visionTokens(encoder.config));
      const options = { label: "projection", parameters, inputs };
      return (await runNetwork(run, recorder, options)).get("tokens")!;
    };
    const isPlain = projection.kind === "plain";
    const positive = await project(run.input(isPlain ? "image_embeds" : "features").values);
    const negative = await project(isPlain ? new Float32Array(projection.inputs) : run.input("neg_features").values);
    const both = [...negative, ...positive];
    const isBoth = prefix !== "";
    run.compare(`${prefix}image_tokens`, isBoth ? both : positive, run.tolerances.network);
    if (expected.has(`${prefix}neg_tokens`)) run.compare(`${prefix}neg_tokens`, negative, run.tolerances.network);
    const pass = passOf(run, config, "");
    for (const name of expected.keys()) {
      const isOutput = name === `${prefix}output` || name.startsWith(`${prefix}output.scale`);
      if (!isOutput) continue;
      const scale = name.includes(".scale") ? Number(name.split(".scale")[1]) : await scaleOf(run, name);
      const weights = new Map([
        ["unet", unet],
        ["adapter", parameters],
      ]);
      const values = { ...pass.values, tokens: Float32Array.from(both) };
      const output = await readWithTokens(run, config, projection, { pass: { ...pass, values }, scale, weights });
      run.compare(name, output, run.tolerances.network);
    }
  } finally {
    parameters.destroy();
  }
}

async function readWithTokens(
  run: CaseRun,
  config: UnetConfig,
  { tokens: count, width }: ImageProjection,
  asked: { readonly pass: PassValues; readonly scale: number; readonly weights: ReadonlyMap<string, LoadedParameters> },
): Promise<Float64Array> {
  const { pass, scale, weights } = asked;
  const { rows } = pass.size;
  const columns = referencePlaces(config).size;
  const g = new Recorder();
  recordPass(g, config, pass.size, () => {
    const tokens = g.input("tokens", [rows, count, width]);
    const factors = g.input("factors", [rows, columns], { element: "f32" });
    return { references: [{ component: "adapter", tokens, factors, firstColumn: 0 }] };
  });
  const inputs = { ...pass.values, factors: new Float32Array(rows * columns).fill(scale) };
  return (await runNetwork(run, g, { label: "unet", parameters: weights, inputs })).get("unet_output")!;
}

/** The scale of a pass, which stands in the case's README alone. */
async function scaleOf(run: CaseRun, name: string): Promise<number> {
  const found = new RegExp(`\`${name}\`.*scale ([\\d.]+)`).exec(await run.folder.readText("README.md"));
  return Number(found?.[1] ?? 1);
}

/** The adapter of a run, with its picture. */
export async function referencesOf(
  run: CaseRun,
  { family }: LoadedModel,
  config: UnetConfig,
  name: string,
  { ip_adapter_scale: scale }: RunFacts,
): Promise<ControlUse[] | undefined> {
  if (scale === undefined) return undefined;
  const files = tensorFiles(run.folder);
  const file = files.find((one) => /plus/.test(one) === /plus/.test(name)) ?? files[0]!;
  const network = await family.openControl!(join(run.folder.path, file), `adapter ${file}`, [encoderOf(run.folder)]);
  const places = [...referencePlaces(config).keys()];
  const scales = typeof scale === "number" ? scale : places.map((place) => scale[place]!);
  return [{ field: "ip_adapter.0", network, picture: pictureOf(run), scale: scales, start: 0, end: 1 }];
}
