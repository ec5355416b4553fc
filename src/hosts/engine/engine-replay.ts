/**
 * The replay of a picture in another process. A run makes previews only while they are wanted, and tells how it gets ready as
 * long as that takes; so its events have places, and the reader is handed each place once.
 */
import type { RunEvent } from "../../engine/events.ts";
import type { RunContext } from "../../jobs/run.ts";
import { ChangeJournal } from "../supervisor/change-journal.ts";
import type { Attempt, Replay } from "../supervisor/replay.ts";
import { type EngineEvent, type EngineState, type GivenChange, placeOf } from "./messages.ts";

export class EngineReplay implements Replay<EngineEvent> {
  readonly #journal: ChangeJournal;
  #attempts = 0;
  /** The place of the last event that the reader has. */
  #delivered = 0;
  /** When the first attempt and this one began, by `performance.now()`. */
  #begun = 0;
  #begunAgain = 0;

  constructor(context: RunContext) {
    this.#journal = new ChangeJournal(context.updates, () => undefined);
    this.#journal.open(); // whoever sends a change is told at once that it will be taken
  }

  begin(): Attempt {
    this.#begunAgain = performance.now();
    if (this.#attempts++ === 0) this.#begun = this.#begunAgain;
    const changes = this.#journal.entries.flatMap(({ change, at }) => (at === undefined ? [] : [{ change, at }]));
    const from: EngineState = { changes: changes as GivenChange[], place: this.#delivered };
    // Those of which no event tells yet had no effect that anybody has seen.
    return { from, updates: this.#journal.from(changes.length) };
  }

  /** The run says at which places it was given its changes; they stay there. */
  received(value: unknown): void {
    const { changes } = value as Partial<EngineEvent>;
    for (const [index, at] of changes?.entries() ?? []) {
      const entry = this.#journal.entries[index];
      if (entry !== undefined) entry.at = at;
    }
  }

  checkpoint(): void {}

  next(value: unknown): readonly EngineEvent[] {
    const { event } = value as Partial<EngineEvent>;
    if (event === undefined) return [value as EngineEvent];
    const place = placeOf(event);
    const isAgain = this.#attempts > 1;
    if (place === undefined) return isAgain && event.type === "queued" ? [] : [value as EngineEvent];
    if (place <= this.#delivered) return [];
    this.#delivered = place;
    return [isAgain ? { ...(value as EngineEvent), event: this.#sinceAdmission(event) } : (value as EngineEvent)];
  }

  close(): void {
    this.#journal.close();
  }

  /** The time of an event counts from the first attempt. */
  #sinceAdmission(event: RunEvent): RunEvent {
    const before = Math.round(this.#begunAgain - this.#begun);
    return event.type === "progress" ? { ...event, elapsed_ms: event.elapsed_ms + before } : event;
  }
}
