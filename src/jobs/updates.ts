/**
 * Changes to a running job's input, on their way to its run: changes that were not taken yet are laid over each other, so
 * that a run that reads late is given one change and nothing piles up.
 */
import { JobError } from "./job-errors.ts";

export type Change = Readonly<Record<string, unknown>>;

export class Updates implements AsyncIterable<Change> {
  #pending: Change | undefined;
  #isClosed = false;
  /** Readers under way, each with the function that wakes it. */
  readonly #readers = new Set<UpdatesReader>();

  /** True if the run reads them: it has begun to, and has not stopped. */
  get areRead(): boolean {
    return this.#readers.size > 0;
  }

  push(change: Change): void {
    this.#pending = { ...this.#pending, ...change };
    this.#wakeAll();
  }

  /** There will be no more: readers come to their end. */
  close(): void {
    this.#isClosed = true;
    this.#pending = undefined;
    this.#wakeAll();
  }

  [Symbol.asyncIterator](): AsyncIterator<Change, undefined> {
    const reader: UpdatesReader = { wake: undefined };
    this.#readers.add(reader);
    return {
      next: async () => {
        while (this.#pending === undefined && !this.#isClosed && this.#readers.has(reader)) {
          await new Promise<void>((resolve) => {
            reader.wake = resolve;
          });
        }
        const value = this.#pending;
        if (value === undefined || !this.#readers.has(reader)) return { done: true, value: undefined };
        this.#pending = undefined;
        return { done: false, value };
      },
      return: async () => {
        this.#readers.delete(reader);
        reader.wake?.();
        return { done: true, value: undefined };
      },
    };
  }

  #wakeAll(): void {
    for (const reader of this.#readers) reader.wake?.();
  }
}

interface UpdatesReader {
  wake: (() => void) | undefined;
}

/**
 * The input of something that waits, with a change laid over it.
 *
 * @throws JobError `not-updatable` if the input has no fields
 */
export function changedInput<Input>(input: Input, change: Change): Input {
  if (!isRecord(input)) throw new JobError("not-updatable", "The input of this job has no fields to change");
  return { ...input, ...change };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
