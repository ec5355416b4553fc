/** Networks beside the denoiser, from a server's folder to pixels: ControlNets, T2I-Adapters, preprocessors. */

import { mkdir, mkdtemp, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { appOfRuntime } from "../../runtime-app.ts";
import { type TensorToWrite, writeSafetensors } from "../../test/fixtures/safetensors-writer.ts";
import { normals } from "../../test/generated-weights.ts";
import { controlnetParameters } from "../families/control/controlnet-part.ts";
import { recordEncoder } from "../families/control/image-encoder.ts";
import { adapterParameters } from "../families/control/ip-adapter-part.ts";
import { recordAdapter } from "../families/control/t2i-part.ts";
import type { Parameter } from "../graph/tensor.ts";
import { parseClipVisionConfig } from "../models/clip-vision.ts";
import { parseControlNetConfig } from "../models/controlnet.ts";
import { parseT2iAdapterConfig } from "../models/t2i-adapter.ts";
import { parseUnetConfig } from "../models/unet-config.ts";
import type { Runtime } from "./contract.ts";
import type { GenerationInput } from "./request.ts";
import { parseRemoteGeneration } from "./request-parsing.ts";
import { builtInModel, createRuntime } from "./runtime.ts";

let folder: string;
let runtime: Runtime;
let picture: Buffer;
const SIZE = { width: 64, height: 64 };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "controls-"));
  const unet = JSON.parse(await readFile(join(builtInModel(), "unet", "config.json"), "utf8")) as Record<
    string,
    unknown
  >;
  await writeControlNet("edges", unet, 1);
  await writeControlNet("nested/depth", unet, 2);
  await writeControlNet("other", { ...unet, cross_attention_dim: 2048 }, 3);
  await writeAdapter("sketch", unet);
  await writeOriginal("original", unet, 1);
  await writeReference("styles", unet);
  await writeFile(join(folder, "broken.safetensors"), "not a file of tensors");
  picture = await sharp({ create: { ...SIZE, channels: 3, background: "white" } })
    .composite([{ input: { create: { width: 20, height: 30, channels: 3, background: "black" } }, left: 13, top: 9 }])
    .png()
    .toBuffer();
  runtime = await createRuntime({ controlFolder: folder });
});
afterAll(async () => {
  await runtime?.close();
  await rm(folder, { recursive: true });
});

async function writeControlNet(name: string, unet: Record<string, unknown>, seed: number): Promise<void> {
  const { up_block_types: _, out_channels: __, ...own } = unet;
  const config = { ...own, _class_name: "ControlNetModel", conditioning_embedding_out_channels: [4, 4, 8, 8] };
  await writeNetwork(name, config, controlnetParameters(parseControlNetConfig(name, config, false)), seed);
}

async function writeAdapter(name: string, unet: Record<string, unknown>): Promise<void> {
  const config = { _class_name: "T2IAdapter", channels: unet.block_out_channels, num_res_blocks: 1 };
  const recorded = recordAdapter(parseT2iAdapterConfig(name, config), 64, 64);
  await writeNetwork(name, config, [...recorded.parameters.values()], 4);
}

async function writeNetwork(
  name: string,
  config: object,
  parameters: readonly Parameter[],
  seed: number,
  file = "diffusion_pytorch_model.safetensors",
): Promise<void> {
  await mkdir(join(folder, name), { recursive: true });
  await writeFile(join(folder, name, "config.json"), JSON.stringify(config));
  await writeSafetensors(join(folder, name, file), tensorsOf(parameters, seed));
}

function tensorsOf(parameters: readonly Parameter[], seed: number): TensorToWrite[] {
  return parameters
    .flatMap(({ parts }) => parts)
    .map(({ name, shape }, index) => {
      const count = shape.reduce((product, size) => product * size, 1);
      const values = normals(count, seed * 1000 + index, 1 / Math.sqrt(count / shape[0]!));
      const data = new Uint8Array(values.buffer);
      // A vector in the files, and a table of one row in the network.
      const isVector = name.endsWith("class_embedding.weight");
      return isVector
        ? { name: name.replace(/\.weight$/, ""), dtype: "F32", shape: shape.slice(1), data }
        : { name, dtype: "F32", shape: [...shape], data };
    });
}

