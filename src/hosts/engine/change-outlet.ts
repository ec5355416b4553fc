/**
 * Changes on their way into a run, each given at a place that is remembered. A run takes changes before a step, and whatever was
 * given before it asked for the step is there then; so a replay that gives them at the same places draws the same picture.
 */
import type { GenerationUpdate } from "../../engine/request.ts";
import type { RunContext } from "../../jobs/run.ts";
import type { EngineState, GivenChange } from "./messages.ts";

export class ChangeOutlet implements AsyncIterable<GenerationUpdate> {
  /** The places at which changes were given so far. */
  places: readonly number[] = [];
  readonly #source: AsyncIterator<GenerationUpdate> | undefined;
  /** Changes of an earlier attempt that are yet to be given. */
  readonly #again: GivenChange[];
  /** The place from which on others are given. */
  readonly #liveFrom: number;
  /** Changes that have come, and that the run was not given. */
  readonly #arrived: GenerationUpdate[] = [];
  readonly #given: GenerationUpdate[] = [];
  /** Wakes the run, which waits for a change. */
  #wake: (() => void) | undefined;
  #isOver = false;

  constructor(updates: RunContext["updates"], { changes, place }: EngineState = { changes: [], place: 0 }) {
    this.#again = [...changes];
    this.#liveFrom = place;
    this.#source = updates?.[Symbol.asyncIterator]() as AsyncIterator<GenerationUpdate> | undefined;
    void this.#read();
  }

  /** Gives the run all that is due at a place; resolves when it has it. */
  async give(place: number): Promise<void> {
    const due = this.#again.filter(({ at }) => at <= place);
    this.#again.splice(0, due.length);
    if (this.#again.length === 0 && place >= this.#liveFrom) {
      due.push(...this.#arrived.splice(0).map((change) => ({ change, at: place })));
    }
    if (due.length === 0) return;
    this.places = [...this.places, ...due.map(({ at }) => at)];
    this.#given.push(...due.map(({ change }) => change));
    this.#wake?.();
    await new Promise(setImmediate);
  }

  close(): void {
    this.#isOver = true;
    this.#wake?.();
    this.#source?.return?.().catch(() => {});
  }

  [Symbol.asyncIterator](): AsyncIterator<GenerationUpdate, undefined> {
    return {
      next: async () => {
        while (this.#given.length === 0 && !this.#isOver) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
        const value = this.#given.shift();
        return value === undefined ? { done: true, value: undefined } : { done: false, value };
      },
      return: async () => {
        this.#isOver = true;
        return { done: true, value: undefined };
      },
    };
  }

  /** Never rejects: a run goes on as it was asked when its updates break off. */
  async #read(): Promise<void> {
    try {
      for (;;) {
        const next = await this.#source?.next();
        if (next === undefined || next.done === true) return;
        this.#arrived.push(next.value);
      }
    } catch {
      // There are no more.
    }
  }
}
