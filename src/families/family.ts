/**
 * A family is one kind of model: it recognises a folder, reads and checks its configurations, and says how its steps are
 * made and conditioned. A new family is a file (or folder) here and a line in `registry.ts`; it edits no other family.
 */

import type { FamilyModel } from "../diffusion/model.ts";
import type { ModelFiles } from "../platform/model-files.ts";
import type { KnownClasses } from "../weights/model-classes.ts";
import type { ModelDirectory } from "../weights/model-directory.ts";

export interface OpenOptions {
  /** An AutoencoderTiny for previews (TAESD): its files, or the path of its folder or file. */
  readonly tinyAutoencoder?: ModelFiles | string;
}

export interface Family {
  /** The name in facts and messages: `stable-diffusion-xl`. */
  readonly name: string;
  /** Classes of pipelines and components that it knows beside those of `weights/model-classes.ts`. */
  readonly classes?: KnownClasses;
  recognises(directory: ModelDirectory): boolean;
  /**
   * Reads and checks configurations; nothing is on a device yet. A folder is untrusted, and each error names file and reason.
   * @throws WeightsError, ModelConfigError, TokenizerError, SchedulerError
   */
  open(directory: ModelDirectory, options: OpenOptions): Promise<FamilyModel>;
}