/** The ControlNet of a folder as one file under the names of its authors' program. */
async function writeOriginal(name: string, unet: Record<string, unknown>, seed: number): Promise<void> {
  const layers = unet.layers_per_block as number;
  const { up_block_types: _, out_channels: __, ...own } = unet;
  const config = { ...own, conditioning_embedding_out_channels: [4, 4, 8, 8] };
  const inner: Record<string, string> = {
    norm1: "in_layers.0",
    conv1: "in_layers.2",
    time_emb_proj: "emb_layers.1",
    norm2: "out_layers.0",
    conv2: "out_layers.3",
    conv_shortcut: "skip_connection",
  };
  const block = (level: string, layer: string) => 1 + Number(level) * (layers + 1) + Number(layer);
  const rules: [RegExp, (parts: string[]) => string][] = [
    [/^conv_in\./, () => "input_blocks.0.0."],
    [/^time_embedding\.linear_([12])\./, ([part]) => `time_embed.${part === "1" ? 0 : 2}.`],
    [
      /^down_blocks\.(\d+)\.resnets\.(\d+)\.(\w+)\./,
      ([l, j, part]) => `input_blocks.${block(l!, j!)}.0.${inner[part!]}.`,
    ],
    [/^down_blocks\.(\d+)\.attentions\.(\d+)\./, ([l, j]) => `input_blocks.${block(l!, j!)}.1.`],
    [/^down_blocks\.(\d+)\.downsamplers\.0\.conv\./, ([l]) => `input_blocks.${(Number(l) + 1) * (layers + 1)}.0.op.`],
    [/^mid_block\.resnets\.(\d)\.(\w+)\./, ([j, part]) => `middle_block.${Number(j) * 2}.${inner[part!]}.`],
    [/^mid_block\.attentions\.0\./, () => "middle_block.1."],
    [/^controlnet_cond_embedding\.conv_in\./, () => "input_hint_block.0."],
    [/^controlnet_cond_embedding\.blocks\.(\d)\./, ([at]) => `input_hint_block.${2 * (Number(at) + 1)}.`],
    [/^controlnet_cond_embedding\.conv_out\./, () => "input_hint_block.14."],
    [/^controlnet_down_blocks\.(\d+)\./, ([at]) => `zero_convs.${at}.0.`],
    [/^controlnet_mid_block\./, () => "middle_block_out.0."],
  ];
  const tensors = tensorsOf(controlnetParameters(parseControlNetConfig(name, config, false)), seed);
  const renamed = tensors.map((tensor) => {
    const [pattern, rename] = rules.find(([one]) => one.test(tensor.name))!;
    const [whole, ...parts] = pattern.exec(tensor.name)!;
    return { ...tensor, name: `control_model.${rename(parts)}${tensor.name.slice(whole.length)}` };
  });
  await writeSafetensors(join(folder, `${name}.safetensors`), renamed);
}

/** A plain IP-Adapter, and its encoder of pictures beside it. */
async function writeReference(place: string, unet: Record<string, unknown>): Promise<void> {
  const encoder = {
    architectures: ["CLIPVisionModelWithProjection"],
    ...{ hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2 },
    ...{ image_size: 32, patch_size: 16, projection_dim: 12, hidden_act: "gelu" },
  };
  const recorded = recordEncoder(parseClipVisionConfig("image_encoder", encoder), ["features", "embedding"]);
  const parameters = [...recorded.parameters.values()];
  await writeNetwork(`${place}/image_encoder`, encoder, parameters, 5, "model.safetensors");
  const config = parseUnetConfig(unet);
  const projection = { kind: "plain", inputs: 12, tokens: 4, width: config.cross_attention_dim } as const;
  await writeSafetensors(join(folder, place, "plain.safetensors"), tensorsOf(adapterParameters(config, projection), 6));
}

