/** The LoRA files that a request means: by path for a program's own request, by name in the server's folder for others. */

import { basename, join } from "node:path";
import type { LoraRequest } from "../memory/weight-sets.ts";
import { WeightsError } from "../weights/errors.ts";
import { hasRegularFile } from "../weights/regular-file.ts";
import { RequestError } from "./errors.ts";
import type { GenerationRequest } from "./request.ts";

/** Throws `RequestError` naming the entry whose file is not there, or is no regular file. */
export async function loraFiles(loras: GenerationRequest["loras"], folder: string | undefined): Promise<LoraRequest[]> {
  return Promise.all(
    loras.map(async ({ name, path, scale }, index) => {
      if (path !== undefined) return { path, scale };
      if (folder === undefined) throw new RequestError(`loras.${index}.name`, "this server offers no LoRA");
      const file = join(folder, `${name}.safetensors`);
      if (!(await isThere(file, index))) {
        throw new RequestError(`loras.${index}.name`, `'${name}' is not a LoRA of this server`);
      }
      return { path: file, scale };
    }),
  );
}

async function isThere(file: string, index: number): Promise<boolean> {
  try {
    return await hasRegularFile(file, basename(file));
  } catch (error) {
    throw error instanceof WeightsError ? new RequestError(`loras.${index}.name`, error.message) : error;
  }
}
