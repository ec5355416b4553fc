/**
 * A batch: slots of one weight set and one shape, which share replays of one plan. Its plans are made for 1, 2, 4 and 8
 * slots; kernels are chosen as for one, so the bits of a slot depend neither on its neighbours nor on their number.
 */

import { GpuOutOfMemoryError, MemoryLimitError } from "../gpu/errors.ts";
import { TensorTooLargeError } from "../graph/errors.ts";
import { ROW_QUADS } from "../graph/ops/diffusion/rows.ts";
import type { Plan, Range } from "../graph/plan.ts";
import { Leases, type ModelMemory } from "../memory/model-memory.ts";
import type { PreparationWatch } from "../memory/preparation.ts";
import type { WeightSet } from "../memory/weight-sets.ts";
import { latentBytes } from "./latents.ts";
import type { SlotMask } from "./mask.ts";
import type { StepModel, StepPlace, StepShape } from "./model.ts";
import type { NoiseLevel, StepRow } from "./schedulers/schedule.ts";
import type { Slot } from "./slots.ts";
import { type Guidance, stepSpec, writeMask, writeStep } from "./step.ts";

/** A slot in a batch, and the conditioning of its picture. Another object means other words. */
export interface Seat {
  readonly slot: Slot;
  conditioning: unknown;
  /** The mask of its picture, if its shape or its network has one. */
  readonly mask?: SlotMask;
}

/** One step of one slot. */
export interface SeatStep extends Guidance {
  readonly seat: Seat;
  readonly place: Omit<StepPlace, "joins">;
  /** The level that the latents have after it; read where the shape is `masked`. */
  readonly after?: NoiseLevel;
  /** Noise to add, `[h, w, channels]`; left out: none. */
  readonly noise?: Float32Array;
  readonly signal?: AbortSignal;
  /** Called when it has its turn on the device. */
  readonly begins?: () => void;
  /** Begins something with the denoised latents, before another step changes them; all of it is submitted when it resolves. */
  readonly use?: (denoised: Range) => Promise<void>;
}

/** The end of a step. */
export interface Outcome {
  /** It has left NaN or infinity. */
  readonly isBroken: boolean;
  /** The rejection of `use`: it is this run's, and not its company's. */
  readonly error?: unknown;
}

/** Slots of the largest plan. */
const LARGEST = 8;

function largestBatch({ gpu }: ModelMemory): number {
  // Under a limit of memory what a run takes must not depend on company.
  return gpu.maxBytes === undefined ? LARGEST : 1;
}

/** Slots of the plan in which so many take their steps: a power of two. */
export function batchSize(memory: ModelMemory, slots: number, largest: number = largestBatch(memory)): number {
  return Math.min(2 ** Math.ceil(Math.log2(Math.max(slots, 1))), largest);
}

/** A plan and the seats that its rows were last written for. */
interface Bucket {
  readonly plan: Plan;
  readonly shape: StepShape;
  readonly rows: (Occupant | undefined)[];
}

interface Occupant {
  readonly seat: Seat;
  readonly conditioning: unknown;
}

export class Batch {
  readonly set: WeightSet;
  readonly shape: StepShape;
  readonly #model: StepModel;
  readonly #memory: ModelMemory;
  readonly #leases: Leases[] = [];
  readonly #buckets = new Map<number, Bucket>();
  /** Sizes of plans that are being made, and that nobody waits for. */
  readonly #ahead = new Set<number>();
  /** Slots of the largest plan that fits. */
  #largest: number;
  #isOver = false;

  constructor(model: StepModel, memory: ModelMemory, set: WeightSet, shape: StepShape) {
    this.#model = model;
    this.set = set;
    this.shape = { ...shape, slots: 1 };
    this.#memory = memory;
    this.#largest = largestBatch(memory);
  }

  /** Makes the plan for so many slots, as far as it fits; a smaller one is enough. @throws if not even one slot fits */
  async prepare(slots: number, watch: PreparationWatch = {}): Promise<void> {
    for (;;) {
      const size = this.#sizeFor(slots);
      try {
        return await this.#make(size, watch);
      } catch (error) {
        if (size === 1 || !isTooMuch(error)) throw error;
        this.#largest = size / 2;
      }
    }
  }

