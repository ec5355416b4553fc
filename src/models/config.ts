/** A component's `config.json`, checked: an option we do not build is refused by name rather than ignored. */

import { z } from "zod";

/** A model's configuration is wrong, or asks for something that is not supported. Safe to show to a client. */
export class ModelConfigError extends Error {
  override readonly name = "ModelConfigError";
  readonly code = "model-config";
  readonly component: string;
  readonly field: string;

  constructor(component: string, field: string, reason: string) {
    const file = component.endsWith(".json") ? component : `${component}/config.json`;
    super(`${file}: ${field}: ${reason}`);
    this.component = component;
    this.field = field;
  }
}

/**
 * Sizes in a config, with bounds far beyond any model there is: a folder is untrusted, and a billion layers would be
 * recorded for ever.
 */
export const size = {
  channels: z.number().int().positive().max(65_536),
  vocabulary: z.number().int().positive().max(4_000_000),
  layers: z.number().int().positive().max(256),
  /** Residual blocks of a level, which may have none. */
  blocks: z.number().int().nonnegative().max(256),
  /** Of resolutions: beyond this the latents of no picture could be halved so often. */
  levels: <T extends z.ZodType>(entry: T) => z.array(entry).min(1).max(12),
};

/** `config` as `schema` describes it. Throws `ModelConfigError` naming the first field at fault. */
export function parseConfig<T extends z.ZodType>(component: string, schema: T, config: unknown): z.infer<T> {
  const parsed = schema.safeParse(config);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new ModelConfigError(component, issue!.path.join(".") || "(root)", issue!.message);
}
