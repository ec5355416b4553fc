/**
 * The LoRA settings that newer diffusers (from 0.34) writes into a file's metadata in place of alpha tensors.
 *
 * `__metadata__.lora_adapter_metadata` is JSON text: PEFT's LoraConfig, each key after the component's name where the
 * file holds several ("unet.lora_alpha"). Without it such a file would be applied at the wrong strength whenever it was
 * trained with an alpha other than its rank. Read here: `lora_alpha`, `alpha_pattern` and `use_rslora`. Ranks are taken
 * from the tensors.
 */
import { z } from "zod";
import { quoted } from "../platform/quoted.ts";
import { WeightsError } from "./errors.ts";
import { LONGEST_CONFIG } from "./json-file.ts";
import type { LoraComponent } from "./lora-names.ts";

export interface LoraConfig {
  /** The factor of a module's `up · down`. */
  scale(module: string, rank: number): number;
}

/** Trained with 1 to a few hundred. */
export const LARGEST_ALPHA = 2 ** 20;
const alpha = z.number().min(-LARGEST_ALPHA).max(LARGEST_ALPHA);

const configSchema = z.object({
  lora_alpha: alpha,
  // By PEFT's rules a key is a regular expression that the end of a module's name must match; diffusers writes names.
  alpha_pattern: z.record(z.string().regex(/^[\w.-]+$/), alpha).nullish(),
  use_rslora: z.boolean().nullish(),
});

const COMPONENTS: readonly LoraComponent[] = ["unet", "text_encoder", "text_encoder_2"];

/**
 * The settings of each component that the metadata speaks of.
 * @throws WeightsError "lora-format" where there are settings that cannot be understood.
 */
export function readLoraConfigs(metadata: ReadonlyMap<string, string>, file: string): Map<LoraComponent, LoraConfig> {
  const configs = new Map<LoraComponent, LoraConfig>();
  const text = metadata.get("lora_adapter_metadata");
  if (text === undefined) return configs;
  if (text.length > LONGEST_CONFIG)
    throw new WeightsError(
      "lora-format",
      `its lora_adapter_metadata is ${text.length} characters long, more than the ${LONGEST_CONFIG} allowed`,
      { file },
    );
  let settings: unknown;
  try {
    settings = JSON.parse(text);
  } catch (cause) {
    throw new WeightsError("lora-format", "its lora_adapter_metadata is not JSON", { file, cause });
  }
  const entries = typeof settings === "object" && settings !== null ? Object.entries(settings) : [];
  for (const component of COMPONENTS) {
    const prefix = `${component}.`;
    // A UNet saved by itself has its settings without prefix.
    const bare = component === "unet" && entries.some(([key]) => key === "lora_alpha");
    const own = bare
      ? entries
      : entries
          .filter(([key]) => key.startsWith(prefix))
          .map(([key, value]) => [key.slice(prefix.length), value] as const);
    if (!own.some(([key]) => key === "lora_alpha")) continue;
    const parsed = configSchema.safeParse(Object.fromEntries(own));
    if (!parsed.success) {
      const where = parsed.error.issues[0]?.path.join(".") ?? "";
      throw new WeightsError(
        "lora-format",
        `its lora_adapter_metadata has ${quoted(prefix + where)} of a kind not known`,
        {
          file,
          cause: parsed.error,
        },
      );
    }
    const { lora_alpha: alpha, alpha_pattern: patterns, use_rslora: rankStabilised } = parsed.data;
    // Looked up by each ending of a module's name: a file may have as many exceptions as modules.
    const exceptions = new Map(Object.entries(patterns ?? {}).map(([name, own], order) => [name, { own, order }]));
    configs.set(component, {
      scale(module, rank) {
        const found = endings(module).flatMap((ending) => exceptions.get(ending) ?? []);
        const first = found.sort((a, b) => a.order - b.order)[0];
        // Rank-stabilised LoRA divides by √rank (Kalajdzievski 2023, arXiv:2312.03732).
        return (first?.own ?? alpha) / (rankStabilised ? Math.sqrt(rank) : rank);
      },
    });
  }
  return configs;
}

/** "a.b.c" and what is left of it from each dot on: "b.c", "c". */
function endings(module: string): string[] {
  const parts = module.split(".");
  return parts.map((_, first) => parts.slice(first).join("."));
}
