import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { Tokenizer } from "@huggingface/tokenizers";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fixturePath, readFixtureJson, readFixtureTensors } from "../../test/fixtures/read-fixture.ts";
import { startTurnMeter } from "../../test/turn-meter.ts";
import { BytePairs } from "./byte-pairs.ts";
import { normalised } from "./canonical-order.ts";
import { type ClipTokenizer, createClipTokenizer, loadClipTokenizer } from "./clip-tokenizer.ts";
import { promptWords } from "./prompt-words.ts";
import { TokenizerError } from "./tokenizer-error.ts";
import { type ClipTokenizerFiles, type EncoderTable, readClipTokenizerFiles } from "./tokenizer-files.ts";

const texts = readFixtureJson<{ id: string; text: string; ids_unpadded: number[] }[]>("tokenizer/texts.json");
const expected = readFixtureTensors("tokenizer/expected.safetensors");

let files: ClipTokenizerFiles;
let tokenizer: ClipTokenizer;
let padZero: ClipTokenizer;
beforeAll(async () => {
  files = await readClipTokenizerFiles(fixturePath("tokenizer/tokenizer"));
  tokenizer = createClipTokenizer(files);
  padZero = await loadClipTokenizer(fixturePath("tokenizer/tokenizer_2"));
});

describe("against the reference's slow CLIPTokenizer", () => {
  test.each(texts)("$id $text", ({ id, text, ids_unpadded: unpadded }) => {
    const { ids, tokenCount, truncated } = tokenizer.encode(text);
    expect([...ids]).toEqual([...expected.get(`${id}.ids`)!.values]);
    expect([...padZero.encode(text).ids]).toEqual([...expected.get(`${id}.ids_pad0`)!.values]);
    expect(tokenCount).toBe(unpadded.length);
    expect(truncated).toBe(unpadded.length > 77);
  });
});

/** Byte-pair encoding as the paper has it (Sennrich et al. 2016), slowly: join the most urgent pair wherever it stands. */
function plainBytePairs(word: string, { merges }: ClipTokenizerFiles): string[] {
  const rank = new Map(merges.map(([a, b], i) => [`${a} ${b}`, i]));
  let pieces = [...word].map((letter, i, all) => (i === all.length - 1 ? `${letter}</w>` : letter));
  for (;;) {
    const ranks = pieces.slice(1).map((piece, i) => rank.get(`${pieces[i]} ${piece}`) ?? Number.POSITIVE_INFINITY);
    const best = Math.min(...ranks);
    if (best === Number.POSITIVE_INFINITY) return pieces;
    const joined: string[] = [];
    for (let i = 0; i < pieces.length; i++) {
      if (ranks[i] === best) joined.push(pieces[i]! + pieces[++i]!);
      else joined.push(pieces[i]!);
    }
    pieces = joined;
  }
}

test("byte pairs are the plain algorithm's, over three thousand made-up words", () => {
  const syllables = files.merges.map(([a, b]) => (a + b).replace("</w>", "")).concat([..."abcdefghijklmnopqrstuvwxyz"]);
  let state = 12345;
  const random = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % below;
  };
  for (let i = 0; i < 3_000; i++) {
    const word = Array.from({ length: 1 + random(5) }, () => syllables[random(syllables.length)]!).join("");
    const ids = plainBytePairs(word, files).map((piece) => files.vocab[piece]);
    const wanted = [files.bos, ...ids, files.eos];
    const encoded = tokenizer.encode(word);
    expect([...encoded.ids.subarray(0, wanted.length)], word).toEqual(wanted.slice(0, 77));
  }
});

test("byte pairs are the library's, of long words too", () => {
  const library = new Tokenizer(
    {
      version: "1.0",
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
      post_processor: null,
      decoder: null,
      model: {
        type: "BPE",
        vocab: files.vocab,
        merges: files.merges,
        unk_token: files.unknown,
        end_of_word_suffix: "</w>",
      },
    },
    {},
  );
  const bytePairs = new BytePairs(files);
  const piecesOf = (word: string) => {
    const pieces: number[] = [];
    bytePairs.encode(word, pieces);
    return pieces.map((piece) => bytePairs.texts[piece]!).map((text) => (text in files.vocab ? text : files.unknown));
  };
  const letters = fc.constantFrom(..."abcdefghijklmnopqrstuvwxyz", ..."the", "é", "猫", "🐈", "ß", "'", "1");
  const lengths = [1, 2, 3, 30, 3000];
  fc.assert(
    fc.property(
      fc.constantFrom(...lengths).chain((length) => fc.array(letters, { minLength: 1, maxLength: length })),
      (word) => {
        expect(piecesOf(word.join(""))).toEqual(library.tokenize(word.join("")));
      },
    ),
    { numRuns: 500 },
  );
});

