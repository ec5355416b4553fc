/** Pictures that are computed again, with changes on the way: each step is seen once, and is computed with the same words. */
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { expect, it } from "vitest";
import { randomFrom } from "../../../test/hosts/engine-faults.ts";
import type { RunEvent } from "../../engine/events.ts";
import { PendingUpdate } from "../../engine/pending-update.ts";
import type { GenerationUpdate } from "../../engine/request.ts";
import { Updates } from "../../jobs/updates.ts";
import { ChangeOutlet } from "./change-outlet.ts";
import { EngineReplay } from "./engine-replay.ts";
import { type EngineEvent, type EngineState, placeOf } from "./messages.ts";

const STEPS = 12;
const picture = { width: 1, height: 1, rgba: new Uint8Array(4) };

const about = (step: number) => ({ step, steps: STEPS, progress: step / STEPS });

/** A run as the runtime's: it takes changes before each step, and makes previews if it likes. Its words stand in `elapsed_ms`. */
async function* drawing(updates: AsyncIterable<GenerationUpdate>, random: () => number): AsyncGenerator<RunEvent> {
  const pending = new PendingUpdate(updates);
  let words = 0;
  try {
    if (random() < 0.5) yield { type: "queued", position: 0 };
    for (let at = 0; random() < 0.5; at++) yield { type: "preparing", what: "kernels", done: at, total: 9 };
    for (let step = 1; step <= STEPS; step++) {
      const change = pending.take();
      if (change?.prompt !== undefined) words = words * 100 + Number(change.prompt);
      // A preview is read while the next step is taken.
      if (step > 1 && random() < 0.5) yield { type: "preview", ...about(step - 1), picture, decoder: "full" };
      await turn();
      yield { type: "progress", ...about(step), elapsed_ms: words };
    }
    yield { type: "result", pictures: [picture], seed: 1, prompt: String(words), timings: {} };
  } finally {
    pending.stop();
  }
}

/** The engine's side, until it is lost after so many events. */
async function* engine(updates: AsyncIterable<GenerationUpdate> | undefined, from: unknown, random: () => number) {
  const changes = new ChangeOutlet(updates, from as EngineState);
  const events = drawing(changes, random);
  let place = 0;
  try {
    for (;;) {
      await changes.give(place);
      const next = await events.next();
      if (next.done) return;
      place = placeOf(next.value) ?? place;
      yield { event: next.value, changes: changes.places } satisfies EngineEvent;
    }
  } finally {
    changes.close();
    await events.return(undefined);
  }
}

it.each(Array.from({ length: 40 }, (_, seed) => seed + 1))("seed %s", async (seed) => {
  const random = randomFrom(seed);
  const updates = new Updates();
  const signal = new AbortController().signal;
  const replay = new EngineReplay({ signal, requestId: "x", updates });
  const seen: RunEvent[] = [];
  /** The words with which each step was computed, in the attempt whose event was seen. */
  const words = new Map<number, number>();
  const conflicts: string[] = [];
  for (let attempt = 1; seen.at(-1)?.type !== "result"; attempt++) {
    const { from, updates: again } = replay.begin();
    const lostAfter = attempt < 4 ? 1 + Math.floor(random() * 20) : Number.POSITIVE_INFINITY;
    let count = 0;
    for await (const value of engine(again as AsyncIterable<GenerationUpdate>, from, random)) {
      replay.received(value); // what has come counts, even if nobody reads it any more
      if (++count > lostAfter) break;
      const { event } = value;
      if (event.type === "progress") {
        const before = words.get(event.step);
        if (before !== undefined && before !== event.elapsed_ms)
          conflicts.push(`step ${event.step} of attempt ${attempt}`);
        words.set(event.step, event.elapsed_ms);
      }
      for (const { event: fresh } of replay.next(value)) {
        seen.push(fresh);
        if (fresh.type === "progress" && random() < 0.3) updates.push({ prompt: String(10 + fresh.step) });
        if (random() < 0.3) await sleep(1);
      }
    }
  }
  replay.close();
  expect(conflicts).toEqual([]);
  const steps = seen.flatMap((event) => (event.type === "progress" ? [event.step] : []));
  expect(steps).toEqual(Array.from({ length: STEPS }, (_, index) => index + 1));
  const places = seen.flatMap((event) => placeOf(event) ?? []);
  expect(places).toEqual(places.toSorted((one, other) => one - other));
  expect(new Set(places).size).toBe(places.length);
});
