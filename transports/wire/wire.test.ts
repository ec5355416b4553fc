import { decode } from "@msgpack/msgpack";
import { describe, expect, it } from "vitest";
import { Base64Text } from "../../src/engine/base64-text.ts";
import { slotOf } from "../../src/jobs/jobs.ts";
import { gradient } from "../../test/gradient-run.ts";
import { asciiJson, JsonText } from "./json-text.ts";
import { pack } from "./msgpack.ts";
import { envelopeOf, wireEvent } from "./wire.ts";

// biome-ignore lint/suspicious/noExplicitAny: whatever the JSON holds; the assertions say what it should
type Fields = any;

const envelope = envelopeOf({ request_id: "r1", input_id: "i1", output_format: "png" });

function bytesOf(url: string): Buffer {
  return Buffer.from(url.slice(url.indexOf(",") + 1), "base64");
}

/** An event as a client of JSON reads it. */
function received(event: unknown): Fields {
  return JSON.parse(String(JsonText.of(event)));
}

describe("wireEvent", () => {
  it("encodes previews as JPEG and results as asked, as data URIs with what a fal playground needs", async () => {
    const preview = received(await wireEvent({ type: "preview", picture: gradient(32, 1), step: 5 }, envelope));
    expect(preview).toMatchObject({ type: "preview", step: 5, request_id: "r1", input_id: "i1" });
    expect(preview.picture).toBeUndefined();
    expect(preview.image).toMatchObject({ content_type: "image/jpeg", width: 32, height: 32 });
    expect(bytesOf(preview.image.url).subarray(0, 3).toString("hex")).toBe("ffd8ff");

    const pictures = [gradient(32, 1), gradient(16, 1)];
    const result = received(await wireEvent({ type: "result", pictures, seed: 2n ** 60n }, envelope));
    expect(result.images.map((image: Fields) => image.width)).toEqual([32, 16]);
    expect(result.image).toEqual(result.images[0]);
    expect(bytesOf(result.images[1].url).subarray(1, 4).toString()).toBe("PNG");
    expect(result.seed).toBe("1152921504606846976");
  });

  it("passes events of a run's own as they are", async () => {
    expect(await wireEvent({ type: "words", text: "é", picture: "mine" }, envelope)).toEqual({
      type: "words",
      text: "é",
      picture: "mine",
      request_id: "r1",
      input_id: "i1",
    });
    expect(await wireEvent("word", envelopeOf({ request_id: "r2" }))).toEqual({
      type: "output",
      output: "word",
      request_id: "r2",
    });
  });
});

describe("JsonText", () => {
  it("is the same in chunks as at once, of the length that it says, in ASCII", () => {
    for (const size of [0, 1, 2, 3, 49_151, 49_152, 49_153, 200_001]) {
      const bytes = Uint8Array.from({ length: size }, (_, index) => index * 31);
      const value = {
        text: "é\u2028灯",
        n: 2n ** 63n,
        images: [new Base64Text("data:image/png;base64,", bytes, true), 1],
      };
      const text = JsonText.of(value, ["data: ", "\n\n"]);
      const chunks = [...text];
      expect(Buffer.concat(chunks).toString()).toBe(text.toString());
      expect(text.byteLength).toBe(text.toString().length);
      expect(Math.max(...chunks.map(({ byteLength }) => byteLength))).toBeLessThanOrEqual(65_536);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: the very ones
      expect(text.toString()).toMatch(/^[\x00-\x7f]*$/);
      const parsed = JSON.parse(text.toString().slice(6));
      expect(parsed).toMatchObject({ text: value.text, n: "9223372036854775808" });
      expect(parsed.images[0] === `data:image/png;base64,${Buffer.from(bytes).toString("base64")}`).toBe(true);
    }
  });
});

describe("envelopeOf", () => {
  it("takes a number as its decimal text", () => {
    expect(envelopeOf({ request_id: 42, input_id: 7n })).toMatchObject({ requestId: "42", inputId: "7" });
  });

  it("makes an id where there is none that can be a header", () => {
    expect(envelopeOf({ request_id: "a\r\nset-cookie: b" }).requestId).toMatch(/^[0-9a-f-]{36}$/);
    expect(envelopeOf(null).requestId).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe("slotOf", () => {
  it("lets only what is soon replaced be dropped", () => {
    expect(["progress", "preview", "result", "error", "mine"].map((type) => slotOf({ type }))).toEqual([
      "progress",
      "preview",
      undefined,
      undefined,
      undefined,
    ]);
    expect(slotOf("text")).toBeUndefined();
  });
});

describe("asciiJson", () => {
  it("is ASCII alone and the same value", () => {
    const value = { prompt: "phare à l’aube 灯台 🌅 \u2028", list: [1, "é"] };
    const text = asciiJson(value);
    expect(text).toMatch(/^[\x20-\x7e]*$/);
    expect(JSON.parse(text)).toEqual(value);
  });
});

describe("pack", () => {
  it("writes a bigint as its decimal text, which no reader rounds, wherever it stands", () => {
    const event = {
      seed: 2n ** 64n - 1n,
      list: [{ seed: 2n ** 53n }],
      picture: new Uint8Array([1, 2]),
      n: 2 ** 53 - 1,
    };
    expect(decode(pack(event))).toEqual({
      seed: "18446744073709551615",
      list: [{ seed: "9007199254740992" }],
      picture: new Uint8Array([1, 2]),
      n: 2 ** 53 - 1,
    });
    expect(decode(pack(new Map<string, unknown>([["a", 5n]])))).toEqual({ a: "5" });
    expect(() => pack({ a: new Float32Array(1) })).toThrow(TypeError);
  });
});
