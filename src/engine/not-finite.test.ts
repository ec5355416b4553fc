/** NaN and infinity in each component: in its file, and arising while it computes. Nobody gets a black picture for a result. */

import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { appOfRuntime } from "../../runtime-app.ts";
import { builtInFile, type Change, changedModel, changedTensors, WEIGHTS } from "../../test/changed-weights.ts";
import { safetensorsBytes } from "../../test/fixtures/safetensors-bytes.ts";
import type { LoadedModel } from "../diffusion/loaded-model.ts";
import { generate } from "../diffusion/run.ts";
import { FaultError } from "../faults/fault.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import type { FloatType } from "../weights/element-types.ts";
import { loadModel } from "./load-model.ts";
import { builtInModel, createRuntime } from "./runtime.ts";

type ComponentName = keyof typeof WEIGHTS;

let gpu: Gpu;
beforeAll(async () => {
  gpu = await openGpu();
});
afterAll(() => gpu.close());

const put =
  (value: number, at = 0): Change =>
  (values) => {
    values[at < 0 ? values.length + at : at] = value;
  };
const times =
  (factor: number): Change =>
  (values) => {
    for (let i = 0; i < values.length; i++) values[i]! *= factor;
  };

function load(component: ComponentName, pattern: RegExp, change: Change, dtype?: FloatType, activations?: "f16") {
  const file = WEIGHTS[component];
  const model = changedModel({ [file]: changedTensors(builtInFile(file), pattern, change, dtype) });
  return loadModel(gpu, model, { precision: activations ?? "f32", ...(activations && { activations }) });
}

