import { describe, expect, it } from "vitest";
import { preparingWords } from "./waiting.ts";
import { runEvent } from "./wire-events.ts";

describe("the words of a preparation", () => {
  it.each([
    [{ what: "kernels", done: 12, total: 60 }, "Preparing kernels, 12 of 60"],
    [{ what: "weights", done: 1, total: 3 }, "Loading weights, 1 of 3"],
    // Bytes.
    [{ what: "weights", done: 1.5e9, total: 6e9 }, "Loading weights, 25 %"],
    [{ what: "tuning", done: 0, total: 9 }, "Choosing the fastest kernels, 0 of 9"],
    [{ what: "kernels", done: 0, total: 0 }, "Preparing kernels"],
    [{ what: "a later kind", done: 1, total: 2 }, "Preparing, 1 of 2"],
    [{ what: "kernels" }, "Preparing kernels"],
    [{}, "Preparing"],
  ])("%j", (fields, words) => {
    const event = runEvent({ type: "preparing", ...fields });
    expect(event?.type === "preparing" && preparingWords(event)).toBe(words);
  });
});
