import { encode } from "@msgpack/msgpack";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Base64Text } from "../../src/engine/base64-text.ts";
import { unpack } from "../wire/msgpack.ts";
import { JsonReader } from "./json-reader.ts";
import { MESSAGE_BOUNDS, MessageError } from "./message.ts";

/** Reads `text` in pieces that end at `cuts`. */
function read(text: string | Uint8Array, piece: number = Number.POSITIVE_INFINITY, keepBase64 = true): unknown {
  const bytes = typeof text === "string" ? Buffer.from(text) : text;
  const reader = new JsonReader(bytes.length, { keepBase64 });
  for (let at = 0; at < bytes.length; at += piece) reader.write(bytes.subarray(at, at + piece));
  return reader.end();
}

/** The value that it read, with all base64 as the text that it was. */
const asText = (value: unknown) =>
  JSON.parse(JSON.stringify(value, (_, field) => (field instanceof Base64Text ? String(field) : field)) ?? "null");

/** JSON as others write it: with spaces, escapes of every kind, texts of any length. */
const jsonText = fc
  .jsonValue({ maxDepth: 6 })
  .chain((value) =>
    fc.constantFrom(JSON.stringify(value), JSON.stringify(value, null, 2), ascii(JSON.stringify(value))),
  );

function ascii(text: string): string {
  return text.replace(/[\u007f-\uffff/]/g, (char) =>
    char === "/" ? "\\/" : `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

const longText = fc
  .tuple(fc.string({ unit: "binary", minLength: 1, maxLength: 40 }), fc.integer({ min: 1, max: 9_000 }))
  .map(([unit, count]) => unit.repeat(count));

describe("a JSON text that arrives in pieces", () => {
  it("may begin with a byte order mark, but not with half of one, and not with that of UTF-16", () => {
    const mark = Buffer.from([0xef, 0xbb, 0xbf]);
    const text = Buffer.from('{"a":"\u00bb\uff3b"}');
    for (const piece of [1, 2, 3, 4, 5, 100]) {
      expect(read(Buffer.concat([mark, text]), piece)).toEqual({ a: "\u00bb\uff3b" });
      for (const half of [mark.subarray(0, 1), mark.subarray(0, 2), mark.subarray(1), Buffer.concat([mark, mark])]) {
        expect(() => read(Buffer.concat([half, text]), piece)).toThrow("not valid JSON");
      }
      const wide = Buffer.from('\ufeff{"a":1}', "utf16le");
      expect(() => read(wide, piece)).toThrow("UTF-8");
      expect(() => read(wide.swap16(), piece)).toThrow("UTF-8");
    }
  });

  it("is read as JSON.parse reads it, wherever it is cut", () => {
    fc.assert(
      fc.property(jsonText, fc.integer({ min: 1, max: 50 }), (text, piece) => {
        expect(read(text, piece)).toEqual(JSON.parse(text));
      }),
      { numRuns: 500 },
    );
  });

  it("with long texts too", () => {
    fc.assert(
      fc.property(
        fc.array(longText, { maxLength: 4 }),
        fc.integer({ min: 1, max: 70_000 }),
        fc.boolean(),
        (texts, piece, escaped) => {
          const text = JSON.stringify({ texts, more: { a: texts[0] ?? "" } });
          expect(asText(read(escaped ? ascii(text) : text, piece))).toEqual(JSON.parse(text));
        },
      ),
      { numRuns: 60 },
    );
  });

  it("is refused where JSON.parse refuses it", () => {
    fc.assert(
      fc.property(
        jsonText,
        fc.nat(),
        fc.constantFrom("", " ", ",", '"', "}", "]", "1", "\\", "\u0000", "a"),
        (text, place, put) => {
          const at = place % (text.length + 1);
          const damaged = text.slice(0, at) + put + text.slice(at + 1);
          let expected: unknown;
          try {
            expected = JSON.parse(damaged);
          } catch {
            expect(() => read(damaged, 7)).toThrow(MessageError);
            return;
          }
          expect(read(damaged, 7)).toEqual(expected);
        },
      ),
      { numRuns: 1000 },
    );
    for (const text of [
      "",
      " ",
      "1 2",
      "[1 2]",
      '{"a" 1}',
      '"a',
      `"${"a".repeat(300)}`,
      `"${"\n".repeat(300)}"`,
      "nul l",
      "[",
    ]) {
      expect(() => read(text), text).toThrow(MessageError);
    }
    for (const text of ['"\\u00"', `"${"x".repeat(70_000)}\\x"`, `"${"x".repeat(300)}\\u12"`]) {
      expect(() => read(text), text.slice(-10)).toThrow(MessageError);
    }
  });

  it("leaves texts where they are that only look cut out, and names like __proto__ as they are", () => {
    const text = `{"__proto__":{"a":1},"b":"${"x".repeat(1000)}","c":"\\u0000L:0"}`;
    const value = read(text) as Record<string, unknown>;
    expect(Object.keys(value)).toEqual(["__proto__", "b", "c"]);
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect(value.c).toBe("\0L:0");
  });
});

