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
  wait: Number.POSITIVE_INFINITY,
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

/** Phases in which a run has the device, and waits for nobody. */
const COMPUTING: ReadonlySet<Phase> = new Set(["first-step", "step", "encode"]);

/** Milliseconds; `setTimeout` takes no more. */
const LONGEST_TIMER = 2 ** 31 - 1;

/**
 * Watches one run. The time runs only while somebody waits for the run: one that waits for its reader is not late. A run that
 * says when it waits (`wait`) is watched in each of its steps and encodings, whether somebody reads or not.
 */
export class PhaseWatch {
  readonly #deadlines: Deadlines;
  readonly #steps: StepTimes;
  readonly #onLate: (phase: Phase, ms: number) => void;
  #phase: Phase = "compile";
  #began = performance.now();
  #timer: NodeJS.Timeout | undefined;
  #isAwaited = false;
  #saysWhenItWaits = false;
  #isOver = false;
  /** The longest step of this run so far, in milliseconds; the first one holds more than a step. */
  #longestStep = 0;

  constructor(deadlines: Deadlines, steps: StepTimes, onLate: (phase: Phase, ms: number) => void) {
    this.#deadlines = deadlines;
    this.#steps = steps;
    this.#onLate = onLate;
  }

  enter(phase: Phase): void {
    const ms = performance.now() - this.#began;
    if (this.#phase === "step") this.#steps.add(ms);
    if (this.#phase === "step" || this.#phase === "first-step") this.#longestStep = Math.max(this.#longestStep, ms);
    this.#saysWhenItWaits ||= phase === "wait";
    this.#phase = phase;
    this.#began = performance.now();
    this.#restart();
  }

  /** Somebody waits for the run's next event, or no longer. */
  expect(isAwaited: boolean): void {
    this.#isAwaited = isAwaited;
    this.#restart();
  }

  /** Nobody is interested in the run any more. */
  end(): void {
    clearTimeout(this.#timer);
    this.#isOver = true;
  }

  #restart(): void {
    clearTimeout(this.#timer);
    if (this.#isOver) return;
    const phase = this.#phase;
    if (!this.#isAwaited && !(this.#saysWhenItWaits && COMPUTING.has(phase))) return;
    const ms = this.#deadlineOf(phase);
    if (ms > LONGEST_TIMER) return;
    this.#timer = setTimeout(() => this.#onLate(phase, ms), ms);
    this.#timer.unref();
  }

  /** A run's steps are of one size, and those of others may be of another. */
  #deadlineOf(phase: Phase): number {
    if (phase !== "step") return this.#deadlines[phase];
    return Math.max(this.#steps.deadline(this.#deadlines.step), STEPS * this.#longestStep);
  }
}
