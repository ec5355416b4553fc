import { setImmediate } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { Turn } from "./turn.ts";

/** The positions that a turn is given until it comes. */
async function positionsOf(turn: Turn, signal?: AbortSignal): Promise<number[]> {
  const positions: number[] = [];
  for (let { position } = turn; position !== undefined; { position } = turn) {
    positions.push(position);
    await turn.moved(position, signal);
  }
  return positions;
}

describe("turns on the device", () => {
  it("come one at a time, in order; 0 is next", async () => {
    const line = Turn.line();
    const turns = [1, 2, 3].map(() => new Turn(line));
    const waits = turns.map((turn) => positionsOf(turn));
    for (const [index, turn] of turns.entries()) {
      await setImmediate();
      expect(turns.map(({ position }) => position === undefined)).toEqual([0, 1, 2].map((at) => at <= index));
      turn.leave();
    }
    expect(await Promise.all(waits)).toEqual([[], [0], [1, 0]]);
    expect(line.isIdle).toBe(true);
  });

  it("pass on if one leaves while it waits, or is aborted", async () => {
    const line = Turn.line();
    const [first, second, third] = [new Turn(line), new Turn(line), new Turn(line)];
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
    expect(new Turn(line).position).toBe(0);
  });

  it("are noticed if they come while nobody listens", async () => {
    const line = Turn.line();
    const [first, second] = [new Turn(line), new Turn(line)];
    const before = second.position!;
    first.leave();
    await second.moved(before);
    expect(second.position).toBeUndefined();
  });
});