describe("base64", () => {
  const bytes = Uint8Array.from({ length: 200_000 }, (_, index) => (index * 7919) >> 3);
  const base64 = Buffer.from(bytes).toString("base64");

  it("becomes bytes, with a data URI's head or without, and is the text that it was", () => {
    for (const length of [65_536, 65_537, 100_000, 199_998, 199_999, 200_000]) {
      for (const head of ["", "data:image/png;base64,", "data:application/octet-stream;x=y;base64,"]) {
        const text = head + Buffer.from(bytes.subarray(0, length)).toString("base64");
        for (const sent of [text, text.replace(/=+$/, "")]) {
          for (const piece of [1_000, 65_536, 1e9]) {
            const { image } = read(JSON.stringify({ image: sent }), piece) as { image: Base64Text };
            expect(image).toBeInstanceOf(Base64Text);
            expect(Buffer.compare(image.bytes, bytes.subarray(0, length))).toBe(0);
            expect(String(image) === sent).toBe(true);
          }
        }
      }
    }
  });

  it("may have its slashes escaped and, in a data URI, its lines broken", () => {
    const head = "data:image/png;base64,";
    const lines = base64.replace(/.{76}/g, "$&\n");
    for (const json of [JSON.stringify(head + base64).replaceAll("/", "\\/"), JSON.stringify(head + lines)]) {
      const value = read(json, 9_999) as Base64Text;
      expect(Buffer.compare(value.bytes, bytes)).toBe(0);
    }
  });

  it("that turns out to be none is the text that it was", () => {
    const words = "word and word, ".repeat(20_000);
    const late = `${base64}!`;
    const url = base64.replaceAll("+", "-").replaceAll("/", "_");
    const padded = `${base64.slice(0, 70_000)}=${base64.slice(0, 70_000)}`;
    const unclean = `${base64.slice(0, 100_000)}QR==`;
    for (const text of [
      words,
      late,
      url,
      padded,
      unclean,
      `${base64}A`,
      `${base64}===`,
      "é".repeat(50_000),
      `${"a".repeat(80_000)}\\`,
    ]) {
      const [same] = asText(read(JSON.stringify([text]), 5_000, false)) as string[];
      expect(same === text, text.slice(-20)).toBe(true);
    }
  });

  it("in the alphabet for addresses is bytes as well, and of other texts of megabytes the length is known", () => {
    const address = base64.replaceAll("+", "-").replaceAll("/", "_");
    expect(Buffer.compare((read(JSON.stringify(address)) as Base64Text).bytes, bytes)).toBe(0);
    const words = read(JSON.stringify("a b ".repeat(1e6))) as string;
    expect([typeof words, words.length]).toEqual(["string", 4e6]);
    expect(read(JSON.stringify("a b ".repeat(1e6)), 65_536, false) === "a b ".repeat(1e6)).toBe(true);
  });

  it("of several pictures takes what they take", () => {
    const before = process.memoryUsage().arrayBuffers;
    const text = Buffer.from(
      JSON.stringify({ images: Array.from({ length: 20 }, () => `data:image/png;base64,${base64}`) }),
    );
    const { images } = read(text, 65_536) as { images: Base64Text[] };
    expect(images.map(({ bytes }) => bytes.byteLength)).toEqual(Array(20).fill(200_000));
    const held = images.reduce((sum, { bytes }) => sum + bytes.buffer.byteLength, 0);
    expect(held).toBeLessThan(20 * 270_000);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(100e6);
  });
});

