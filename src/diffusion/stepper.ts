/**
 * The stepper: runs of one model take their denoising steps by it. Slots that wait for a step of the same batch share a
 * replay, whatever their step, scheduler, guidance or prompt; batches that cannot share one take turns by the device time
 * that they have used. It never waits for company, and a run that asks for no step takes no part.
 */

import type { ModelMemory } from "../memory/model-memory.ts";
import type { PreparationWatch } from "../memory/preparation.ts";
import type { WeightSet } from "../memory/weight-sets.ts";
import { Batch, type SeatStep } from "./batch.ts";
import type { StepModel, StepShape } from "./model.ts";
import { isSameShape } from "./shape.ts";

/** A run's place in a batch. `leave` it when the run takes no more steps there. */
export interface Membership {
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

interface Line {
  readonly batch: Batch;
  readonly waiting: Waiting[];
  members: number;
  /** A step is under way. */
  isTaking: boolean;
  /** Milliseconds of the device, from the least of the others when it began. */
  used: number;
}

export class Stepper {
  readonly #model: StepModel;
  readonly #memory: ModelMemory;
  readonly #lines = new Set<Line>();
  #isStepping = false;

  constructor(model: StepModel, memory: ModelMemory) {
    this.#model = model;
    this.#memory = memory;
  }

  /**
   * Joins the batch of these weights and this shape, with `shape.slots` slots, once its plan is there.
   * @param watch follows the plan if it has to be compiled
   * @throws MemoryLimitError, TensorTooLargeError if it does not fit; GPU errors; the reason of the watch's signal
   */
  async join(set: WeightSet, shape: StepShape, watch: PreparationWatch = {}): Promise<Membership> {
    const line = this.#find(set, shape) ?? this.#open(set, shape);
    line.members++;
    let isMember = true;
    const leave = () => {
      if (!isMember) return;
      isMember = false;
      dropWaiting(
        line.waiting,
        ({ member }) => member === membership,
        () => new DOMException("The run has left", "AbortError"),
      );
      line.members--;
      this.#endUnused(line);
    };
    const membership: Membership = { step: (steps) => this.#step(line, membership, steps), leave };
    try {
      await line.batch.prepare(shape.slots, watch);
    } catch (error) {
      leave();
      throw error;
    }
    return membership;
  }

  async #step(line: Line, member: Membership, steps: readonly SeatStep[]): Promise<boolean> {
    const taking = steps.map(
      (step) => new Promise<boolean>((resolve, reject) => void line.waiting.push({ member, step, resolve, reject })),
    );
    if (!this.#isStepping) void this.#takeSteps();
    // All of them: a run may give back its slots when none is under way any more.
    const taken = await Promise.allSettled(taking);
    const failed = taken.find(({ status }) => status === "rejected") as PromiseRejectedResult | undefined;
    if (failed) throw failed.reason;
    return taken.some((one) => one.status === "fulfilled" && one.value);
  }

  async #takeSteps(): Promise<void> {
    this.#isStepping = true;
    for (let line = this.#next(); line; line = this.#next()) {
      const begun = performance.now();
      await this.#take(line);
      line.used += performance.now() - begun;
      // Those that have just taken a step ask for their next one in this turn, and share it with those that came meanwhile.
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#isStepping = false;
  }

  async #take(line: Line): Promise<void> {
    const { batch, waiting } = line;
    const taken = waiting.splice(0, batch.capacity(waiting.length));
    line.isTaking = true;
    try {
      const outcomes = await batch.take(taken.map(({ step }) => step));
      for (const [index, { resolve, reject }] of taken.entries()) {
        const outcome = outcomes[index]!;
        if ("error" in outcome) reject(outcome.error);
        else resolve(outcome.isBroken);
      }
    } catch (error) {
      for (const { reject } of taken) reject(error);
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

  /** The line that has used least, of those in which somebody waits. */
  #next(): Line | undefined {
    for (const { waiting } of this.#lines) {
      dropWaiting(
        waiting,
        ({ step }) => step.signal?.aborted === true,
        ({ step }) => step.signal!.reason,
      );
    }
    const lines = [...this.#lines].filter(({ waiting }) => waiting.length > 0);
    return lines.reduce<Line | undefined>(
      (least, line) => (least && least.used <= line.used ? least : line),
      undefined,
    );
  }

  #find(set: WeightSet, shape: StepShape): Line | undefined {
    const owner = set.ownerOf(this.#model.needs(shape));
    return [...this.#lines].find(
      ({ batch }) =>
        batch.set.ownerOf(this.#model.needs(shape)) === owner && isSameShape(batch.shape, { ...shape, slots: 1 }),
    );
  }

  #open(set: WeightSet, shape: StepShape): Line {
    const used = Math.min(...[...this.#lines].map((line) => line.used));
    const batch = new Batch(this.#model, this.#memory, set, shape);
    const line: Line = { batch, waiting: [], members: 0, isTaking: false, used: Number.isFinite(used) ? used : 0 };
    this.#lines.add(line);
    return line;
  }
}

function dropWaiting(
  waiting: Waiting[],
  isDropped: (one: Waiting) => boolean,
  reason: (one: Waiting) => unknown,
): void {
  for (const one of waiting.filter(isDropped)) {
    waiting.splice(waiting.indexOf(one), 1);
    one.reject(reason(one));
  }
}
