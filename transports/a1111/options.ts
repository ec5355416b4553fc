/**
 * The options of the web UI's API that mean something here. They belong to the caller who set them, not to everybody, and are
 * forgotten when the server ends or a thousand other callers have set theirs.
 */
import { LRUCache } from "lru-cache";
import { z } from "zod";
import { RequestError, refuseIssues } from "../../src/engine/errors.ts";
import { LIMITS } from "../../src/engine/request.ts";
import { fieldsOf } from "../../src/engine/request-fields.ts";
import { requestIssues } from "../../src/faults/request-issues.ts";
import { knownFields } from "./lax.ts";

/** Callers whose options are kept. */
const MAX_CALLERS = 1000;

export const optionsSchema = z.object({
  /** The model, by its name or its title. */
  sd_model_checkpoint: z.string().max(1024),
  /** The text encoder's last layer to use, from 1. */
  CLIP_stop_at_last_layers: z
    .int()
    .min(1)
    .max(LIMITS.clipSkip + 1)
    .default(1),
  samples_format: z.enum(["png", "jpg", "jpeg", "webp"]).default("png"),
  jpeg_quality: z.int().min(1).max(100).default(80),
  /** `GPU` and `NV` draw noise as PyTorch does on CUDA. */
  randn_source: z.enum(["GPU", "CPU", "NV"]).default("GPU"),
  /** Steps between two previews that `progress` shows; at most 0: none. */
  show_progress_every_n_steps: z.int().min(-1).max(LIMITS.steps).default(10),
  /** The model's own is taken, whatever it says; a warning says so. */
  sd_vae: z.string().max(1024).default("Automatic"),
});
export type Options = z.output<typeof optionsSchema>;

const changesSchema = optionsSchema.partial();
const FIELDS = fieldsOf(optionsSchema);

/** Values of `sd_vae` that mean the model's own. */
const OWN_VAE: ReadonlySet<string> = new Set(["Automatic", "None", ""]);

export function hasOtherVae({ sd_vae }: Options): boolean {
  return !OWN_VAE.has(sd_vae);
}

export class CallerOptions {
  readonly #own = new LRUCache<string, Partial<Options>>({ max: MAX_CALLERS });
  readonly #model: string;

  /** @param model the name of the model that is served */
  constructor(model: string) {
    this.#model = model;
  }

  of(caller: string): Options {
    return optionsSchema.parse({ sd_model_checkpoint: this.#model, ...this.#own.get(caller) });
  }

  set(caller: string, changes: Partial<Options>): void {
    this.#own.set(caller, { ...this.#own.get(caller), ...changes });
  }

  /**
   * Checks options that a client sends; those that are not known here are left out, as the web UI does.
   * @param field where they stand in the request
   * @throws RequestError
   */
  checked(raw: unknown, field: string): Partial<Options> {
    const path = field === "" ? [] : [field];
    const known = knownFields(raw, FIELDS);
    const parsed = changesSchema.safeParse(known, { reportInput: true });
    if (!parsed.success) {
      refuseIssues(requestIssues(parsed.error).map((issue) => ({ ...issue, path: [...path, ...issue.path] })));
    }
    // A default would be laid over what the caller has set.
    const changes = Object.fromEntries(Object.keys(known).map((name) => [name, parsed.data?.[name as keyof Options]]));
    const model = changes.sd_model_checkpoint;
    if (typeof model === "string" && !this.#isServed(model)) {
      throw new RequestError(
        [...path, "sd_model_checkpoint"].join("."),
        `the model is not served here; '${this.#model}' is`,
      );
    }
    if (typeof model === "string") changes.sd_model_checkpoint = this.#model;
    return changes as Partial<Options>;
  }

  /** Clients send a title (`name [hash]`), a name, a file's name, or nothing. */
  #isServed(model: string): boolean {
    const name = model.replace(/ \[[0-9a-f]{0,64}\]$/, "").trim();
    return (
      name === "" ||
      name === "None" ||
      name === this.#model ||
      name.replace(/\.(safetensors|ckpt)$/, "") === this.#model
    );
  }
}