describe("too much", () => {
  const refusal = (text: string | Uint8Array) => {
    try {
      read(text, 65_536);
    } catch (error) {
      return (error as MessageError).message;
    }
    return "taken";
  };

  it("of values or levels is refused at the first one too many", () => {
    const { values, depth } = MESSAGE_BOUNDS;
    expect(refusal(JSON.stringify(Array(values - 1).fill(0)))).toBe("taken");
    const many = /20000 items and names/;
    for (const text of [JSON.stringify(Array(values).fill(0)), `{${'"a":1,'.repeat(1e6)}"b":1}`, "[],".repeat(1e6)]) {
      expect(refusal(text)).toMatch(many);
    }
    expect(refusal("[".repeat(depth) + "]".repeat(depth))).toBe("taken");
    for (const open of ["[", '{"a":', "[{"]) expect(refusal(open.repeat(5e6))).toMatch(/32 deep/);
  });

  it("is what whoever takes the text says", () => {
    const bounded = (text: string) => {
      const reader = new JsonReader(text.length, { bounds: { values: 3, depth: 1 } });
      reader.write(Buffer.from(text));
      return reader.end();
    };
    expect(bounded('{"a":1}')).toEqual({ a: 1 });
    expect(() => bounded("[1,2,3]")).toThrow(/may hold 3 items/);
    expect(() => bounded("[[]]")).toThrow(/nested 1 deep/);
    expect(unpack(encode([1, 2, 3]), { values: 3 })).toEqual([1, 2, 3]);
    expect(() => unpack(encode([1, 2, 3, 4]), { values: 3 })).toThrow(/may hold 3 items/);
    expect(() => unpack(encode([[]]), { depth: 1 })).toThrow(/nested 1 deep/);
  });

  it("of short texts, numbers or names is refused as well", () => {
    expect(refusal(`{"${"n".repeat(257)}":1}`)).toMatch(/a name may be 256 bytes/);
    expect(refusal(`{"${"n".repeat(100_000)}" : 1}`)).toMatch(/a name may be 256 bytes/);
    expect(refusal("1".repeat(5e6))).toMatch(/4194304 bytes together/);
    expect(refusal(`[${`"${"x".repeat(256)}",`.repeat(19_000)}1]`)).toMatch(/4194304 bytes together/);
  });

  it("of anything takes little time for each 64 KiB, whatever they are", () => {
    const size = 28 * 2 ** 20;
    const fill = (unit: string) => Buffer.alloc(size, unit);
    const texts: [string, Buffer][] = [
      ["one text", Buffer.concat([Buffer.from('"'), fill("x y ")])],
      ["escapes", Buffer.concat([Buffer.from('"'), fill("\\u00e9")])],
      ["quotes", Buffer.concat([Buffer.from('"'), fill('\\"')])],
      ["backslashes", Buffer.concat([Buffer.from('"'), fill("\\\\")])],
      ["base64", Buffer.concat([Buffer.from('"'), fill("abcd")])],
      ["spaces", fill(" ")],
      ["commas", fill(",")],
      ["texts", Buffer.concat([Buffer.from("["), fill(`"${"x".repeat(2000)}",`)])],
      ["zeros", fill("\0")],
    ];
    for (const [what, bytes] of texts) {
      const reader = new JsonReader(size);
      let longest = 0;
      const cpu = process.cpuUsage();
      try {
        for (let at = 0; at < size; at += 65_536) {
          const began = performance.now();
          // As a web stream gives them: no Buffers.
          reader.write(new Uint8Array(bytes.buffer, bytes.byteOffset + at, Math.min(65_536, size - at)));
          longest = Math.max(longest, performance.now() - began);
        }
        const began = performance.now();
        reader.end();
        longest = Math.max(longest, performance.now() - began);
      } catch (error) {
        expect(error, what).toBeInstanceOf(MessageError);
      }
      const { user } = process.cpuUsage(cpu);
      if (process.env.SHOW) console.log(what, longest.toFixed(1), (user / 1000).toFixed(0));
      expect(user / 1000, what).toBeLessThan(1_000);
    }
  });
});
