/** Sentences of comments have a subject: none begins with "What", "Who" or "Whether", and none is a fragment with "Of". */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";

const FOLDERS = ["bench", "cli", "examples", "playground", "shaders", "src", "test", "tooling", "transports"];
const SOURCE = /\.(ts|wgsl)$/;
const COMMENT = /^ *(?:\/\*\*?|\*|\/\/)(?!\/)|(?<=[;{,(] )\/\/ /;
/** At the start of a comment's line, a tag or a sentence; a question may begin so. */
const WORDLESS = /(?:^|[.:;!?)] |@param \S+ |@returns )(?:What|Who|Whoever|Whatever|Whether|Of) (?![^.]*\?)/;

/** `file:line: text` of each such sentence. */
function faultsOf(file: string, text: string): string[] {
  return text.split("\n").flatMap((line, index) => {
    const mark = COMMENT.exec(line);
    if (!mark) return [];
    const comment = line.slice(mark.index + mark[0].length).trim();
    return WORDLESS.test(comment) ? [`${file}:${index + 1}: ${comment}`] : [];
  });
}

it("no comment has a sentence without a subject of its own", () => {
  const files = FOLDERS.flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: "utf8" }).map((file) => join(folder, file)),
  ).filter((file) => SOURCE.test(file) && !file.includes("node_modules"));
  expect(files.length).toBeGreaterThan(500);
  expect(files.flatMap((file) => faultsOf(file, readFileSync(file, "utf8")))).toEqual([]);
});

it.each([
  "/** What a run costs. */",
  "  // Whether it is there.",
  " * It is read. Of several the first counts.",
  `  return 1; ${"//"} Who asked`,
])("finds %j", (line) => {
  expect(faultsOf("a.ts", line)).toEqual([`a.ts:1: ${line.replace(/^.*?(\/\*\*|\*|\/\/) /, "")}`]);
});

it.each(["/** Tells what a run costs. */", 'const a = "// What is it";', "  // What is it? A test."])(
  "lets %j be",
  (line) => {
    expect(faultsOf("a.ts", line)).toEqual([]);
  },
);
