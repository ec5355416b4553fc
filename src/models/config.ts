/** A component's `config.json`, checked: an option we do not build is refused by name rather than ignored. */

import type { z } from "zod";

/** A model's configuration is wrong, or asks for something that is not supported. Safe to show to a client. */
export class ModelConfigError extends Error {
  override readonly name = "ModelConfigError";
  readonly code = "model-config";
  readonly component: string;
  readonly field: string;

  constructor(component: string, field: string, reason: string) {
    super(`${component}/config.json: ${field}: ${reason}`);
    this.component = component;
    this.field = field;
  }
}

/** `config` as `schema` describes it. Throws `ModelConfigError` naming the first field at fault. */
export function parseConfig<T extends z.ZodType>(component: string, schema: T, config: unknown): z.infer<T> {
  const parsed = schema.safeParse(config);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new ModelConfigError(component, issue!.path.join(".") || "(root)", issue!.message);
}
