/**
 * Fusion: passes over the recorded operations that save passes over memory.
 *
 * An addition or activation right after a convolution (or linear layer) becomes its epilogue; an activation after group
 * normalisation becomes part of it; a nearest resize before a convolution becomes the way the convolution reads its
 * input; a gate becomes part of the layer that makes both of its halves. Each applies only where the value in between has
 * no other reader.
 */

import type { Convolution } from "../ops/convolution.ts";
import { addsPerImage, type Elementwise } from "../ops/elementwise.ts";
import type { GroupNormApply } from "../ops/group-norm.ts";
import { kindOf, type Operation, readsOf } from "../ops/table.ts";
import { channelsOf, partsOf, type Tensor } from "../tensor.ts";

/** The operations fused, without those that nobody reads. `outputs` are read from outside. */
export function fuse(operations: readonly Operation[], outputs: Iterable<Tensor>): Operation[] {
  const list: (Operation | undefined)[] = [...operations];
  const results = [...outputs]; // gone through twice
  const makers = new Map<number, number>(list.map((operation, index) => [operation!.output.id, index]));
  const readers = new Map<number, number>();
  const count = (tensor: Tensor, by: number) => readers.set(tensor.id, (readers.get(tensor.id) ?? 0) + by);
  for (const operation of operations) for (const tensor of readsOf(operation)) count(tensor, 1);
  for (const tensor of results) count(tensor, 1);

  /** The operation that makes a tensor which only one other reads. */
  const soleMaker = (tensor: Tensor): { index: number; operation: Operation } | undefined => {
    const index = makers.get(tensor.id);
    const operation = index === undefined ? undefined : list[index];
    return operation && readers.get(tensor.id) === 1 ? { index: index!, operation } : undefined;
  };
  /** Puts `fused` in the place of the operation at `at`, and drops the one that it swallowed. */
  const replace = (at: number, swallowed: number, fused: Operation) => {
    list[swallowed] = undefined;
    list[at] = fused;
    makers.set(fused.output.id, at);
  };

  for (let at = 0; at < list.length; at++) {
    const operation = list[at];
    if (operation?.kind === "convolution") {
      const maker = soleMaker(operation.input);
      if (maker?.operation.kind === "upsample-nearest" && readsPicture(operation, maker.operation.output)) {
        replace(at, maker.index, readResized(operation, maker.operation.input));
      }
    } else if (operation?.kind === "elementwise") {
      if (operation.inputScale !== 1 || operation.scale !== 1 || operation.shift !== 0) continue;
      if (operation.addend === undefined) {
        const maker = soleMaker(operation.input);
        const fused = maker && withActivation(maker.operation, operation);
        if (fused) replace(at, maker.index, fused);
      } else if (operation.activation === "none") {
        const fused = [operation.input, operation.addend]
          .map((tensor) => ({ tensor, maker: soleMaker(tensor) }))
          .sort((a, b) => (b.maker?.index ?? -1) - (a.maker?.index ?? -1))
          .map(
            ({ tensor, maker }) =>
              maker && { index: maker.index, result: withAddend(maker.operation, operation, tensor) },
          )
          .find((candidate) => candidate?.result !== undefined);
        if (fused) replace(at, fused.index, fused.result!);
      }
    }
  }
  return live(
    list.filter((operation) => operation !== undefined),
    results,
  );
}

/** True if a convolution sees a tensor `[n, h, w, c]` as such; a linear layer takes each image's pixels as one row. */
function readsPicture({ virtual }: Convolution, { shape }: Tensor): boolean {
  return virtual.height === shape[1] && virtual.width === shape[2];
}

function readResized(convolution: Convolution, input: Tensor): Convolution {
  const [, inHeight, inWidth] = input.shape as [number, number, number];
  return { ...convolution, input, picture: { ...convolution.picture, inHeight, inWidth } };
}

