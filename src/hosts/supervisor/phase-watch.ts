/** The deadline of a run's phase: how long a process may be silent before it is taken for hung. */
import type { Phase } from "../messages.ts";

/** Milliseconds. */
export type Deadlines = Readonly<Record<Phase, number>>;

/**
 * Far above anything measured, since a process that works is worth more than one that is replaced soon: kernels of a software
 * GPU compile for 31 s without a cache, and a driver's compiler may stop a step for four.
 */
export const DEADLINES: Deadlines = {
  load: 120_000,
  compile: 300_000,
  "first-step": 120_000,
  step: 10_000,
  encode: 30_000,
};

/** A step may take so many times as long as the median of those before. */
const STEPS = 20;
/** Steps that the median is of. */
const REMEMBERED = 32;

/** How long steps take in this process. */
export class StepTimes {
  readonly #times: number[] = [];

  add(ms: number): void {
    this.#times.push(ms);
    if (this.#times.length > REMEMBERED) this.#times.shift();
  }

  /** Milliseconds that a step may take, if steps are to take `least` at the least. */
  deadline(least: number): number {
    const sorted = [...this.#times].sort((left, right) => left - right);
    return Math.max(least, STEPS * (sorted[sorted.length >> 1] ?? 0));
  }
}

/** Watches one run. The time runs only while somebody waits for the run: one that waits for its reader is not late. */
export class PhaseWatch {
  readonly #deadlines: Deadlines;
  readonly #steps: StepTimes;
  readonly #onLate: (phase: Phase, ms: number) => void;
  #phase: Phase = "compile";
  #began = performance.now();
  #timer: NodeJS.Timeout | undefined;
  #isAwaited = false;

  constructor(deadlines: Deadlines, steps: StepTimes, onLate: (phase: Phase, ms: number) => void) {
    this.#deadlines = deadlines;
    this.#steps = steps;
    this.#onLate = onLate;
  }

  enter(phase: Phase): void {
    if (this.#phase === "step") this.#steps.add(performance.now() - this.#began);
    this.#phase = phase;
    this.#began = performance.now();
    this.#restart();
  }

  /** Somebody waits for the run's next event, or no longer. */
  expect(isAwaited: boolean): void {
    this.#isAwaited = isAwaited;
    this.#restart();
  }

  #restart(): void {
    clearTimeout(this.#timer);
    if (!this.#isAwaited) return;
    const phase = this.#phase;
    const ms = phase === "step" ? this.#steps.deadline(this.#deadlines.step) : this.#deadlines[phase];
    this.#timer = setTimeout(() => this.#onLate(phase, ms), ms);
  }
}
