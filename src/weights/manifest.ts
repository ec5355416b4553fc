/**
 * The tensors a model needs against the tensors a file has, before anything is allocated for them.
 *
 * A model says what it needs (its manifest: names and shapes); this finds each of them under its name or an older one,
 * and reports everything that does not fit at once, so that a wrong file is understood at one look.
 */

import { listed, quoted } from "../platform/quoted.ts";
import { type ElementType, isFloatType } from "./element-types.ts";
import { WeightsError } from "./errors.ts";
import type { TensorEntry, TensorSet } from "./tensor-set.ts";

export interface ExpectedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Other names the tensor may have, such as `query.weight` for `to_q.weight` in VAEs saved before diffusers 0.15. */
  readonly aliases?: readonly string[];
}

export interface CheckOptions {
  /** The component's name, for messages: "unet". */
  readonly component: string;
  /** Extra tensors that are no fault. */
  readonly ignore?: (name: string) => boolean;
}

/** Problems that one message names. */
const MOST_LISTED = 10;

/**
 * Finds every expected tensor.
 *
 * A matrix may be saved as a 1×1 convolution and the other way round: `[c, d]` and `[c, d, 1, 1]` are taken for each
 * other. Weights are F32, F16 or BF16. Extra tensors are an error, except tables of positions (`….position_ids`), which
 * transformers used to save beside the weights.
 * @returns the entries by their expected names, in the order expected.
 * @throws WeightsError "weights-mismatch" naming up to ten tensors that are missing, extra, or of a wrong shape or type.
 */
export function checkTensors(
  set: TensorSet,
  expected: Iterable<ExpectedTensor>,
  options: CheckOptions,
): Map<string, TensorEntry> {
  const found = new Map<string, TensorEntry>();
  const used = new Set<string>();
  const problems: string[] = [];
  /** Names by types that no weight may have. */
  const odd = new Map<ElementType, string[]>();

  for (const { name, shape, aliases = [] } of expected) {
    const entry = [name, ...aliases].map((alias) => set.get(alias)).find((candidate) => candidate !== undefined);
    if (entry === undefined) {
      problems.push(`${quoted(name)} [${shape.join(", ")}] is missing`);
      continue;
    }
    used.add(entry.name);
    if (!isFloatType(entry.dtype)) odd.set(entry.dtype, [...(odd.get(entry.dtype) ?? []), quoted(entry.name)]);
    else if (!sameWeight(entry.shape, shape))
      problems.push(`${quoted(entry.name)} is [${brief(entry.shape)}], where [${shape.join(", ")}] is expected`);
    else found.set(name, entry);
  }
  for (const name of set.names()) {
    if (used.has(name) || isPositionTable(name) || options.ignore?.(name)) continue;
    problems.push(`${quoted(name)} is not part of the model`);
  }
  const typed = Array.from(odd, ([type, names]) => ofType(type, names));
  const count = problems.length + [...odd.values()].reduce((sum, names) => sum + names.length, 0);
  if (count > 0) {
    const which = count === 1 ? "a tensor does" : `${count} tensors do`;
    throw new WeightsError(
      "weights-mismatch",
      `${which} not fit the config of ${options.component}: ${listed([...typed, ...problems], MOST_LISTED)}`,
      { file: set.source },
    );
  }
  return found;
}

/** A type that no weight may have, once for all tensors of it: a file in FP8 has nothing else. */
function ofType(type: ElementType, names: readonly string[]): string {
  const [which, verb] =
    names.length === 1 ? [names[0], "is"] : [`${names.length} tensors, such as ${names[0]},`, "are"];
  return `${which} ${verb} ${type}, where F32, F16 or BF16 is expected${adviceOn(type)}`;
}

/** Advice on a type that no weight may have, to stand behind the complaint. */
export function adviceOn(type: ElementType): string {
  return type.startsWith("F8_") ? " (FP8 is not supported: get the file in fp16 or bf16)" : "";
}

/** True if two shapes describe one weight: equal, or a matrix and its 1×1 convolution. */
export function sameWeight(a: readonly number[], b: readonly number[]): boolean {
  const [short, long] = a.length <= b.length ? [a, b] : [b, a];
  if (!short.every((size, i) => size === long[i])) return false;
  return short.length === long.length || (short.length === 2 && long.slice(2).every((size) => size === 1));
}

function isPositionTable(name: string): boolean {
  return name === "position_ids" || name.endsWith(".position_ids");
}

function brief(shape: readonly number[]): string {
  return shape.length > 8 ? `${shape.slice(0, 8).join(", ")}, …` : shape.join(", ");
}
