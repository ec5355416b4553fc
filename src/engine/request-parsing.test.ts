import { describe, expect, it } from "vitest";
import { RequestError } from "./errors.ts";
import { LIMITS } from "./request.ts";
import { parseGeneration, parseRemoteGeneration } from "./request-parsing.ts";

/** The issues that parsing `input` raises, as `path: type`. */
function faults(input: unknown, parse = parseGeneration): string[] {
  try {
    parse(input);
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    return error.issues.map((issue) => `${issue.path.join(".")}: ${issue.type}`);
  }
  return [];
}

describe("parseGeneration", () => {
  it("gives defaults and leaves to the model what the model decides", () => {
    expect(parseGeneration({ prompt: "a lighthouse" })).toEqual({
      prompt: "a lighthouse",
      negative_prompt: "",
      generator: "cpu",
      num_images: 1,
      preview_every: 5,
      preview_decoder: "auto",
      few_step: false,
      control: [],
      ip_adapter: [],
      loras: [],
      strength: 0.8,
      output_format: "jpeg",
    });
  });

  it("takes null for not given and ignores other servers' fields", () => {
    const request = parseGeneration({ prompt: "x", width: null, seed: null, sync_mode: true, loras: null });
    expect(request).toEqual(parseGeneration({ prompt: "x" }));
  });

  it("takes a mask under fal's names too, and none for an empty one", () => {
    const image = "data:image/png;base64,iVBORw==";
    const mask = parseGeneration({ prompt: "x", image, mask: image }).mask;
    expect(Array.from(mask ?? [])).toEqual([0x89, 0x50, 0x4e, 0x47]);
    for (const name of ["mask_url", "mask_image_url"]) {
      expect(parseGeneration({ prompt: "x", image, [name]: image })).toEqual(
        parseGeneration({ prompt: "x", image, mask }),
      );
      expect(parseGeneration({ prompt: "x", image, [name]: "" }).mask).toBeUndefined();
    }
    expect(faults({ prompt: "x", mask: image, outpaint: { top: 8 } })).toEqual([
      "mask: value_error",
      "outpaint: value_error",
    ]);
    for (const outpaint of ["8,0,16,0", { left: 8, right: 16 }]) {
      const margins = { left: 8, top: 0, right: 16, bottom: 0 };
      expect(parseGeneration({ prompt: "x", image, outpaint }).outpaint).toEqual(margins);
    }
  });

  it("changes nothing the second time", () => {
    const once = parseGeneration({
      prompt: "x",
      seed: "18446744073709551615",
      loras: [{ name: "ink" }],
      image_url: "data:image/png;base64,iVBORw==",
    });
    expect(parseGeneration(once)).toEqual(once);
    expect(once.seed).toBe(18446744073709551615n);
    for (const seed of [-1, "-1"]) expect(parseGeneration({ prompt: "x", seed }).seed).toBeUndefined();
    expect(Array.from(once.image ?? [])).toEqual([0x89, 0x50, 0x4e, 0x47]);
  });

  it.each([
    [{}, "prompt: missing"],
    [{ prompt: 7 }, "prompt: string_type"],
    [{ prompt: "x".repeat(LIMITS.promptCharacters + 1) }, "prompt: string_too_long"],
    [{ prompt: "x", num_inference_steps: 0 }, "num_inference_steps: greater_than_equal"],
    [{ prompt: "x", num_inference_steps: 201 }, "num_inference_steps: less_than_equal"],
    [{ prompt: "x", num_inference_steps: 2.5 }, "num_inference_steps: int_type"],
    [{ prompt: "x", num_inference_steps: "20" }, "num_inference_steps: float_type"],
    [{ prompt: "x", guidance_scale: "high" }, "guidance_scale: float_type"],
    [{ prompt: "x", width: 130 }, "width: multiple_of"],
    [{ prompt: "x", height: 8 }, "height: greater_than_equal"],
    [{ prompt: "x", seed: -2 }, "seed: greater_than_equal"],
    [{ prompt: "x", seed: "18446744073709551616" }, "seed: value_error"],
    [{ prompt: "x", output_format: "gif" }, "output_format: literal_error"],
    [{ prompt: "x", strength: 0 }, "strength: greater_than"],
    [{ prompt: "x", image_url: "https://example.com/cat.png" }, "image_url: value_error"],
    [{ prompt: "x", image: 3 }, "image: value_error"],
    [{ prompt: "x", loras: "ink" }, "loras: list_type"],
    [{ prompt: "x", loras: [{ scale: 1 }] }, "loras.0: value_error"],
    [{ prompt: "x", loras: [{ name: "ink", scale: 99 }] }, "loras.0.scale: less_than_equal"],
    [{ prompt: "x", request_id: "a\r\nb" }, "request_id: string_pattern_mismatch"],
    [{ prompt: "x", request_id: 2 ** 53 }, "request_id: value_error"],
    [{ prompt: "x", request_id: true }, "request_id: value_error"],
    [{ prompt: "x", input_id: 1e21 }, "input_id: value_error"],
    [{ prompt: "x", image_size: "large" }, "image_size: value_error"],
    [{ prompt: "x", image_size: [64, 64] }, "image_size: value_error"],
    [{ prompt: "x", image_size: { width: 64 } }, "image_size: value_error"],
    [{ prompt: "x", image_size: { width: 100, height: 64 } }, "image_size.width: multiple_of"],
    [{ prompt: "x", image_size: { width: 64, height: 4096 } }, "image_size.height: less_than_equal"],
    [{ prompt: "x", image_size: "square", width: 8 }, "width: greater_than_equal"],
    [{ prompt: "x", num_images: 11 }, "num_images: less_than_equal"],
    [{ prompt: "x", guidanceScale: 3 }, "guidanceScale: extra_forbidden"],
    [{ prompt: "x", steps: 3 }, "steps: extra_forbidden"],
    [[], ": model_attributes_type"],
    ["text", ": model_attributes_type"],
    [undefined, ": missing"],
  ])("refuses %j, naming the field", (input, expected) => {
    expect(faults(input)).toEqual([expected]);
  });

  it.each([
    ["square_hd", {}, 1024, 1024],
    ["square", {}, 512, 512],
    ["portrait_4_3", {}, 768, 1024],
    ["portrait_16_9", {}, 576, 1024],
    ["landscape_4_3", {}, 1024, 768],
    ["landscape_16_9", {}, 1024, 576],
    [{ width: 256, height: 128 }, {}, 256, 128],
    [{ width: 256, height: 128 }, { width: 64 }, 64, 128],
    ["square", { width: 64, height: 96 }, 64, 96],
    ["square", { width: null }, 512, 512],
    [null, { height: 64 }, undefined, 64],
  ])("reads image_size %j with %j beside it", (image_size, beside, width, height) => {
    const request = parseGeneration({ prompt: "x", image_size, ...beside });
    expect([request.width, request.height]).toEqual([width, height]);
    expect(request).not.toHaveProperty("image_size");
    expect(parseGeneration(request)).toEqual(request);
  });

  it.each([
    [42, "42"],
    [0, "0"],
    [2 ** 53 - 1, "9007199254740991"],
    [18446744073709551615n, "18446744073709551615"],
    ["007", "007"],
  ])("takes the id %s as its decimal text", (id, text) => {
    expect(parseGeneration({ prompt: "x", request_id: id, input_id: id })).toMatchObject({
      request_id: text,
      input_id: text,
    });
  });

  it("names every field at fault", () => {
    expect(faults({ width: 7, steps: 3 })).toEqual([
      "prompt: missing",
      "width: greater_than_equal",
      "width: multiple_of",
      "steps: extra_forbidden",
    ]);
  });

  it("refuses more bytes of picture than the limit", () => {
    const image = `data:image/png;base64,${"A".repeat(Math.ceil(LIMITS.imageBytes / 3) * 4 + 8)}`;
    expect(faults({ prompt: "x", image })).toEqual(["image: value_error"]);
    expect(faults({ prompt: "x", image: new Uint8Array(LIMITS.imageBytes + 1) })).toEqual(["image: value_error"]);
  });

  it("survives an input nested deeper than the stack", () => {
    const nested = JSON.parse(`{"prompt":"x","extra":${"[".repeat(50_000)}${"]".repeat(50_000)}}`);
    expect(parseGeneration(nested).prompt).toBe("x");
  });
});

describe("parseRemoteGeneration", () => {
  it("takes a LoRA by name, under fal's word for it too", () => {
    const request = parseRemoteGeneration({ prompt: "x", loras: [{ path: "ink" }, { name: "oil-2.1", scale: 0.5 }] });
    expect(request.loras).toEqual([
      { name: "ink", scale: 1 },
      { name: "oil-2.1", scale: 0.5 },
    ]);
  });

  it.each([
    "add_detail (v1)",
    "墨心",
    "style+lora",
    "[Hyper] 8step",
    "_private",
    "de\u0301tail",
    "sub/inner",
    "a.SAFETENSORS",
  ])("takes %s as a name", (name) =>
    expect(parseRemoteGeneration({ prompt: "x", loras: [{ name }] }).loras).toEqual([{ name, scale: 1 }]),
  );

  it.each(["../secret", "a/../../b", "/etc/passwd", "C:\\ink", ".hidden", "a/.b", "..", "a\0b"])(
    "refuses %j as a name",
    (path) => {
      expect(faults({ prompt: "x", loras: [{ path }] }, parseRemoteGeneration)).toEqual(["loras.0.path: value_error"]);
    },
  );
});
