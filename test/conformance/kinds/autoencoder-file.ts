/** Autoencoders of one file or two: in the original layout, as published pickles, and beside a folder of the same weights. */

import { join } from "node:path";
import { openAutoencoder } from "../../../src/families/checkpoint/open-autoencoder.ts";
import { Recorder } from "../../../src/graph/recorder.ts";
import { loadComponent } from "../../../src/memory/component.ts";
import { autoencoder } from "../../../src/models/autoencoder.ts";
import { type Component, openComponentFolder } from "../../../src/weights/model-directory.ts";
import { type CaseFolder, tensorFiles } from "../case-folder.ts";
import { entryValues, weightValues } from "../exact.ts";
import type { CaseRun, Kind } from "../kind.ts";
import { runNetwork } from "../network.ts";
import { channelsLast } from "../tensors.ts";
import { wholeAutoencoder } from "./single-file.ts";

const NAME = /^(?:vae|tae)/;

export const autoencoderFileKind: Kind = {
  name: "autoencoder file",
  recognises: (folder) => tensorFiles(folder).some((file) => NAME.test(file)),
  async run(run) {
    const { folder } = run;
    const files = tensorFiles(folder).filter((file) => NAME.test(file));
    const path = join(folder.path, files.find((file) => file.includes("decoder")) ?? files[0]!);
    const config = folder.components.find(({ className }) => className.startsWith("Autoencoder"))?.config ?? {};
    const groups = config.norm_num_groups === undefined ? {} : { norm_num_groups: config.norm_num_groups };
    const scalingFactor = typeof config.scaling_factor === "number" ? config.scaling_factor : 1;
    const component = await openAutoencoder(path, { name: "vae", scalingFactor, configs: groups });
    if (folder.expected.has("image_u8")) await run.group("round trip", () => roundTrip(run, component));
    else if (folder.expected.has("moments")) await run.group("vae", () => wholeAutoencoder(run, component, ""));
    const beside = besideOf(folder);
    if (beside !== undefined) await run.group("weights", () => sameWeights(run, component, beside));
  },
};

/** The folder of the same weights in diffusers' layout. */
function besideOf({ components }: CaseFolder): string | undefined {
  return components.find(({ className, hasWeights }) => className.startsWith("Autoencoder") && hasWeights)?.path;
}

async function sameWeights(run: CaseRun, component: Component, path: string): Promise<void> {
  const [ours, theirs] = await Promise.all([component.weights(), (await openComponentFolder(path)).weights()]);
  const names = [...theirs.names()];
  run.equal("weights", "count of tensors", [[...ours.names()].length], [names.length], run.tolerances.exact);
  for (const name of names) {
    const [mine, other] = [ours.get(name), theirs.get(name)!];
    if (mine === undefined) run.fail("weights", name, "is not in the file");
    else run.equal("weights", name, await entryValues(mine), await entryValues(other), run.tolerances.exact);
  }
  await Promise.all([ours.close(), theirs.close()]);
}

/** A picture to latents and back; networks here take pictures of -1 to 1, the reference of 0 to 1. */
async function roundTrip(run: CaseRun, component: Component): Promise<void> {
  const coder = autoencoder(component);
  const picture = run.input("image_u8");
  const [height, width] = picture.shape as [number, number];
  const image = {
    shape: [1, height, width, 3],
    values: Float32Array.from(picture.values, (value) => (value / 255) * 2 - 1),
  };
  const latents = channelsLast(run.input("latents"));
  const encoder = new Recorder();
  encoder.output("latents", coder.encode(encoder, encoder.input("picture", image.shape)));
  const decoder = new Recorder();
  decoder.output("picture", coder.decode(decoder, decoder.input("latents", latents.shape)));
  const all = new Map([...encoder.parameters, ...decoder.parameters]);
  const parameters = await loadComponent(run.bench.gpu, component, [...all.values()], { precision: run.bench.storage });
  try {
    const options = (g: Recorder) => ({ label: "tiny vae", parameters, weights: () => weightValues(component, g) });
    const encoded = await runNetwork(run, encoder, { ...options(encoder), inputs: { picture: image.values } });
    run.compare("latents", encoded.get("latents")!, run.tolerances.network);
    const decoded = await runNetwork(run, decoder, { ...options(decoder), inputs: { latents: latents.values } });
    const restored = decoded.get("picture")!.map((value) => (value + 1) / 2);
    run.compare("decoded", restored, run.tolerances.network);
    const psnr = psnrOf(restored, picture.values, height * width);
    const wanted = run.folder.facts.psnr_db as number;
    run.equal("round trip", "psnr in dB", [psnr], [wanted], { measure: "absolute", bound: 0.05 });
  } finally {
    parameters.destroy();
  }
}

/** The figure of a picture `[3, pixels]` of 0 to 1, clamped, against bytes `[pixels, 3]`. */
function psnrOf(restored: Float64Array, bytes: Float64Array, pixels: number): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i++) {
    const value = restored[(i % 3) * pixels + Math.floor(i / 3)]!;
    sum += (Math.min(Math.max(value, 0), 1) - bytes[i]! / 255) ** 2;
  }
  return -10 * Math.log10(sum / bytes.length);
}
