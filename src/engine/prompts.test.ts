/** Prompts in both syntaxes, from a request to pixels of the built-in model, whose text encoder reads rows of 32 tokens. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { writeSafetensors } from "../../test/fixtures/safetensors-writer.ts";
import type { Runtime } from "./contract.ts";
import type { ResultEvent } from "./events.ts";
import type { TextToImageInput } from "./request.ts";
import { builtInModel, createRuntime } from "./runtime.ts";

/** Numbers of a vector of the built-in model's text encoder. */
const WIDTH = 128;
const folder = mkdtempSync(join(tmpdir(), "daguerre-embeddings-"));

async function put(name: string, tensor: string, shape: readonly number[], value = 0.3): Promise<void> {
  const count = shape.reduce((product, size) => product * size, 1);
  const data = new Uint8Array(Float32Array.from({ length: count }, (_, i) => value * Math.sin(i)).buffer);
  await writeSafetensors(join(folder, name), [{ name: tensor, dtype: "F32", shape, data }]);
}

let runtime: Runtime;
beforeAll(async () => {
  mkdirSync(join(folder, "more"));
  await put("glow.safetensors", "emb_params", [3, WIDTH]);
  await put("more/learned_embeds.safetensors", "<fox>", [WIDTH]);
  await put("other.safetensors", "emb_params", [1, 768]);
  await put("square.safetensors", "emb_params", [2, 3, 4]);
  await put("full.safetensors", "emb_params", [1, WIDTH], Number.NaN);
  writeFileSync(join(folder, "broken.safetensors"), "no header");
  runtime = await createRuntime({ precision: "f32", loraFolder: builtInModel(), embeddingFolder: folder });
});
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true });
});

const REQUEST = { width: 64, height: 64, num_inference_steps: 2, guidance_scale: 3, seed: 1, preview_every: 0 };
const LORA = "few-step/pytorch_lora_weights";

async function resultOf(prompt: string, changes: Partial<TextToImageInput> = {}): Promise<ResultEvent> {
  let result: ResultEvent | undefined;
  for await (const event of runtime.textToImage({ ...REQUEST, prompt, ...changes })) {
    if (event.type === "result") result = event;
  }
  return result!;
}

async function pixels(prompt: string, changes: Partial<TextToImageInput> = {}): Promise<string> {
  return Buffer.from((await resultOf(prompt, changes)).pictures[0]!.rgba).toString("base64");
}

const WEIGHTED = { prompt_syntax: "weighted" } as const;
const LONG = `${"a lake under mountains, ".repeat(9)}a red boat`;

describe("the weighted syntax", () => {
  test("without weights it is the plain one", async () => {
    expect(await pixels("a lake", WEIGHTED)).toBe(await pixels("a lake"));
    expect(await pixels("a \\(lake\\)", WEIGHTED)).toBe(await pixels("a (lake)"));
  });

  test("weights change the picture, the more the further from 1", async () => {
    const plain = await pixels("a lake", WEIGHTED);
    const [some, more, less] = [
      await pixels("a (lake:1.2)", WEIGHTED),
      await pixels("a (lake:1.6)", WEIGHTED),
      await pixels("a [lake]", WEIGHTED),
    ];
    expect(new Set([plain, some, more, less]).size).toBe(4);
    expect(await pixels("a (lake)", WEIGHTED)).toBe(await pixels("a (lake:1.1)", WEIGHTED));
    expect(await pixels("a lake", { ...WEIGHTED, negative_prompt: "(fog:1.4)" })).not.toBe(
      await pixels("a lake", { ...WEIGHTED, negative_prompt: "fog" }),
    );
  });

  test("a long prompt is read to its end in chunks, and plainly it is cut", async () => {
    const cut = await resultOf(LONG);
    expect(cut.warnings).toEqual([expect.stringMatching(/has 68 tokens; this model reads 32/)]);
    const whole = await resultOf(LONG, WEIGHTED);
    expect(whole.warnings).toBeUndefined();
    expect(whole.pictures[0]!.rgba).not.toEqual(cut.pictures[0]!.rgba);
    expect(await pixels(LONG.replace("red", "blue"), WEIGHTED)).not.toBe(await pixels(LONG, WEIGHTED));
    expect(await pixels(LONG.replace("red", "blue"))).toBe(await pixels(LONG));
    expect(await pixels("a lake", { ...WEIGHTED, negative_prompt: LONG })).not.toBe(await pixels("a lake", WEIGHTED));
  });

  test("no picture depends on its company, whatever its chunks", async () => {
    const prompts = ["a lake", LONG, "a lake BREAK a boat", "a (lake:1.3)"];
    const alone = [];
    for (const prompt of prompts) alone.push(await pixels(prompt, WEIGHTED));
    expect(await Promise.all(prompts.map((prompt) => pixels(prompt, WEIGHTED)))).toEqual(alone);
  });

  test("a running picture may be given a longer prompt", async () => {
    const updates = (async function* () {
      yield { prompt: LONG };
    })();
    let result: ResultEvent | undefined;
    const request = { ...REQUEST, ...WEIGHTED, prompt: "a lake", num_inference_steps: 4 };
    for await (const event of runtime.textToImage(request, { updates })) if (event.type === "result") result = event;
    expect(Buffer.from(result!.pictures[0]!.rgba).toString("base64")).not.toBe(
      await pixels("a lake", { ...WEIGHTED, num_inference_steps: 4 }),
    );
  });
});

