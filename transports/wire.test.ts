import { describe, expect, it } from "vitest";
import { slotOf } from "../src/engine/jobs.ts";
import { gradient } from "../test/gradient-run.ts";
import { asciiJson, envelopeOf, wireEvent } from "./wire.ts";

// biome-ignore lint/suspicious/noExplicitAny: whatever the JSON holds; the assertions say what it should
type Fields = any;

const envelope = envelopeOf({ request_id: "r1", input_id: "i1", output_format: "png" });

function bytesOf(url: string): Buffer {
  return Buffer.from(url.slice(url.indexOf(",") + 1), "base64");
}

describe("wireEvent", () => {
  it("encodes previews as JPEG and results as asked, as data URIs with what a fal playground needs", async () => {
    const preview = (await wireEvent({ type: "preview", picture: gradient(32, 1), step: 5 }, envelope)) as Fields;
    expect(preview).toMatchObject({ type: "preview", step: 5, request_id: "r1", input_id: "i1" });
    expect(preview.picture).toBeUndefined();
    expect(preview.image).toMatchObject({ content_type: "image/jpeg", width: 32, height: 32 });
    expect(bytesOf(preview.image.url).subarray(0, 3).toString("hex")).toBe("ffd8ff");

    const pictures = [gradient(32, 1), gradient(16, 1)];
    const result = (await wireEvent({ type: "result", pictures, seed: 2n ** 60n }, envelope)) as Fields;
    expect(result.images.map((image: Fields) => image.width)).toEqual([32, 16]);
    expect(result.image).toEqual(result.images[0]);
    expect(bytesOf(result.images[1].url).subarray(1, 4).toString()).toBe("PNG");
    expect(JSON.parse(asciiJson(result)).seed).toBe("1152921504606846976");
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

describe("envelopeOf", () => {
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
