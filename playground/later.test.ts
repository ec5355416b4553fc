import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Later } from "./later.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it("waits for quiet", () => {
  const work = vi.fn();
  const later = new Later(100, "quiet", work);
  for (let i = 0; i < 5; i++) {
    later.soon();
    vi.advanceTimersByTime(60);
  }
  expect(work).not.toHaveBeenCalled();
  vi.advanceTimersByTime(40);
  expect(work).toHaveBeenCalledTimes(1);
});

it("keeps a steady pace however often it is asked for", () => {
  const work = vi.fn();
  const later = new Later(100, "steady", work);
  for (let i = 0; i < 10; i++) {
    later.soon();
    vi.advanceTimersByTime(60);
  }
  expect(work).toHaveBeenCalledTimes(5);
});

it.each(["quiet", "steady"] as const)("never does what was taken back (%s)", (when) => {
  const work = vi.fn();
  const later = new Later(100, when, work);
  later.soon();
  later.never();
  vi.advanceTimersByTime(1_000);
  expect(work).not.toHaveBeenCalled();
  later.soon();
  vi.advanceTimersByTime(100);
  expect(work).toHaveBeenCalledTimes(1);
});
