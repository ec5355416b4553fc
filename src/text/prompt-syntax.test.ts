import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BREAK, lorasIn, weightedParts, withoutLoras } from "./prompt-syntax.ts";

/** `text@weight`, with two decimals. */
const short = (prompt: string) =>
  weightedParts(prompt).map((part) => (part === BREAK ? BREAK : `${part.text}@${part.weight.toFixed(2)}`));

// As diffusers' parser of the same grammar has them (test data of set A, `prompt-long-weighted/parse.json`).
test.each<[string, string[]]>([
  ["a (red:1.3) cat", ["a @1.00", "red@1.30", " cat@1.00"]],
  ["a ((red)) cat", ["a @1.00", "red@1.21", " cat@1.00"]],
  [
    "[old] house (by the [lake]:1.5), \\(oil\\) paint",
    ["old@0.91", " house @1.00", "by the @1.50", "lake@1.36", ", (oil) paint@1.00"],
  ],
  ["(a photo:0.7) of a cat", ["a photo@0.70", " of a cat@1.00"]],
  ["plain text", ["plain text@1.00"]],
  ["", ["@1.00"]],
  ["(unbalanced text", ["unbalanced text@1.10"]],
  ["a (b (c:1.2) d:1.5) e)", ["a @1.00", "b @1.50", "c@1.80", " d@1.50", " e)@1.00"]],
  ["x:1.3 (y: 1.2 ) z", ["x:1.3 @1.00", "y: 1.2 @1.10", " z@1.00"]],
  ["a [[grey]] (sky:-0.5)", ["a @1.00", "grey@0.83", " @1.00", "sky@-0.50"]],
  ["back \\\\ slash \\", ["back \\ slash \\@1.00"]],
  ["(a:1.2.3) b", ["a:1.2.3@1.10", " b@1.00"]],
  ["(much:1e9)", ["much:1e9@1.10"]],
  ["(much:100000)", ["much@100.00"]],
])("%j", (prompt, parts) => {
  expect(short(prompt)).toEqual(parts);
});

test("BREAK is a word of its own", () => {
  expect(short("a cat BREAK a dog")).toEqual(["a cat@1.00", BREAK, "a dog@1.00"]);
  expect(short("(a cat BREAK a dog:1.2)")).toEqual(["a cat@1.20", BREAK, "a dog@1.20"]);
  expect(short("BREAKFAST, break")).toEqual(["BREAKFAST, break@1.00"]);
});

describe("LoRAs", () => {
  test("by name, with a scale or without", () => {
    const prompt = "a <lora:ink:0.8> cat <LORA:styles/Détail (v1)><lyco:x:-.5:1,0,1> <lora:> <lora:a:b>";
    expect(lorasIn(prompt)).toEqual([
      { name: "ink", scale: 0.8 },
      { name: "styles/Détail (v1)", scale: 1 },
      { name: "x", scale: -0.5 },
      { name: "a", scale: 1 },
    ]);
    expect(lorasIn("<lora:a:0.8:0.5> <lora:b:unet=.5:te=1> <lora:c:1:lbw=1, 0,0.5> <lora:d:1:lbw=XYZ:x>")).toEqual([
      { name: "a", scale: 0.8, unet: 0.5 },
      { name: "b", scale: 1, unet: 0.5 },
      { name: "c", scale: 1, blocks: [1, 0, 0.5] },
      { name: "d", scale: 1 },
    ]);
    expect(withoutLoras("a <lora:ink:0.8>cat")).toBe("a cat");
    expect(short("a (<lora:ink:0.8>cat:1.2)")).toEqual(["a @1.00", "cat@1.20"]);
  });
});

test("no text is lost, and no prompt takes long", () => {
  const pieces = fc.constantFrom(
    "(",
    ")",
    "[",
    "]",
    ":1.2)",
    ":",
    "\\",
    "\\(",
    "a",
    " b",
    "BREAK",
    " BREAK ",
    "<lora:x:1>",
    "é",
  );
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 60 }), (some) => {
      const prompt = some.join("");
      const parts = weightedParts(prompt);
      const letters = (text: string) => text.replace(/[^abé]/g, "");
      const kept = parts.map((part) => (part === BREAK ? "" : part.text)).join("");
      expect(letters(kept)).toBe(letters(withoutLoras(prompt)));
      for (const part of parts) if (part !== BREAK) expect(Number.isFinite(part.weight)).toBe(true);
    }),
    { numRuns: 500 },
  );
  for (const piece of ["(a", "[a", "(", ")", "(a:1", "(a:1.1)", "<lora:", "<lora:a:", "\\", " BREAK", ":"]) {
    const begun = performance.now();
    weightedParts(piece.repeat(10_000 / piece.length));
    lorasIn(piece.repeat(10_000 / piece.length));
    expect(performance.now() - begun, piece).toBeLessThan(300);
  }
});
