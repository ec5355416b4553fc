import { beforeAll, describe, expect, test } from "vitest";
import { fixturePath } from "../../test/fixtures/read-fixture.ts";
import { MOST_CHUNKS, readPrompt } from "./chunks.ts";
import { type ClipTokenizer, loadClipTokenizer } from "./clip-tokenizer.ts";
import { addedTokens, embeddingsIn } from "./embeddings.ts";

let tokenizer: ClipTokenizer;
let padZero: ClipTokenizer;
beforeAll(async () => {
  tokenizer = await loadClipTokenizer(fixturePath("tokenizer/tokenizer"));
  padZero = await loadClipTokenizer(fixturePath("tokenizer/tokenizer_2"));
});

/** Tokens of a chunk between begin and end. */
const inner = (ids: Int32Array) => [...ids.subarray(1, ids.indexOf(tokenizer.eos))];
const read = (prompt: string, backtrack?: number) => readPrompt(tokenizer, prompt, { syntax: "weighted", backtrack });
/** `count` tokens, of one word that is one token. */
const cats = (count: number) => Array.from({ length: count }, () => "cat").join(" ");

test("the plain syntax is the tokenizer's", () => {
  for (const prompt of ["a (cat:1.3) BREAK", cats(100), ""]) {
    const { ids, truncated, tokenCount } = tokenizer.encode(prompt);
    const plain = readPrompt(tokenizer, prompt, { syntax: "plain" });
    expect(plain).toEqual({ chunks: [{ ids }], truncated, tokenCount });
  }
});

describe("the weighted syntax", () => {
  test("weights go with their tokens; begin, end and padding have 1", () => {
    const { chunks, tokenCount } = read("a (cat:1.5) on");
    const [{ ids, weights }] = chunks as [{ ids: Int32Array; weights: Float32Array }];
    expect([...ids]).toEqual([...tokenizer.encode("a cat on").ids]);
    expect([...weights.subarray(0, 6)]).toEqual([1, 1, 1.5, 1, 1, 1]);
    expect(weights.subarray(6).every((weight) => weight === 1)).toBe(true);
    expect(tokenCount).toBe(5);
    expect(read("a cat on").chunks[0]!.weights).toBeUndefined();
  });

  test("75 tokens fill a chunk, and the next begins anew", () => {
    expect(read(cats(75)).chunks).toHaveLength(1);
    const { chunks, tokenCount, truncated } = read(cats(151));
    expect(chunks.map(({ ids }) => inner(ids).length)).toEqual([75, 75, 1]);
    expect(chunks.every(({ ids }) => ids.length === 77 && ids[0] === tokenizer.bos)).toBe(true);
    expect({ tokenCount, truncated }).toEqual({ tokenCount: 153, truncated: false });
  });

  test("what follows a late comma moves to the next chunk", () => {
    const prompt = `${cats(60)}, ${cats(30)}`;
    expect(read(prompt).chunks.map(({ ids }) => inner(ids).length)).toEqual([61, 30]);
    expect(read(prompt, 0).chunks.map(({ ids }) => inner(ids).length)).toEqual([75, 16]);
    expect(read(`${cats(40)}, ${cats(50)}`).chunks.map(({ ids }) => inner(ids).length)).toEqual([75, 16]);
  });

  test("BREAK ends a chunk, full or empty", () => {
    expect(read("cat BREAK cat cat").chunks.map(({ ids }) => inner(ids).length)).toEqual([1, 2]);
    expect(read("BREAK cat").chunks.map(({ ids }) => inner(ids).length)).toEqual([0, 1]);
  });

  test("padding is the tokenizer's", () => {
    const { chunks } = readPrompt(padZero, "cat BREAK cat", { syntax: "weighted" });
    for (const { ids } of chunks) expect([...ids]).toEqual([...padZero.encode("cat").ids]);
  });

  test("chunks beyond the bound are left out, and that is said", () => {
    const { chunks, truncated } = read("cat BREAK ".repeat(MOST_CHUNKS + 3));
    expect(chunks).toHaveLength(MOST_CHUNKS);
    expect(truncated).toBe(true);
  });
});

describe("textual inversion", () => {
  const vectors = (count: number) => new Map([[2, Array.from({ length: count }, () => new Float32Array(2))]]);
  const embeddings = [
    { name: "<fox>", digest: "", vectors: vectors(1) },
    { name: "bad-hands", digest: "", vectors: vectors(3) },
  ];
  const idsOf = (prompt: string, syntax: "plain" | "weighted") => {
    const added = addedTokens(embeddings, 2, 600);
    return inner(readPrompt(tokenizer, prompt, { syntax, added }).chunks[0]!.ids);
  };
  const cat = () => inner(tokenizer.encode("cat").ids);

  test("names become the ids behind the vocabulary", () => {
    for (const syntax of ["plain", "weighted"] as const) {
      expect(idsOf("cat <fox>", syntax)).toEqual([...cat(), 600]);
      expect(idsOf("cat embedding:bad-hands, cat", syntax).slice(0, 4)).toEqual([...cat(), 601, 602, 603]);
    }
    expect(idsOf("(bad-hands:1.2)", "weighted")).toEqual([601, 602, 603]);
    expect(idsOf("Bad-Hands", "weighted")).toEqual([601, 602, 603]);
  });

  test("a bare name is a word in the plain syntax, and part of a longer word in both", () => {
    expect(idsOf("bad-hands", "plain")).toEqual(inner(tokenizer.encode("bad-hands").ids));
    expect(idsOf("very-bad-hands", "weighted")).toEqual(inner(tokenizer.encode("very-bad-hands").ids));
    const names = embeddings.map(({ name }) => name);
    expect(embeddingsIn("<fox> bad-hands embedding:<fox>", names, "weighted")).toEqual(["<fox>", "bad-hands"]);
    expect(embeddingsIn("bad-hands", names, "plain")).toEqual([]);
    expect(embeddingsIn("a.b", ["a+b", "a|b", "("], "weighted")).toEqual([]);
  });

  test("vectors of one name stay in one chunk", () => {
    const added = addedTokens(embeddings, 2, 600);
    const { chunks } = readPrompt(tokenizer, `${cats(74)} bad-hands`, { syntax: "weighted", added });
    expect(chunks.map(({ ids }) => inner(ids).length)).toEqual([74, 3]);
  });
});
