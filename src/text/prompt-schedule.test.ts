import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { mayChange, promptSchedule, textOfStep } from "./prompt-schedule.ts";

const scheduled = (prompt: string, steps = 10) =>
  promptSchedule(prompt, { steps }).map(({ until, text }) => [until, text]);

describe("a prompt that changes on the way", () => {
  it.each<[string, [number, string][]]>([
    [
      "a [tree:lake:0.3] at night",
      [
        [3, "a tree at night"],
        [10, "a lake at night"],
      ],
    ],
    [
      "a [tree:lake:4]",
      [
        [4, "a tree"],
        [10, "a lake"],
      ],
    ],
    ["a [tree:lake:1.]", [[10, "a tree"]]],
    [
      "a [tree:lake:.25]",
      [
        [2, "a tree"],
        [10, "a lake"],
      ],
    ],
    [
      "a lake[ in snow: 6 ]",
      [
        [6, "a lake"],
        [10, "a lake in snow"],
      ],
    ],
    [
      "a lake[ in snow::6]",
      [
        [6, "a lake in snow"],
        [10, "a lake"],
      ],
    ],
    [
      "[[a:b:2]:[c:d:8]:0.5]",
      [
        [2, "a"],
        [5, "b"],
        [8, "c"],
        [10, "d"],
      ],
    ],
    [
      "([a:b:5]:1.2), [faint]",
      [
        [5, "(a:1.2), [faint]"],
        [10, "(b:1.2), [faint]"],
      ],
    ],
    [
      "[(a:1.3):b:5]",
      [
        [5, "(a:1.3)"],
        [10, "b"],
      ],
    ],
    ["[a:b:-3][c:d:0]", [[10, "bd"]]],
    ["[a:b:99]", [[10, "a"]]],
    ["[a:b:1e1]", [[10, "a"]]],
  ])("%s", (prompt, texts) => {
    expect(scheduled(prompt)).toEqual(texts);
  });

  it("takes turns with each step", () => {
    expect(scheduled("[day|night|] sky", 4)).toEqual([
      [1, "day sky"],
      [2, "night sky"],
      [3, " sky"],
      [4, "day sky"],
    ]);
    expect(scheduled("[a|[b:c:3]]", 4)).toEqual([
      [1, "a"],
      [2, "b"],
      [3, "a"],
      [4, "c"],
    ]);
  });

  it.each([
    "",
    "a lake",
    "(a:1.2) [b] ((c))",
    "at 10:30",
    "[a:b]",
    "[a:b:c]",
    "[a:b:c:0.5]",
    "(a:b:0.5)",
    "[a",
    "a]",
    "[a:b:0.5",
    ":0.5]",
    "\\[a:b:0.5\\]",
    "a | b",
    "[a|b:0.5]",
    "a \\",
  ])("%j stays as it is", (prompt) => {
    expect(scheduled(prompt)).toEqual([[10, prompt]]);
  });

  it("counts on in a second pass, and as old versions of the web UI", () => {
    const second = { steps: 6, firstPassSteps: 10 };
    expect(promptSchedule("[a:b:13]", second)).toEqual([
      { until: 3, text: "a" },
      { until: 6, text: "b" },
    ]);
    expect(promptSchedule("[a:b:1.5]", second)).toEqual([
      { until: 3, text: "a" },
      { until: 6, text: "b" },
    ]);
    expect(promptSchedule("[a:b:0.5]", second)).toEqual([{ until: 6, text: "b" }]);
    expect(promptSchedule("[a:b:2.0]", { steps: 10, oldScheduling: true })[0]).toEqual({ until: 2, text: "a" });
  });

  it("begins with its first text, one step longer than the schedule says", () => {
    const schedule = promptSchedule("[a|b]", { steps: 4 });
    expect([0, 1, 2, 3].map((step) => textOfStep(schedule, step))).toEqual(["a", "a", "b", "a"]);
  });
});

describe("any text", () => {
  const piece = fc.constantFrom("[", "]", "(", ")", ":", "|", "\\", "0.5", "3", "-1", " ", "a", "AND", "\n", "é");
  const prompts = fc.array(piece, { maxLength: 40 }).map((pieces) => pieces.join(""));

  it("has a text for each step, and ends at the last", () => {
    fc.assert(
      fc.property(prompts, fc.integer({ min: 1, max: 30 }), (prompt, steps) => {
        const schedule = promptSchedule(prompt, { steps });
        const ends = schedule.map(({ until }) => until);
        expect(ends.at(-1)).toBe(steps);
        expect(ends).toEqual([...new Set(ends)].sort((one, other) => one - other));
        expect(ends[0]).toBeGreaterThan(0);
        if (!mayChange(prompt)) expect(schedule).toEqual([{ until: steps, text: prompt }]);
        for (const { text } of schedule) expect(text.length).toBeLessThanOrEqual(prompt.length);
      }),
      { numRuns: 500 },
    );
  });

  it("is read in little time, however many brackets it has", () => {
    const begun = performance.now();
    for (const piece of ["[", "(", "[a:", "(a:", "[a|", "[[a:b:1]|", "[a:b:1]", "[a|b]", "]", "\\["]) {
      promptSchedule(piece.repeat(10_000 / piece.length), { steps: 50 });
    }
    expect(performance.now() - begun).toBeLessThan(2000);
  });
});