  /** The most slots that may take their next step together now; a plan for more of those that wait is begun. */
  capacity(waiting: number): number {
    const wanted = this.#sizeFor(waiting);
    if (!this.#buckets.has(wanted)) void this.#makeAhead(wanted); // the smaller ones do meanwhile
    return (
      Math.max(...[...this.#buckets.keys()].filter((size) => size <= wanted), 0) || Math.min(...this.#buckets.keys())
    );
  }

  /**
   * Takes one step of each of `steps`, as many as `capacity` said at most.
   * @returns the outcome of each
   */
  async take(steps: readonly SeatStep[]): Promise<Outcome[]> {
    const bucket = this.#bucketFor(steps.length);
    const { plan, shape } = bucket;
    const rows = seated(bucket, steps);
    for (const [index, step] of steps.entries()) await this.#write(bucket, rows[index]!, step);
    this.#clear(bucket, rows);
    const each = (work: (slot: Slot, row: number, at: StepRow) => void) => {
      for (const [index, { seat, place }] of steps.entries()) work(seat.slot, rows[index]!, place.rows[place.index]!);
    };
    const broken = await plan.replayAndRead("broken", {
      before: (encoder) => each((slot, row, at) => slot.load(encoder, plan, shape, row, at)),
      after: (encoder) => each((slot, row, at) => slot.store(encoder, plan, shape, row, at)),
    });
    const { buffer, offset } = plan.range("denoised");
    const size = latentBytes(shape);
    const outcomes: Outcome[] = [];
    for (const [index, { use }] of steps.entries()) {
      const row = rows[index]!;
      const isBroken = broken[row] !== 0;
      try {
        if (!isBroken) await use?.({ buffer, offset: offset + row * size, size });
        outcomes.push({ isBroken });
      } catch (error) {
        outcomes.push({ isBroken, error });
      }
    }
    return outcomes;
  }

  /** Nobody takes steps in it any more: its plans may give way to others. */
  end(): void {
    this.#isOver = true;
    this.#buckets.clear();
    for (const lease of this.#leases) lease.giveBack();
  }

  async #write(
    { plan, shape, rows }: Bucket,
    row: number,
    { seat, place, after, guidanceScale, guidanceRescale, noise }: SeatStep,
  ): Promise<void> {
    const { conditioning } = seat;
    const before = rows[row];
    if (before?.seat !== seat || before.conditioning !== conditioning) {
      await this.#model.writeConditioning(plan, shape, row, conditioning);
    }
    if (seat.mask && before?.seat !== seat) await writeMask(plan, this.#model, shape, row, seat.mask);
    const step = { ...place, after, guidanceScale, guidanceRescale, joins: before?.seat !== seat };
    writeStep(plan, this.#model, shape, row, step, conditioning);
    if (noise) await plan.writeInTurns("noise", noise, row);
    rows[row] = { seat, conditioning };
  }

  /** Rows that take no step now compute from zeros, and stay finite. */
  #clear({ plan, rows }: Bucket, taken: readonly number[]): void {
    for (const [row, occupant] of rows.entries()) {
      if (occupant === undefined || taken.includes(row)) continue;
      plan.write("rows", new Float32Array(ROW_QUADS * 4), row * ROW_QUADS);
    }
  }

  #bucketFor(slots: number): Bucket {
    const sizes = [...this.#buckets.keys()].filter((size) => size >= slots);
    return this.#buckets.get(Math.min(...sizes))!;
  }

  /** The least power of two that holds so many, as far as plans fit. */
  #sizeFor(slots: number): number {
    return batchSize(this.#memory, slots, this.#largest);
  }

  async #makeAhead(slots: number): Promise<void> {
    if (this.#ahead.has(slots)) return;
    this.#ahead.add(slots);
    await this.prepare(slots).catch(() => {}); // those who need it are told
    this.#ahead.delete(slots);
  }

  async #make(slots: number, watch: PreparationWatch): Promise<void> {
    if (this.#buckets.has(slots)) return;
    const shape = { ...this.shape, slots };
    const lease = new Leases(this.#memory, this.set, watch);
    const plan = await lease.plan(stepSpec(this.#model, shape));
    if (this.#isOver || this.#buckets.has(slots)) {
      lease.giveBack();
      return;
    }
    this.#leases.push(lease);
    this.#buckets.set(slots, { plan, shape, rows: new Array(slots).fill(undefined) });
  }
}

/** A row for each step: the one that its seat has already, else one that is free. */
function seated({ rows }: Bucket, steps: readonly SeatStep[]): number[] {
  const seats = new Set(steps.map(({ seat }) => seat));
  const free = [...rows.keys()].filter((row) => !(rows[row] && seats.has(rows[row].seat)));
  // An empty one first: a seat that sits this step out finds its row as it was.
  free.sort((one, other) => Number(rows[one] !== undefined) - Number(rows[other] !== undefined));
  return steps.map(({ seat }) => {
    const row = rows.findIndex((occupant) => occupant?.seat === seat);
    return row >= 0 ? row : free.shift()!;
  });
}

function isTooMuch(error: unknown): boolean {
  return (
    error instanceof MemoryLimitError || error instanceof GpuOutOfMemoryError || error instanceof TensorTooLargeError
  );
}
