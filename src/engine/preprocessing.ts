/** A preprocessor by itself, for whoever wants to see what a ControlNet would be given. */

import type { LoadedModel } from "../diffusion/loaded-model.ts";
import { preprocessorSpec, preprocessWith } from "../diffusion/preprocess.ts";
import { requestIssues } from "../faults/request-issues.ts";
import { Leases } from "../memory/model-memory.ts";
import { controlPicture } from "./control-files.ts";
import { refuseIssues } from "./errors.ts";
import { preprocessSchema } from "./preprocessors.ts";

/** RGBA8 pixels. */
interface Made {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8Array;
}

/** @throws RequestError naming the field at fault; GPU errors; the signal's reason */
export async function preprocess(
  { memory, turns }: LoadedModel,
  input: unknown,
  { signal, client }: { readonly signal?: AbortSignal; readonly client?: string } = {},
): Promise<Made> {
  const parsed = preprocessSchema.safeParse(input);
  if (!parsed.success) refuseIssues(requestIssues(parsed.error));
  const { preprocessor, image } = parsed.data!;
  const picture = await controlPicture(image, "image");
  const leases = new Leases(memory, memory.weightSets.base, { signal });
  try {
    const plan = await leases.plan(preprocessorSpec(preprocessor, picture));
    signal?.throwIfAborted();
    const work = () => preprocessWith(plan, preprocessor, picture);
    const { width, height, values } = await turns.during(turns.customer(client), work);
    const rgba = new Uint8Array(width * height * 4).fill(255);
    for (let at = 0; at < values.length; at++) rgba[Math.floor(at / 3) * 4 + (at % 3)] = Math.round(values[at]! * 255);
    return { width, height, rgba };
  } finally {
    leases.giveBack();
  }
}
