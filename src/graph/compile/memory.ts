/**
 * The places of computed tensors: planned once, by liveness, over a few arenas.
 *
 * WebGPU tracks use by whole buffers: a dispatch may not read one range of a buffer and write another. So an output
 * never shares an arena with what its operation reads, and there are several arenas (three or four in practice). None is
 * larger than a binding, so that every tensor can be bound wherever it lies.
 */

import { TensorTooLargeError } from "../errors.ts";
import { type Operation, readsOf } from "../ops/table.ts";
import { type Storage, tensorBytes } from "../tensor.ts";

export interface Place {
  readonly arena: number;
  readonly offset: number;
  readonly size: number;
}

export interface MemoryPlan {
  readonly places: ReadonlyMap<number, Place>;
  /** Bytes of each arena. */
  readonly arenas: readonly number[];
}

export interface ArenaOptions {
  readonly storage: Storage;
  readonly alignment: number;
  readonly maxArenaBytes: number;
}

interface Block {
  offset: number;
  size: number;
}

interface Arena {
  end: number;
  readonly free: Block[];
}

/**
 * Places the outputs of `operations`, which run in this order. `kept` tensors are never overwritten once made.
 * @throws TensorTooLargeError for a tensor larger than an arena may be
 */
export function planMemory(
  operations: readonly Operation[],
  kept: ReadonlySet<number>,
  options: ArenaOptions,
): MemoryPlan {
  const lastUse = new Map<number, number>();
  operations.forEach((operation, index) => {
    lastUse.set(operation.output.id, index);
    for (const tensor of readsOf(operation)) lastUse.set(tensor.id, index);
  });
  const places = new Map<number, Place>();
  const arenas: Arena[] = [];

  operations.forEach((operation, index) => {
    const reads = readsOf(operation);
    const size = align(tensorBytes(operation.output, options.storage), options.alignment);
    if (size > options.maxArenaBytes) {
      throw new TensorTooLargeError(
        `${operation.name}: a tensor [${operation.output.shape}] of ${size} bytes is over this adapter's limit of ${options.maxArenaBytes} for one binding; ask for a smaller picture`,
      );
    }
    const taken = new Set(reads.map((tensor) => places.get(tensor.id)?.arena));
    places.set(operation.output.id, place(arenas, taken, size, options.maxArenaBytes));
    // By id: an operation may read a tensor twice, in two views.
    for (const id of new Set([...reads, operation.output].map((tensor) => tensor.id))) {
      const spot = places.get(id);
      if (spot && lastUse.get(id) === index && !kept.has(id)) release(arenas[spot.arena]!, spot);
    }
  });
  return { places, arenas: arenas.map((arena) => arena.end) };
}

/** The tightest free block, else the arena that has to grow least, else a new arena. */
function place(arenas: Arena[], taken: ReadonlySet<number | undefined>, size: number, maxBytes: number): Place {
  let best: { arena: number; block: number; slack: number } | undefined;
  let growth: { arena: number; bytes: number } | undefined;
  arenas.forEach((arena, index) => {
    if (taken.has(index)) return;
    arena.free.forEach((block, at) => {
      const slack = block.size - size;
      if (slack >= 0 && (!best || slack < best.slack)) best = { arena: index, block: at, slack };
    });
    const bytes = size - tail(arena);
    if (arena.end + bytes <= maxBytes && (!growth || bytes < growth.bytes)) growth = { arena: index, bytes };
  });
  if (best) {
    const { free } = arenas[best.arena]!;
    const block = free[best.block]!;
    const spot = { arena: best.arena, offset: block.offset, size };
    if (best.slack === 0) free.splice(best.block, 1);
    else Object.assign(block, { offset: block.offset + size, size: best.slack });
    return spot;
  }
  if (!growth) {
    arenas.push({ end: size, free: [] });
    return { arena: arenas.length - 1, offset: 0, size };
  }
  const arena = arenas[growth.arena]!;
  const offset = arena.end - tail(arena);
  if (tail(arena) > 0) arena.free.pop();
  arena.end = offset + size;
  return { arena: growth.arena, offset, size };
}

/** Bytes free at the arena's end. */
function tail(arena: Arena): number {
  const last = arena.free.at(-1);
  return last && last.offset + last.size === arena.end ? last.size : 0;
}

/** Gives a range back, joined with its free neighbours; `free` stays sorted by offset. */
function release(arena: Arena, { offset, size }: Place): void {
  const { free } = arena;
  let at = free.findIndex((block) => block.offset > offset);
  if (at < 0) at = free.length;
  free.splice(at, 0, { offset, size });
  for (const index of [at, at - 1]) {
    const block = free[index];
    const next = free[index + 1];
    if (block && next && block.offset + block.size === next.offset) {
      block.size += next.size;
      free.splice(index + 1, 1);
    }
  }
}

export function align(size: number, alignment: number): number {
  return Math.ceil(size / alignment) * alignment;
}
