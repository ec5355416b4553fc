/**
 * Names of the tensors in a text encoder's file.
 *
 * transformers saves `text_model.embeddings.…` and, with a projection, `text_projection.weight`. A state dict that was saved
 * by hand lacks `text_model.`, or has another prefix; a whole CLIP also has a vision tower. Tensors that no text encoder
 * needs are left out, as transformers leaves them out.
 */

import type { ExpectedTensor } from "./manifest.ts";
import type { TensorSet } from "./tensor-set.ts";

const USUAL = "text_model.";
/** A tensor that every text encoder has, by the end of its name. */
const ANCHOR = "embeddings.token_embedding.weight";

const UNNEEDED =
  /(?:^|\.)(?:position_ids|logit_scale|logit_bias|text_projection(?:\.weight)?|visual_projection\.weight)$|(?:^|\.)vision_model\./;

/** Whether a tensor of this name in a text encoder's file is no fault, though nothing reads it. */
export function isUnneededInEncoder(name: string): boolean {
  return UNNEEDED.test(name);
}

/** `expected` with the names that these tensors have in `set`, if they are not transformers' own. */
export function withEncoderNames(set: TensorSet, expected: readonly ExpectedTensor[]): readonly ExpectedTensor[] {
  if (set.get(USUAL + ANCHOR) !== undefined) return expected;
  const anchor = [...set.names()].find((name) => name.endsWith(ANCHOR) && !isUnneededInEncoder(name));
  if (anchor === undefined) return expected;
  const prefix = anchor.slice(0, -ANCHOR.length);
  const outer = prefix.endsWith(USUAL) ? prefix.slice(0, -USUAL.length) : prefix;
  return expected.map(({ name, shape, aliases = [] }) => {
    const own = name.startsWith(USUAL) ? prefix + name.slice(USUAL.length) : outer + name;
    return { name, shape, aliases: [...aliases, own] };
  });
}
