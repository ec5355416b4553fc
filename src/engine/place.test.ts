import { setImmediate } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { Place } from "./place.ts";

/** The positions of a run until it has its place. */
async function positionsOf(place: Place, signal?: AbortSignal): Promise<number[]> {
  const positions: number[] = [];
  for (let { position } = place; position !== undefined; { position } = place) {
    positions.push(position);
    await place.moved(position, signal);
  }
  return positions;
}

describe("places in a runtime", () => {
  it("come one at a time, in order; 0 is next", async () => {
    const line = Place.line({ concurrency: 1 });
    const places = [1, 2, 3].map(() => new Place(line));
    const waits = places.map((place) => positionsOf(place));
    for (const [index, place] of places.entries()) {
      await setImmediate();
      expect(places.map(({ position }) => position === undefined)).toEqual([0, 1, 2].map((at) => at <= index));
      place.leave();
    }
    expect(await Promise.all(waits)).toEqual([[], [0], [1, 0]]);
    expect(line.isIdle).toBe(true);
  });

  it("are free for one that is alone once nobody else has any, and nobody overtakes it", async () => {
    const line = Place.line({ concurrency: 2 });
    const [first, second] = [new Place(line), new Place(line)];
    const alone = new Place(line, { isAlone: true });
    const last = new Place(line);
    first.leave();
    expect([alone.position, last.position]).toEqual([0, 1]);
    second.leave();
    expect([alone.position, last.position]).toEqual([undefined, 0]);
    alone.leave();
    expect(last.position).toBeUndefined();
  });

  it("pass on if one leaves while it waits, or is aborted", async () => {
    const line = Place.line({ concurrency: 1 });
    const [first, second, third] = [new Place(line), new Place(line), new Place(line)];
    const stop = new AbortController();
    const aborted = positionsOf(second, stop.signal);
    const waits = positionsOf(third);
    stop.abort(new Error("enough"));
    await expect(aborted).rejects.toThrow("enough");
    await expect(second.moved(0, stop.signal)).rejects.toThrow("enough");
    second.leave();
    await setImmediate();
    first.leave();
    expect(await waits).toEqual([1, 0]);
    // To leave twice frees no second place.
    first.leave();
    expect(new Place(line).position).toBe(0);
  });

  it("are noticed if they come while nobody listens", async () => {
    const line = Place.line({ concurrency: 1 });
    const [first, second] = [new Place(line), new Place(line)];
    const before = second.position!;
    first.leave();
    await second.moved(before);
    expect(second.position).toBeUndefined();
  });
});