async function drawn(more: Partial<GenerationInput> = {}): Promise<Uint8Array> {
  const input = { ...SIZE, prompt: "a lake", num_inference_steps: 3, seed: 7, preview_every: 0, ...more };
  for await (const event of runtime.textToImage(input)) {
    if (event.type === "result") return event.pictures[0]!.rgba;
  }
  throw new Error("there was no result");
}

const entry = (name: string, more: object = {}) => ({ name, image: picture, ...more });

describe("a request with control", () => {
  test("changes the picture by its scale, and not at all at 0 or outside of its steps", async () => {
    const plain = await drawn();
    const controlled = await drawn({ control: [entry("edges")] });
    expect(controlled).not.toEqual(plain);
    expect(await drawn({ control: [entry("edges", { scale: 0.5 })] })).not.toEqual(controlled);
    expect(await drawn({ control: [entry("edges", { scale: 0 })] })).toEqual(plain);
    // None of three steps lies within the last tenth.
    expect(await drawn({ control: [entry("edges", { start: 0.9 })] })).toEqual(plain);
    expect(await drawn({ control: [entry("edges", { end: 0.4 })] })).not.toEqual(controlled);
    expect(await drawn({ control: [entry("edges", { guess_mode: true })] })).not.toEqual(controlled);
    expect(await drawn({ control: [entry("edges")] })).toEqual(controlled);
    expect(await drawn()).toEqual(plain);
  });

  test("takes several networks, and adapters, at once", async () => {
    const both = await drawn({ control: [entry("edges"), entry("nested/depth", { scale: 0.5 })] });
    expect(both).not.toEqual(await drawn({ control: [entry("edges")] }));
    const sketch = await drawn({ control: [entry("sketch")] });
    expect(await drawn({ control: [entry("sketch", { scale: 0 })] })).not.toEqual(sketch);
    expect(await drawn({ control: [entry("sketch"), entry("edges")] })).not.toEqual(sketch);
  });

  test("shares its steps with company, and stays the same", async () => {
    const alone = await drawn({ control: [entry("edges")] });
    const together = await Promise.all([
      drawn({ control: [entry("edges")] }),
      drawn({ control: [entry("edges", { scale: 0.3 })], seed: 8 }),
      drawn(),
    ]);
    expect(together[0]).toEqual(alone);
  });

  test("draws from what a preprocessor makes", async () => {
    const made = await runtime.preprocess({ preprocessor: "canny", image: picture });
    const png = await sharp(made.rgba, { raw: { width: made.width, height: made.height, channels: 4 } })
      .png()
      .toBuffer();
    const given = await drawn({ control: [{ name: "edges", image: png }] });
    expect(await drawn({ control: [entry("edges", { preprocess: "canny" })] })).toEqual(given);
    expect(await drawn({ control: [entry("edges")] })).not.toEqual(given);
  });

  test("takes a file in the authors' own layout for the same network", async () => {
    expect(await drawn({ control: [entry("original")] })).toEqual(await drawn({ control: [entry("edges")] }));
  });

  test("follows a picture by an IP-Adapter, by its scale", async () => {
    const plain = await drawn();
    const styled = await drawn({ ip_adapter: [entry("styles/plain")] });
    expect(styled).not.toEqual(plain);
    expect(await drawn({ ip_adapter: [entry("styles/plain", { scale: 0 })] })).toEqual(plain);
    const other = await sharp(picture).negate().png().toBuffer();
    expect(await drawn({ ip_adapter: [{ name: "styles/plain", image: other }] })).not.toEqual(styled);
    const both = await drawn({ ip_adapter: [entry("styles/plain")], control: [entry("edges")] });
    expect(both).not.toEqual(styled);
  });

  test("reads a file that was replaced anew", async () => {
    const before = await drawn({ control: [entry("edges")] });
    const unet = JSON.parse(await readFile(join(builtInModel(), "unet", "config.json"), "utf8"));
    await writeControlNet("edges", unet, 9);
    await utimes(join(folder, "edges", "config.json"), new Date(), new Date(Date.now() + 5000));
    expect(await drawn({ control: [entry("edges")] })).not.toEqual(before);
  });
});