describe("ten thousand characters of any kind are read within a turn", () => {
  const filled = (text: string) => text.repeat(Math.ceil(10_000 / text.length)).slice(0, 10_000);
  const counted = (first: number, count: number) =>
    filled(Array.from({ length: count }, (_, i) => String.fromCodePoint(first + ((i * 7919) % count))).join(""));
  test.each<[string, string]>([
    ["one letter", filled("a")],
    ["one word", filled("qzjxkvbpygfwmucldrhsnioate")],
    ["words", filled("A photo of a Mountain lake, ")],
    ["ideographs", counted(0x4e00, 20_000)],
    ["hangul", counted(0xac00, 11_000)],
    ["emoji", counted(0x1f300, 700)],
    ["punctuation", filled("!?#")],
    ["weights", filled("(((a:1.2)))[b]")],
    ["digits", filled("1234567890")],
    ["special tokens", filled("<|endoftext|>")],
    ["special tokens in capitals", filled("<|ENDOFTEXT|>")],
    ["the beginning of special tokens", filled("<|endoftext|")],
    ["English endings", filled("'s")],
    ["letters that grow in lower case", filled("İ")],
    ["letters that decompose", filled("ﷺ")],
    ["marks in order", `a${"\u0301".repeat(9999)}`],
    ["marks out of order", `a${"\u0345".repeat(5000)}${"\u0334".repeat(4999)}`],
    [
      "marks of many classes, the last first",
      `a${[..."\u0345\u035d\u035c\u0301\u0323\u05b6\u05b0\u094d\u3099\u0334"].map((mark) => mark.repeat(999)).join("")}`,
    ],
    ["runs of marks just too short to be long ones", filled(`a${"\u0345".repeat(16)}${"\u0334".repeat(15)}`)],
    ["joiners", filled("\u{1F468}\u200d\u{1F469}\u200d")],
    ["halves of pairs", filled("\ud800")],
    ["spaces", filled("a\u00a0\u3000")],
  ])("%s", async (_, text) => {
    expect(text.length).toBeGreaterThan(9900);
    tokenizer.encode(text.slice(0, 100)); // compiled, as it is in a server
    const meter = startTurnMeter();
    tokenizer.encode(text);
    await setImmediate();
    tokenizer.words(text);
    expect(meter.stop().longestMs).toBeLessThan(50);
  });
});

describe("canonical order", () => {
  const marks = Array.from({ length: 0x20000 }, (_, code) => code)
    .filter((code) => code < 0xd800 || code > 0xdfff)
    .map((code) => String.fromCodePoint(code))
    .filter((char) => /\p{M}/u.test(char));

  test("is `normalize`'s, whatever marks there are", () => {
    const letter = fc.constantFrom("a", "é", "ẹ̀", "ế", "한", "\u0f71", "\u{1d15e}");
    const run = fc
      .tuple(fc.subarray(marks, { minLength: 1, maxLength: 12 }), fc.array(fc.nat(11), { maxLength: 120 }))
      .map(([pool, picks]) => picks.map((pick) => pool[pick % pool.length]!).join(""));
    fc.assert(
      fc.property(fc.array(fc.tuple(letter, run), { maxLength: 4 }), (parts) => {
        const text = parts.flat().join("");
        expect(normalised(text)).toBe(text.normalize("NFC"));
      }),
      { numRuns: 1000 },
    );
  });

  test("is `normalize`'s for all marks there are, in either direction", () => {
    for (const text of [marks.join(""), marks.toReversed().join("")]) {
      expect(normalised(`a${text}`)).toBe(`a${text}`.normalize("NFC"));
    }
  });
});

