/** The setting `models` in the runtime's own terms. */
import type { RuntimeOptions } from "../src/engine/contract.ts";
import type { EngineOptions, ModelPaths } from "../src/hosts/engine/messages.ts";
import { UsageError } from "./checks.ts";
import type { Config } from "./config-schema.ts";

/** A folder of models, or models by their names. */
export function modelOptions(models: Config["models"]): Pick<EngineOptions, "models" | "modelFolder"> {
  if (models === undefined) return {};
  if (typeof models === "string") return { modelFolder: models };
  const sources = Object.entries(models).map(([name, model]): [string, ModelPaths] => {
    if (typeof model === "string") return [name, { model }];
    const { path, vae, tiny_vae: tinyAutoencoder, variant, keep_alive_seconds: keepAlive, preload } = model;
    return [name, { model: path, vae, tinyAutoencoder, variant, keepAlive, preload }];
  });
  return { models: Object.fromEntries(sources) };
}

/**
 * The settings of one model that stand beside those of several would be nobody's.
 * @throws UsageError naming them
 */
export function checkModelFlags({
  model,
  models,
  ...ofModel
}: Pick<Config, "model" | "models"> & Pick<RuntimeOptions, "vae" | "tinyAutoencoder" | "variant">): void {
  if (models === undefined || model !== undefined) return;
  const names = { vae: "vae", tinyAutoencoder: "tiny_vae", variant: "variant" } as const;
  for (const [option, name] of Object.entries(names)) {
    if (ofModel[option as keyof typeof names] === undefined) continue;
    throw new UsageError(
      `${name} (--${name.replace("_", "-")}) is about the model of --model, and there are only models: set it in models, for the one that is meant`,
    );
  }
}
