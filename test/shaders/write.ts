/** The assembled kernels as files, for an editor or a reviewer: `conv2d_subgroup-3fb1c2.wgsl`. */

import { createHash } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { AssembledKernel } from "./kernels.ts";
import { Validator } from "./validate.ts";

export interface WrittenModules {
  readonly files: readonly string[];
  /** By file, what the compiler says of modules that are not valid. */
  readonly faults: ReadonlyMap<string, readonly string[]>;
}

/** Writes the modules of `kernels` to `folder`, in place of what is there, and validates each. */
export async function writeModules(folder: string, kernels: readonly AssembledKernel[]): Promise<WrittenModules> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const modules = new Map(kernels.map(({ kernel }) => [fileName(kernel), kernel.code]));
  const faults = new Map<string, readonly string[]>();
  const validator = await Validator.open();
  try {
    for (const [file, code] of modules) {
      await writeFile(join(folder, file), code);
      const messages = await validator.messages(code);
      if (messages.length > 0) faults.set(file, messages);
    }
  } finally {
    validator.close();
  }
  return { files: [...modules.keys()], faults };
}

function fileName({ name, code }: { readonly name: string; readonly code: string }): string {
  return `${name}-${createHash("sha256").update(code).digest("hex").slice(0, 8)}.wgsl`;
}