function withActivation(maker: Operation, activation: Elementwise): Operation | undefined {
  if (maker.kind !== "convolution" && maker.kind !== "group-norm-apply") return;
  if (maker.activation !== "none") return;
  return { ...maker, activation: activation.activation, output: activation.output };
}

function withAddend(maker: Operation, addition: Elementwise, made: Tensor): Operation | undefined {
  if (maker.kind !== "convolution" || maker.residual) return;
  const other = made === addition.input ? addition.addend! : addition.input;
  if (!addsPerImage(addition)) {
    // An activation that is there already came before this addition.
    return { ...maker, residual: other, activationAfterResidual: maker.activation === "none", output: addition.output };
  }
  if (made !== addition.input || maker.perImage || maker.activation !== "none") return;
  return { ...maker, perImage: { tensor: other, offset: addition.firstAddendQuad * 4 }, output: addition.output };
}

/** Without the operations whose output nobody reads; those that change a state always stay. */
function live(operations: readonly Operation[], outputs: Iterable<Tensor>): Operation[] {
  const wanted = new Set([...outputs].map((tensor) => tensor.id));
  const kept: Operation[] = [];
  for (const operation of [...operations].reverse()) {
    if (!wanted.has(operation.output.id) && !kindOf(operation).changesState) continue;
    for (const tensor of readsOf(operation)) wanted.add(tensor.id);
    kept.push(operation);
  }
  return kept.reverse();
}

/**
 * Layers whose two halves a gate multiplies do so themselves, where `joins` says that they can; the gates are gone. Not
 * layers whose output is among `outputs`, or is sliced.
 */
export function joinGates(
  operations: readonly Operation[],
  outputs: Iterable<Tensor>,
  joins: (operation: Convolution) => boolean,
): Operation[] {
  const wanted = new Set([...outputs].map(({ id }) => id));
  const makers = new Map(operations.map((operation) => [operation.output.id, operation]));
  const readers = new Map<number, Set<Operation>>();
  for (const operation of operations) {
    for (const { id } of readsOf(operation)) readers.set(id, (readers.get(id) ?? new Set()).add(operation));
  }
  const swallowed = new Set<Operation>();
  const joined = operations.map((operation) => {
    if (operation.kind !== "geglu") return operation;
    const { value, gate, output } = operation;
    const layer = makers.get(value.tensor.id);
    const isOnly = readers.get(value.tensor.id)!.size === 1 && !wanted.has(value.tensor.id);
    const ofHalves = gate.tensor.id === value.tensor.id && value.offset === 0 && gate.offset === channelsOf(output);
    if (layer?.kind !== "convolution" || !isOnly || !ofHalves || !isPlain(layer) || !joins(layer)) return operation;
    swallowed.add(layer);
    return { ...layer, gated: true, output };
  });
  return joined.filter((operation) => !swallowed.has(operation));
}

/** A layer in one piece, with nothing in its epilogue but a bias. */
function isPlain({ input, perImage, residual, activation, output, weight }: Convolution): boolean {
  const isWhole = partsOf(input).length === 1 && channelsOf(output) === weight.outputQuads * 4;
  return isWhole && !perImage && !residual && activation === "none";
}

/**
 * Group norms that `joins` says so of make their statistics themselves; the operations that did are gone. Not those whose
 * statistics come from outside, or are among `outputs`.
 */
export function joinGroupNorms(
  operations: readonly Operation[],
  outputs: Iterable<Tensor>,
  joins: (operation: GroupNormApply) => boolean,
): Operation[] {
  const wanted = new Set([...outputs].map(({ id }) => id));
  const made = new Set(operations.map(({ output }) => output.id).filter((id) => !wanted.has(id)));
  const joined = operations.map((operation) =>
    operation.kind === "group-norm-apply" && made.has(operation.statistics.output.id) && joins(operation)
      ? { ...operation, joined: true }
      : operation,
  );
  for (const tensor of joined.flatMap(readsOf)) wanted.add(tensor.id);
  return joined.filter(({ kind, output }) => kind !== "group-norm-stats" || wanted.has(output.id));
}