describe("in a file", () => {
  it.each<[ComponentName, RegExp, number, FloatType]>([
    ["unet", /^conv_in\.weight$/, Number.NaN, "F32"],
    ["unet", /^conv_out\.weight$/, Number.POSITIVE_INFINITY, "F16"],
    ["unet", /^conv_out\.bias$/, Number.NaN, "BF16"],
    ["unet", /^conv_norm_out\.weight$/, Number.NaN, "F16"],
    ["unet", /^mid_block\.attentions\.0\..*attn1\.to_k\.weight$/, Number.NEGATIVE_INFINITY, "BF16"],
    ["vae", /^encoder\.layers\.0\.weight$/, Number.NaN, "F16"],
    ["vae", /^decoder\.layers\.16\.weight$/, Number.POSITIVE_INFINITY, "F32"],
    ["text_encoder", /token_embedding\.weight$/, Number.NaN, "F32"],
    ["text_encoder", /position_embedding\.weight$/, Number.POSITIVE_INFINITY, "F16"],
    ["text_encoder", /final_layer_norm\.bias$/, Number.NaN, "F32"],
    ["text_encoder", /layers\.1\.mlp\.fc2\.weight$/, Number.NaN, "BF16"],
  ])("%s, %s, %d in %s: the tensor is named", async (component, pattern, value, dtype) => {
    for (const at of [0, -1]) {
      const error = await load(component, pattern, put(value, at), dtype).catch((error) => error);
      expect(error).toMatchObject({ name: "WeightsError", code: "weights-not-finite", file: WEIGHTS[component] });
      expect(error.tensor).toMatch(pattern);
      expect(error.message).toMatch(/holds NaN or infinity; the file is damaged/);
    }
  });

  it("several tensors: all are named, up to ten of them", async () => {
    const error = await load("unet", /^down_blocks\..*\.weight$/, put(Number.NaN)).catch((error) => error);
    expect(error.message).toMatch(/^unet\/diffusion_pytorch_model\.safetensors: tensor "down_blocks\.0/);
    expect(error.message).toMatch(/, and so do "down_blocks.* and \d+ more; the file is damaged/);
  });

  it("numbers as large as each type has are none of them", async () => {
    for (const [value, dtype] of [
      [3.4e38, "F32"],
      [-65504, "F16"],
      [3.38e38, "BF16"],
    ] as const) {
      const { memory } = await load("unet", /^conv_out\.weight$/, put(value), dtype);
      memory.destroy();
    }
  });
});

describe("while it computes", () => {
  const run = async (model: LoadedModel, request = {}) => {
    const shape = { width: 64, height: 64, steps: 2, guidanceScale: 3, seed: 1, previewEvery: 1 };
    try {
      const events = [];
      for await (const event of generate(model, { prompt: "a lake", ...shape, ...request })) events.push(event);
      return events;
    } finally {
      model.memory.destroy();
    }
  };

  it.each<[string, ComponentName, RegExp, Change, RegExp]>([
    ["its last layer", "unet", /^conv_out\.weight$/, times(1e38), /^the denoiser \(unet\) .* in step 1 of 2, so/],
    ["its last norm", "unet", /^conv_norm_out\.weight$/, times(1e37), /^the denoiser \(unet\)/],
    ["all of its layers", "unet", /weight$/, times(1e38), /^the denoiser \(unet\)/],
    ["an attention", "unet", /attn2\.to_v\.weight$/, times(1e38), /^the denoiser \(unet\)/],
    ["its last layer", "vae", /^decoder\.layers\.16\.weight$/, times(3e38), /^the decoder \(vae\)/],
    ["its first layer", "vae", /^decoder\.layers\.0\.weight$/, times(3e38), /^the decoder \(vae\)/],
    ["all of its layers", "vae", /weight$/, times(1e37), /^the decoder \(vae\)/],
    ["its last norm", "text_encoder", /final_layer_norm\.weight$/, times(1e37), /^the text encoder \(text_encoder\)/],
    ["a layer", "text_encoder", /layers\.\d\.mlp\.fc1\.weight$/, times(1e38), /^the text encoder \(text_encoder\)/],
  ])("%s of %s: the component is named", async (_, component, pattern, change, message) => {
    const error = await run(await load(component, pattern, change)).catch((error) => error);
    expect(error).toBeInstanceOf(FaultError);
    expect(error).toMatchObject({ code: "not-finite", status: 500 });
    expect(error.message).toMatch(message);
  });

  it("the encoder of image-to-image", async () => {
    const model = await load("vae", /^encoder\.layers\.8\.weight$/, times(3e38));
    const image = { width: 64, height: 64, rgba: new Uint8Array(64 * 64 * 4).fill(90) };
    const error = await run(model, { image, strength: 0.5 }).catch((error) => error);
    expect(error.message).toMatch(/^the encoder \(vae\) computed NaN or infinity/);
  });

  it("with activations in f16, which saturate", async () => {
    const model = await load("unet", /^conv_out\.weight$/, times(6e4), "F32", "f16");
    const error = await run(model).catch((error) => error);
    expect(error.message).toMatch(/^the denoiser \(unet\) .*; its weights are damaged, or need precision f32$/);
  });

  it("a decoder of previews alone: no previews, a warning, and the picture", async () => {
    const unsound = changedTensors(builtInFile(WEIGHTS.vae), /^decoder\.layers\.16\.weight$/, times(3e38));
    const config = new TextDecoder().decode(builtInFile("vae/config.json"));
    const files = changedModel({
      "config.json": config,
      "diffusion_pytorch_model.safetensors": unsound,
    });
    const alone = { ...files, list: async () => ["config.json", "diffusion_pytorch_model.safetensors"] };
    const model = await loadModel(gpu, builtInModel(), { precision: "f32", tinyAutoencoder: alone });
    const events = await run(model, { previewDecoder: "tiny" });
    expect(events.map(({ type }) => type)).toEqual(["step", "step", "result"]);
    const { warnings } = events.at(-1) as { warnings?: readonly string[] };
    expect(warnings).toContain("There are no previews: the decoder (tiny_vae) computed NaN or infinity.");
  });
});

describe("a LoRA", () => {
  const folder = mkdtempSync(join(tmpdir(), "daguerre-lora-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  /** A LoRA of rank 1, for the last layer of the UNet. */
  function write(name: string, up: number): string {
    const [outputs, channels, side] = [12, 64, 3];
    const module = "unet.conv_out";
    const inputs = channels * side ** 2;
    const data = new Float32Array(inputs + outputs).fill(0.5, 0, inputs).fill(up, inputs);
    const path = join(folder, `${name}.safetensors`);
    writeFileSync(
      path,
      safetensorsBytes(
        {
          [`${module}.lora_A.weight`]: {
            dtype: "F32",
            shape: [1, channels, side, side],
            data_offsets: [0, inputs * 4],
          },
          [`${module}.lora_B.weight`]: {
            dtype: "F32",
            shape: [outputs, 1, 1, 1],
            data_offsets: [inputs * 4, data.byteLength],
          },
        },
        new Uint8Array(data.buffer),
      ),
    );
    return path;
  }

  it("over HTTP: 422 on `loras`, with the tensor if its file is unsound; the next request is served", async () => {
    write("unsound", Number.NaN);
    write("huge", 3e38);
    write("fine", 0.001);
    // A tensor in F32, so that the weights are not stored as f16, which saturates.
    const unet = changedTensors(builtInFile(WEIGHTS.unet), /^conv_in\.weight$/, times(1));
    const model = changedModel({ [WEIGHTS.unet]: unet });
    const runtime = await createRuntime({ model, loraFolder: folder });
    const app = appOfRuntime(runtime);
    const ask = async (name: string, scale = 1) => {
      const body = { prompt: "a lake", width: 64, height: 64, num_inference_steps: 1, loras: [{ name, scale }] };
      const response = await app.request("/", {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify(body),
      });
      return {
        status: response.status,
        body: (await response.json()) as { detail?: { loc: string[]; msg: string }[] },
      };
    };
    try {
      const unsound = await ask("unsound");
      expect(unsound.status).toBe(422);
      expect(unsound.body.detail![0]!.loc.slice(0, 2)).toEqual(["body", "loras"]);
      expect(unsound.body.detail![0]!.msg).toMatch(/lora_B\.weight": holds NaN or infinity/);
      expect(unsound.body.detail![0]!.msg).not.toContain(folder);
      const huge = await ask("huge");
      expect(huge.status).toBe(422);
      expect(huge.body.detail![0]!.loc.slice(0, 2)).toEqual(["body", "loras"]);
      expect(huge.body.detail![0]!.msg).toMatch(/the denoiser \(unet\) computes NaN or infinity; lower their scale/);
      expect((await ask("fine")).status).toBe(200);
    } finally {
      await runtime.close();
    }
  });
});

describe("a server and the command", () => {
  const folder = mkdtempSync(join(tmpdir(), "daguerre-black-"));
  const file = WEIGHTS.vae;
  beforeAll(() => {
    cpSync(builtInModel(), folder, { recursive: true });
    writeFileSync(join(folder, file), changedTensors(builtInFile(file), /weight$/, times(1e37)));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("answer 500 and name the component", async () => {
    const runtime = await createRuntime({ model: folder });
    try {
      const response = await appOfRuntime(runtime).request("/", {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify({ prompt: "a lake", width: 64, height: 64, num_inference_steps: 1 }),
      });
      expect(response.status).toBe(500);
      expect(JSON.stringify(await response.json())).toContain("the decoder (vae) computed NaN or infinity");
    } finally {
      await runtime.close();
    }
  });

  it("end with exit code 1, one sentence, and no picture", () => {
    const picture = join(folder, "black.png");
    const root = join(import.meta.dirname, "../..");
    const args = ["--import", join(root, "tooling/run.mjs"), join(root, "cli/main.ts")];
    const command = ["generate", "a lake", "--model", folder, "--size", "64x64", "--steps", "1", "-o", picture];
    const { status, stderr } = spawnSync(process.execPath, [...args, ...command], { encoding: "utf8", cwd: root });
    expect(stderr).toContain("daguerre: the decoder (vae) computed NaN or infinity, so there is no picture");
    expect(status).toBe(1);
    expect(() => builtInFile(picture)).toThrow();
  });
});
