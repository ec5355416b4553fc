/**
 * The stepper: runs of one model take their denoising steps by it. Slots that wait for a step of the same batch share a
 * replay, whatever their step, scheduler, guidance or prompt; batches that cannot share one take turns (`device-turns.ts`).
 * It never waits for company, and a run that asks for no step takes no part.
 */

import type { ModelMemory } from "../memory/model-memory.ts";
import type { PreparationWatch } from "../memory/preparation.ts";
import type { WeightSet } from "../memory/weight-sets.ts";
import { Batch, type SeatStep } from "./batch.ts";
import type { Candidate, Customer, DeviceTurns } from "./device-turns.ts";
import type { StepModel, StepShape } from "./model.ts";
import { isSameShape } from "./shape.ts";

/** A run's place in a batch. `leave` it when the run takes no more steps there. */
export interface Membership {
  readonly customer: Customer;
  /** Takes one step of each slot; resolves with whether it has left NaN or infinity. */
  step(steps: readonly SeatStep[]): Promise<boolean>;
  leave(): void;
}

interface Waiting {
  readonly member: Membership;
  readonly step: SeatStep;
  readonly resolve: (isBroken: boolean) => void;
  readonly reject: (reason: unknown) => void;
}

/** A batch with those that wait for its next step. */
class Line implements Candidate {
  readonly batch: Batch;
  readonly waiting: Waiting[] = [];
  members = 0;
  used = 0;
  /** Its steps are being taken. */
  isRunning = false;
  /** A step is under way. */
  isTaking = false;

  constructor(batch: Batch) {
    this.batch = batch;
  }

  get customers(): readonly Customer[] {
    return this.waiting.map(({ member }) => member.customer);
  }

  /** Takes out as many as share the next step: first of those that come first, in the order in which they asked. */
  next(): Waiting[] {
    const order = this.waiting.toSorted((one, other) => one.member.customer.rank - other.member.customer.rank);
    const next = order.slice(0, this.batch.capacity(order.length));
    drop(this.waiting, (one) => next.includes(one));
    return next;
  }
}

export class Stepper {
  readonly #model: StepModel;
  readonly #memory: ModelMemory;
  readonly #turns: DeviceTurns;
  /** Replays by the number of slots that shared them. */
  readonly batches = new Map<number, number>();
  readonly #lines = new Set<Line>();

  constructor(model: StepModel, memory: ModelMemory, turns: DeviceTurns) {
    this.#model = model;
    this.#memory = memory;
    this.#turns = turns;
  }

  /**
   * Joins the batch of these weights and this shape, with `shape.slots` slots, once its plan is there.
   * @param customer on whose account its steps are
   * @param watch follows the plan if it has to be compiled
   * @throws MemoryLimitError, TensorTooLargeError if it does not fit; GPU errors; the reason of the watch's signal
   */
  async join(set: WeightSet, shape: StepShape, customer: Customer, watch: PreparationWatch = {}): Promise<Membership> {
    const line = this.#find(set, shape) ?? this.#open(set, shape);
    line.members++;
    let isMember = true;
    const leave = () => {
      if (!isMember) return;
      isMember = false;
      const hasLeft = new DOMException("The run has left", "AbortError");
      for (const { reject } of drop(line.waiting, ({ member }) => member === membership)) reject(hasLeft);
      line.members--;
      this.#endUnused(line);
    };
    const membership: Membership = { customer, step: (steps) => this.#step(line, membership, steps), leave };
    try {
      await line.batch.prepare(shape.slots, watch);
    } catch (error) {
      leave();
      throw error;
    }
    return membership;
  }

  async #step(line: Line, member: Membership, steps: readonly SeatStep[]): Promise<boolean> {
    this.#turns.arrive(member.customer);
    const taking = steps.map(
      (step) => new Promise<boolean>((resolve, reject) => void line.waiting.push({ member, step, resolve, reject })),
    );
    if (!line.isRunning) void this.#run(line);
    // All of them: a run may give back its slots when none is under way any more.
    const taken = await Promise.allSettled(taking);
    const failed = taken.find(({ status }) => status === "rejected") as PromiseRejectedResult | undefined;
    if (failed) throw failed.reason;
    return taken.some((one) => one.status === "fulfilled" && one.value);
  }

  /** Takes steps as long as somebody waits for one. */
  async #run(line: Line): Promise<void> {
    line.isRunning = true;
    while (line.waiting.length > 0) {
      const turn = await this.#turns.wait(line);
      let next: Waiting[] = [];
      try {
        const stopped = drop(line.waiting, ({ step }) => step.signal?.aborted === true);
        for (const { step, reject } of stopped) reject(step.signal!.reason);
        next = line.next();
        await this.#take(line, next);
      } finally {
        turn.end(next.map(({ member }) => member.customer));
      }
      // Those that have just taken a step ask for their next one in this turn, and share it with those that came meanwhile.
      await new Promise((resolve) => setImmediate(resolve));
    }
    line.isRunning = false;
  }

  async #take(line: Line, next: readonly Waiting[]): Promise<void> {
    if (next.length === 0) return;
    line.isTaking = true;
    this.batches.set(next.length, (this.batches.get(next.length) ?? 0) + 1);
    for (const { step } of next) step.begins?.();
    try {
      const outcomes = await line.batch.take(next.map(({ step }) => step));
      for (const [index, { resolve, reject }] of next.entries()) {
        const outcome = outcomes[index]!;
        if ("error" in outcome) reject(outcome.error);
        else resolve(outcome.isBroken);
      }
    } catch (error) {
      for (const { reject } of next) reject(error);
    } finally {
      line.isTaking = false;
      this.#endUnused(line);
    }
  }

  /** Ends a batch that nobody is a member of, once its step under way has been taken. */
  #endUnused(line: Line): void {
    if (line.members > 0) return;
    this.#lines.delete(line);
    if (!line.isTaking) line.batch.end();
  }

  #find(set: WeightSet, shape: StepShape): Line | undefined {
    const owner = set.ownerOf(this.#model.needs(shape));
    return [...this.#lines].find(
      ({ batch }) =>
        batch.set.ownerOf(this.#model.needs(shape)) === owner && isSameShape(batch.shape, { ...shape, slots: 1 }),
    );
  }

  #open(set: WeightSet, shape: StepShape): Line {
    const line = new Line(new Batch(this.#model, this.#memory, set, shape));
    this.#lines.add(line);
    return line;
  }
}

/** Takes those out of `waiting` that are meant. */
function drop(waiting: Waiting[], isMeant: (one: Waiting) => boolean): Waiting[] {
  const dropped = waiting.filter(isMeant);
  for (const one of dropped) waiting.splice(waiting.indexOf(one), 1);
  return dropped;
}