describe("a request that cannot be run", () => {
  const wide = () =>
    sharp({ create: { width: 8000, height: 1, channels: 3, background: "white" } })
      .png()
      .toBuffer();
  test.each<[string, () => Promise<Partial<GenerationInput>>, string, RegExp]>([
    [
      "a picture of 8000 x 1",
      async () => ({ control: [{ name: "edges", image: await wide() }] }),
      "control.0.image",
      /8000x1/,
    ],
    [
      "no picture",
      async () => ({ control: [{ name: "edges", image: Buffer.from("no") }] }),
      "control.0.image",
      /not a JPEG/,
    ],
    ["an unknown name", async () => ({ control: [entry("edge")] }), "control.0.name", /it offers .*edges/],
    [
      "a network of another family",
      async () => ({ control: [entry("edges"), entry("other")] }),
      "control.1.name",
      /another kind|Stable Diffusion/,
    ],
    ["no file of tensors", async () => ({ control: [entry("broken")] }), "control.0.name", /broken/],
    [
      "a mode of no union",
      async () => ({ control: [entry("edges", { mode: "canny" })] }),
      "control.0.mode",
      /leave it out/,
    ],
    [
      "steps that end before they start",
      async () => ({ control: [entry("edges", { start: 0.5, end: 0.2 })] }),
      "control.0.end",
      /above start/,
    ],
    [
      "a ControlNet as an IP-Adapter",
      async () => ({ ip_adapter: [entry("edges")] }),
      "ip_adapter.0.name",
      /name it in control/,
    ],
  ])("%s: the field is named, and the next one is drawn", async (_, input, field, message) => {
    const error = await drawn(await input()).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: "invalid-request", field });
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain(folder);
    expect(await drawn()).toHaveLength(64 * 64 * 4);
  });

  test("a name is never a path", async () => {
    for (const name of ["../edges", join(folder, "edges"), "/etc/passwd"]) {
      const request = parseRemoteGeneration({ prompt: "a lake", control: [entry(name)] });
      await expect(drawn(request as GenerationInput)).rejects.toMatchObject({ field: "control.0.name" });
    }
  });
});

describe("over HTTP", () => {
  test("networks and preprocessors are listed, and a picture is made", async () => {
    const app = appOfRuntime(runtime);
    const { controls } = (await (await app.request("/controls")).json()) as { controls: { name: string }[] };
    expect(controls.map(({ name }) => name)).toEqual([
      "broken",
      "edges",
      "nested/depth",
      "original",
      "other",
      "sketch",
      "styles/plain",
    ]);
    const { preprocessors } = (await (await app.request("/preprocessors")).json()) as {
      preprocessors: { name: string }[];
    };
    expect(preprocessors.map(({ name }) => name)).toEqual(["canny", "soft_edge", "lineart", "scribble", "tile"]);
    const ask = (body: object) => app.request("/preprocess", { method: "POST", body: JSON.stringify(body) });
    const made = await ask({ preprocessor: "canny", image: picture.toString("base64") });
    expect(made.headers.get("content-type")).toBe("image/png");
    const edges = await sharp(await made.arrayBuffer())
      .raw()
      .toBuffer();
    // The outline of a black box, and nothing else.
    const white = edges.filter((value) => value === 255).length / 3;
    expect(white).toBeGreaterThan(80);
    expect(white).toBeLessThan(130);
    const refused = await ask({ preprocessor: "depth", image: picture.toString("base64") });
    expect(refused.status).toBe(422);
    expect(JSON.stringify(await refused.json())).toContain("preprocessor");
  });
});
