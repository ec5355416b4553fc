/**
 * The tensors that a component's weight file must hold, from the recorded model itself: the same list that the loader
 * checks a file against. It does not depend on the picture's size, so any small one will do.
 */

import { UnetStep } from "../../src/families/unet-step.ts";
import { Recorder } from "../../src/graph/recorder.ts";
import type { Parameter } from "../../src/graph/tensor.ts";
import { autoencoder } from "../../src/models/autoencoder.ts";
import { type ClipTextConfig, clipText, parseClipTextConfig } from "../../src/models/clip.ts";
import { parseUnetConfig } from "../../src/models/unet-config.ts";
import type { Component } from "../../src/weights/model-directory.ts";

/** One prompt through a text encoder: inputs `ids` and, with a projection, `end`; outputs `hidden` and `pooled`. */
export function recordTextEncoder(config: ClipTextConfig, hidden: "last" | "last-but-one"): Recorder {
  const g = new Recorder();
  const ids = g.input("ids", [config.max_position_embeddings], { element: "u32" });
  const encoded = clipText(g, config, ids, 1);
  g.output("hidden", hidden === "last" ? encoded.lastHiddenState : encoded.hiddenStates.at(-2)!);
  if (config.withProjection) g.output("pooled", encoded.pooled(g.input("end", [1], { element: "u32" })));
  return g;
}

export function wantedParameters(component: Component): Parameter[] {
  if (component.kind === "denoiser") return new UnetStep(parseUnetConfig(component.config), 1).parameters();
  return [...record(component).parameters.values()];
}

function record(component: Component): Recorder {
  switch (component.kind) {
    case "text encoder":
      return recordTextEncoder(parseClipTextConfig(component.name, component.config), "last");
    case "autoencoder": {
      const coder = autoencoder(component);
      const g = new Recorder();
      coder.decode(g, g.input("latents", [1, 8, 8, coder.latentChannels]));
      coder.encode(g, g.input("picture", [1, 64, 64, 3]));
      return g;
    }
    default:
      throw new Error(`${component.name}: a ${component.kind} has no weights`);
  }
}