describe("text clean-up", () => {
  test.each([
    ["zero-width joiners and control characters vanish", "a\u200db\u0007c d\u0000e", ["abc", "de"]],
    [
      "vertical tab and form feed are control characters, tab and newline are spaces",
      "a\vb\fc\td\ne",
      ["abc", "d", "e"],
    ],
    ["ideographs stand alone, kana and hangul do not", "大きい猫cat 고양이", ["大", "きい", "猫", "cat", "고양이"]],
    ["composed and decomposed accents are the same", "cafe\u0301", ["caf\u00e9"]],
    ["unicode spaces separate", "a\u00a0b\u3000c\u2028d", ["a", "b", "c", "d"]],
    ["capitals fold, with the final sigma", "ΟΔΟΣ İ", ["οδος", "i", "\u0307"]],
    ["digits one by one, punctuation together", "12,5%!!", ["1", "2", ",", "5", "%!!"]],
    ["English endings split off", "it'S WE'LL o'clock'", ["it", "'s", "we", "'ll", "o", "'", "clock", "'"]],
    ["special tokens in capitals are words", "<|ENDOFTEXT|> x", ["<|endoftext|>", "x"]],
    ["nothing", " \n ", []],
  ])("%s", (_, text, words) => {
    expect(promptWords(text)).toEqual(words);
  });
});

test("a piece the vocabulary lacks becomes the unknown token", () => {
  const { q: _, ...vocab } = files.vocab;
  const lacking = createClipTokenizer({ ...files, vocab });
  expect([...lacking.encode("qa").ids.subarray(0, 4)]).toEqual([files.bos, files.eos, files.vocab["a</w>"], files.eos]);
});

test("special tokens keep their flags", () => {
  const special = (flags: object) => ({
    content: "<tok>",
    id: 7,
    lstrip: false,
    rstrip: false,
    singleWord: false,
    ...flags,
  });
  const encode = (flags: object, text: string) => {
    const made = createClipTokenizer({ ...files, specialTokens: [...files.specialTokens, special(flags)] });
    const { ids, tokenCount } = made.encode(text);
    return [...ids.subarray(1, tokenCount - 1)];
  };
  const a = files.vocab["a</w>"]!;
  expect(encode({}, "a<tok>a")).toEqual([a, 7, a]);
  expect(encode({ singleWord: true }, "a <tok> a")).toEqual([a, 7, a]);
  expect(encode({ singleWord: true }, "a<tok> a")).not.toContain(7);
  expect(encode({ singleWord: true }, "a <tok>a")).not.toContain(7);
});

test("words and their pieces", () => {
  expect(tokenizer.words("A photo, of 3 cats <|endoftext|>")).toEqual([
    { word: "a", pieces: ["a"] },
    { word: "photo", pieces: ["photo"] },
    { word: "of", pieces: ["of"] },
    { word: "cats", pieces: ["c", "at", "s"] },
  ]);
  expect(tokenizer.words("")).toEqual([]);
});