describe("LoRAs in a prompt", () => {
  test("are those of the field", async () => {
    const named = await pixels(`a lake<lora:${LORA}:0.8>`, WEIGHTED);
    expect(named).toBe(await pixels("a lake", { loras: [{ name: LORA, scale: 0.8 }] }));
    expect(named).not.toBe(await pixels("a lake"));
    const plain = await resultOf(`a lake<lora:${LORA}:0.8>`);
    expect(plain.warnings?.join()).toMatch(/prompt_syntax weighted/);
  });

  test.each([
    ["<lora:nothing:1>", /"nothing" is not a LoRA of this server/],
    ["<lora:../landscapes/few-step/pytorch_lora_weights>", /is not a LoRA of this server/],
    [`<lora:${LORA}:99>`, /scale .* at most 10/],
    [`<lora:${LORA}:0.1>`.repeat(9), /8 are the most/],
  ])("%s is refused, naming the prompt", async (words, reason) => {
    const failing = pixels(`a lake ${words}`, WEIGHTED);
    await expect(failing).rejects.toMatchObject({ field: "prompt", message: expect.stringMatching(reason) });
  });
});

describe("textual inversion", () => {
  test("embeddings by the name of their file, or their token", async () => {
    expect(await runtime.embeddings()).toEqual(expect.arrayContaining(["<fox>", "glow", "learned_embeds"]));
    const plain = await pixels("a lake");
    const [glow, fox] = [await pixels("a lake, glow", WEIGHTED), await pixels("a lake <fox>")];
    expect(new Set([plain, glow, fox, await pixels("a lake, glow")]).size).toBe(4);
    expect(await pixels("a lake, embedding:glow")).toBe(glow);
    expect(await pixels("a lake, (glow:1.3)", WEIGHTED)).not.toBe(glow);
    const negative = await pixels("a lake", { ...WEIGHTED, negative_prompt: "glow" });
    expect(negative).not.toBe(await pixels("a lake", { negative_prompt: "glow" }));
  });

  test("a file that has changed is read anew", async () => {
    const before = await pixels("embedding:glow");
    await put("glow.safetensors", "emb_params", [2, WIDTH], 0.6);
    expect(await pixels("embedding:glow")).not.toBe(before);
  });

  test.each([
    ["other", /vectors of 768 numbers, and this model's text_encoder reads 128/],
    ["square", /shape \[2, 3, 4\]/],
    ["full", /NaN or infinity/],
    ["broken", /broken\.safetensors/],
  ])("%s is refused, naming the prompt", async (name, reason) => {
    const failing = pixels(`a lake embedding:${name}`);
    await expect(failing).rejects.toMatchObject({ field: "prompt", message: expect.stringMatching(reason) });
    await expect(failing).rejects.not.toMatchObject({ message: expect.stringContaining(folder) });
  });
});

describe("layers left out", () => {
  test("each gives another picture; more than there are is refused", async () => {
    const pictures = [];
    for (const clip_skip of [0, 1, 2]) pictures.push(await pixels("a lake", { clip_skip }));
    expect(new Set(pictures).size).toBe(3);
    expect(pictures[0]).toBe(await pixels("a lake"));
    await expect(pixels("a lake", { clip_skip: 4 })).rejects.toMatchObject({ field: "clip_skip" });
    // Plainly the negative prompt keeps its layers, as in diffusers; in the web UI's syntax it does not.
    const changes = { clip_skip: 1, negative_prompt: "fog" };
    expect(await pixels("a lake", { ...changes, ...WEIGHTED })).not.toBe(await pixels("a lake", changes));
  });
});