describe("folders", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "daguerre-tokenizer-"));
  });
  afterAll(() => rm(folder, { recursive: true }));
  let count = 0;

  /** Loads a folder holding `contents`, by file name; objects are written as JSON. */
  async function loadFolder(contents: Record<string, unknown>, encoder?: EncoderTable): Promise<ClipTokenizer> {
    const path = await mkdtemp(join(folder, `${count++}-`));
    for (const [file, content] of Object.entries(contents)) {
      await writeFile(join(path, file), typeof content === "string" ? content : JSON.stringify(content));
    }
    return loadClipTokenizer(path, encoder);
  }

  const mergesText = () => ["#version: 0.2", ...files.merges.map((pair) => pair.join(" "))].join("\n");
  const fast = (model: object = {}) => ({
    version: "1.0",
    added_tokens: [
      { id: files.bos, content: "<|startoftext|>", special: true },
      { id: files.eos, content: "<|endoftext|>", special: true },
    ],
    model: { type: "BPE", end_of_word_suffix: "</w>", vocab: files.vocab, merges: files.merges, ...model },
  });

  test("tokenizer.json alone, in both ways of writing merges, gives the same ids", async () => {
    const pairs = await loadFolder({ "tokenizer.json": fast() });
    const strings = await loadFolder({
      "tokenizer.json": fast({ merges: files.merges.map((pair) => pair.join(" ")) }),
    });
    for (const { text } of texts) {
      expect(pairs.encode(text)).toEqual(tokenizer.encode(text));
      expect(strings.encode(text)).toEqual(tokenizer.encode(text));
    }
  });

  test("vocabulary and merges alone take CLIP's special tokens and length", async () => {
    const bare = await loadFolder({ "vocab.json": files.vocab, "merges.txt": mergesText() });
    expect(bare.encode("a red cat")).toEqual(tokenizer.encode("a red cat"));
  });

  test("model_max_length sets the row, and the end token survives the cut", async () => {
    const short = await loadFolder({
      "vocab.json": files.vocab,
      "merges.txt": mergesText().replaceAll("\n", "\r\n"),
      "tokenizer_config.json": { model_max_length: 8 },
    });
    const { ids, tokenCount, truncated } = short.encode("a photo of a red cat on the table");
    expect([...ids]).toEqual([598, 320, 587, 518, 320, 589, 555, 599]);
    expect({ tokenCount, truncated }).toEqual({ tokenCount: 11, truncated: true });
    const unset = await loadFolder({
      "vocab.json": files.vocab,
      "merges.txt": mergesText(),
      "tokenizer_config.json": { model_max_length: 1e30 },
    });
    expect(unset.modelMaxLength).toBe(77);
  });

  const plainFolder = () => ({ "vocab.json": files.vocab, "merges.txt": mergesText() });
  const config = (id: number, content: string) => ({ added_tokens_decoder: { [id]: { content, special: false } } });
  const taught = [
    "a <cat-toy>",
    "<cat-toy>",
    "a <cat-toy>, red",
    "a<cat-toy>b",
    "<cat-toy><cat-toy> on the table",
    "a cat toy",
  ];

  test.each<[string, () => Record<string, unknown>]>([
    ["added_tokens.json", () => ({ ...plainFolder(), "added_tokens.json": { "<cat-toy>": 600 } })],
    [
      "added_tokens.json beside tokenizer.json",
      () => ({ "tokenizer.json": fast(), "added_tokens.json": { "<cat-toy>": 600 } }),
    ],
    ["added_tokens_decoder", () => ({ ...plainFolder(), "tokenizer_config.json": config(600, "<cat-toy>") })],
    [
      "both",
      () => ({
        ...plainFolder(),
        "added_tokens.json": { "<cat-toy>": 600 },
        "tokenizer_config.json": config(600, "<cat-toy>"),
      }),
    ],
    [
      "added_tokens.json and additional_special_tokens",
      () => ({
        ...plainFolder(),
        "added_tokens.json": { "<cat-toy>": 600 },
        "special_tokens_map.json": { additional_special_tokens: ["<cat-toy>"] },
      }),
    ],
  ])("a token in %s is one token, as for the library", async (_, contents) => {
    const own = await loadFolder(contents(), { rows: 601, positions: 77 });
    const library = new Tokenizer(
      {
        version: "1.0",
        added_tokens: [
          {
            id: 600,
            content: "<cat-toy>",
            special: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            single_word: false,
          },
        ],
        normalizer: { type: "Lowercase" },
        pre_tokenizer: {
          type: "Split",
          pattern: { Regex: "\\p{L}+|\\p{N}|[^\\s\\p{L}\\p{N}]+" },
          behavior: "Removed",
          invert: true,
        },
        post_processor: null,
        decoder: null,
        model: {
          type: "BPE",
          vocab: files.vocab,
          merges: files.merges,
          unk_token: files.unknown,
          end_of_word_suffix: "</w>",
        },
      },
      {},
    );
    expect(own).toMatchObject({ size: 601, unusable: [] });
    for (const text of taught) {
      const { ids, tokenCount } = own.encode(text);
      expect([...ids.subarray(1, tokenCount - 1)], text).toEqual(
        library.encode(text, { add_special_tokens: false }).ids,
      );
    }
    expect([...own.encode("a <cat-toy>").ids.subarray(1, 3)]).toEqual([files.vocab["a</w>"], 600]);
  });

  test("special_tokens_map.json alone says the roles, and the length is CLIP's or the encoder's", async () => {
    const contents = {
      ...plainFolder(),
      "special_tokens_map.json": { pad_token: "!", eos_token: { content: "<|endoftext|>" } },
    };
    const mapped = await loadFolder(contents, { rows: 600, positions: 32 });
    expect([mapped.pad, mapped.eos, mapped.modelMaxLength]).toEqual([files.vocab["!"], files.eos, 32]);
    expect((await loadFolder(contents, { rows: 600, positions: 248 })).modelMaxLength).toBe(77);
  });

  test("tokens without an id, or beyond the encoder's table, are read in pieces and listed", async () => {
    const contents = {
      ...plainFolder(),
      "added_tokens.json": { "<far>": 605, "<near>": 600 },
      "special_tokens_map.json": { additional_special_tokens: ["<lost>", { content: "<near>" }] },
    };
    const own = await loadFolder(contents, { rows: 601, positions: 77 });
    expect([...own.unusable].sort()).toEqual(["<far>", "<lost>"]);
    expect([...own.encode("<near> <far> <lost>").ids].filter((id) => id >= 600)).toEqual([600]);
  });

  test.each<[string, Record<string, unknown>]>([
    ["an id that is none", { "added_tokens.json": { "<a>": -1 } }],
    ["an id of text", { "added_tokens.json": { "<a>": "600" } }],
    ["no id", { "added_tokens.json": { "<a>": null } }],
    ["an empty token", { "added_tokens.json": { "": 600 } }],
    ["a list", { "added_tokens.json": ["<a>"] }],
    ["a pointer", { "added_tokens.json": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n" }],
    [
      "thousands",
      { "added_tokens.json": Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`<${i}>`, 600 + i])) },
    ],
  ])("refused: added_tokens.json with %s", async (_, contents) => {
    await expect(loadFolder({ ...plainFolder(), ...contents })).rejects.toMatchObject({ file: "added_tokens.json" });
  });

  test.each(["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"])(
    "%s that is a pointer of Git LFS is named as one",
    async (file) => {
      const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n";
      await expect(loadFolder({ ...plainFolder(), [file]: pointer })).rejects.toThrow(
        /is a Git LFS pointer.*git lfs pull/,
      );
    },
  );

  test.each([
    ["nothing in the folder", {}, "vocab.json", /missing/],
    ["no merges", { "vocab.json": {} }, "merges.txt", /missing/],
    ["broken JSON", { "vocab.json": "{", "merges.txt": "" }, "vocab.json", /valid JSON/],
    ["an array for a vocabulary", { "vocab.json": [], "merges.txt": "" }, "vocab.json", /object/],
    ["an id that is none", { "vocab.json": { a: -1 }, "merges.txt": "" }, "vocab.json", /"a"/],
    ["an id given twice", { "vocab.json": { a: 1, b: 1 }, "merges.txt": "" }, "vocab.json", /1 is given to two/],
    ["a merge of three", { "vocab.json": { a: 1 }, "merges.txt": "#version\na b c" }, "merges.txt", /line 2/],
    ["no end token", { "vocab.json": { a: 1 }, "merges.txt": "" }, "special_tokens_map.json", /startoftext/],
    ["another kind of model", { "tokenizer.json": { model: { type: "Unigram" } } }, "tokenizer.json", /Unigram/],
    ["no end-of-word mark", { "tokenizer.json": { model: { type: "BPE" } } }, "tokenizer.json", /end_of_word_suffix/],
  ])("refused: %s", async (_, contents, file, reason) => {
    const error = await loadFolder(contents).then(
      () => expect.fail("should have been refused"),
      (caught: unknown) => caught,
    );
    expect(error).toBeInstanceOf(TokenizerError);
    expect(error).toMatchObject({ file, message: expect.stringMatching(reason) });
    expect((error as Error).message).not.toContain(folder);
  });

  test("refused: a length that is none", async () => {
    const contents = {
      "vocab.json": files.vocab,
      "merges.txt": mergesText(),
      "tokenizer_config.json": { model_max_length: 1 },
    };
    await expect(loadFolder(contents)).rejects.toThrow(/model_max_length/);
  });
});
