/**
 * LoRA files in other namings, with things that do not belong, and under any file name, asked for in all the ways: the
 * pictures are those of the same file in diffusers' naming.
 */
import { spawn } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { decode, encode } from "@msgpack/msgpack";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { appOfRuntime } from "../runtime-app.ts";
import type { Runtime } from "../src/engine/contract.ts";
import type { ResultEvent } from "../src/engine/events.ts";
import { createRuntime } from "../src/engine/runtime.ts";
import { encodePicture } from "../src/image/encode.ts";
import { type Listening, listen } from "../transports/http/listen.ts";
import { type TensorToWrite, writeSafetensors } from "./fixtures/safetensors-writer.ts";
import { normals } from "./generated-weights.ts";

const REQUEST = {
  prompt: "a lake",
  width: 64,
  height: 64,
  num_inference_steps: 1,
  guidance_scale: 1,
  seed: 1,
  preview_every: 0,
};

/** Modules of the built-in model's UNet: our name, Stability's by its own numbering (one layer a block), shape. */
const UNET: readonly (readonly [own: string, stability: string, shape: readonly number[]])[] = [
  ["conv_in", "input_blocks.0.0", [64, 12, 3, 3]],
  ["time_embedding.linear_1", "time_embed.0", [256, 64]],
  ["down_blocks.0.resnets.0.conv1", "input_blocks.1.0.in_layers.2", [64, 64, 3, 3]],
  ["down_blocks.0.downsamplers.0.conv", "input_blocks.2.0.op", [64, 64, 3, 3]],
  ["down_blocks.1.attentions.0.proj_in", "input_blocks.3.1.proj_in", [96, 96, 1, 1]],
  [
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
    "input_blocks.3.1.transformer_blocks.0.attn2.to_k",
    [96, 128],
  ],
  [
    "down_blocks.2.attentions.0.transformer_blocks.0.attn1.to_out.0",
    "input_blocks.5.1.transformer_blocks.0.attn1.to_out.0",
    [160, 160],
  ],
  ["mid_block.resnets.1.time_emb_proj", "middle_block.2.emb_layers.1", [160, 256]],
  ["up_blocks.0.upsamplers.0.conv", "output_blocks.1.2.conv", [160, 160, 3, 3]],
  [
    "up_blocks.1.attentions.1.transformer_blocks.0.ff.net.0.proj",
    "output_blocks.3.1.transformer_blocks.0.ff.net.0.proj",
    [768, 96],
  ],
  ["up_blocks.2.resnets.1.conv_shortcut", "output_blocks.5.0.skip_connection", [64, 128, 1, 1]],
  ["conv_out", "out.2", [12, 64, 3, 3]],
];
const TEXT = ["text_model.encoder.layers.0.mlp.fc1", [512, 128]] as const;
const RANK = 2;

interface Naming {
  readonly unet: (own: string, stability: string) => string;
  readonly text: (own: string) => string;
  readonly ends: readonly [down: string, up: string];
}

const PEFT = ["lora_A.weight", "lora_B.weight"] as const;
const KOHYA = ["lora_down.weight", "lora_up.weight"] as const;
const OLD = ["lora.down.weight", "lora.up.weight"] as const;
const flat = (name: string) => name.replaceAll(".", "_");
const usual: Naming = { unet: (own) => `unet.${own}`, text: (own) => `text_encoder.${own}`, ends: PEFT };

const NAMINGS: Readonly<Record<string, Naming>> = {
  kohya: { unet: (own) => `lora_unet_${flat(own)}`, text: (own) => `lora_te_${flat(own)}`, ends: KOHYA },
  "kohya, Stability's blocks": {
    unet: (_, stability) => `lora_unet_${flat(stability)}`,
    text: (own) => `lora_te1_${flat(own)}`,
    ends: KOHYA,
  },
  "unet. and Stability's blocks": { unet: (_, stability) => `unet.${stability}`, text: usual.text, ends: KOHYA },
  "diffusion_model.": {
    unet: (_, stability) => `diffusion_model.${stability}`,
    text: (own) => `text_encoders.clip_l.transformer.${own}`,
    ends: PEFT,
  },
  "diffusion_model. and kohya's ends": { unet: (_, s) => `diffusion_model.${s}`, text: usual.text, ends: KOHYA },
  "model.diffusion_model.": { unet: (_, s) => `model.diffusion_model.${s}`, text: usual.text, ends: OLD },
  "diffusion_model. and diffusers' blocks": { unet: (own) => `diffusion_model.${own}`, text: usual.text, ends: KOHYA },
  LyCORIS: { unet: (own) => `lycoris_${flat(own)}`, text: (own) => `lycoris_${flat(own)}`, ends: KOHYA },
  "LyCORIS, Stability's blocks": {
    unet: (_, s) => `lycoris_${flat(s)}`,
    text: (own) => `lycoris_${flat(own)}`,
    ends: KOHYA,
  },
};

/** The same LoRA in some naming. */
function tensorsOf({ unet, text, ends }: Naming): TensorToWrite[] {
  const modules = [
    ...UNET.map(([own, stability, shape]) => [unet(own, stability), shape] as const),
    [text(TEXT[0]), TEXT[1]] as const,
  ];
  return modules.flatMap(([name, shape], index) => {
    const [out, into, ...kernel] = shape as [number, number, ...number[]];
    const isConvolution = kernel.length > 0;
    return [
      tensor(`${name}.${ends[0]}`, [RANK, into, ...kernel], 2 * index),
      tensor(`${name}.${ends[1]}`, isConvolution ? [out, RANK, 1, 1] : [out, RANK], 2 * index + 1),
    ];
  });
}

function tensor(name: string, shape: readonly number[], seed: number, dtype: "F32" | "I64" = "F32"): TensorToWrite {
  const count = shape.reduce((product, size) => product * size, 1);
  const data = dtype === "F32" ? normals(count, seed, 0.1) : new BigInt64Array(count);
  return { name, dtype, shape, data: new Uint8Array(data.buffer) };
}

/** Files that the model has no place for, by the things in them. */
const FOREIGN: Readonly<Record<string, TensorToWrite[]>> = {
  "a bundled embedding": [tensor("bundle_emb.ema yasuhara.clip_l", [2, 128], 1)],
  "a text projection": [
    tensor("lora_te_text_projection.lora_down.weight", [2, 128], 1),
    tensor("lora_te_text_projection.lora_up.weight", [128, 2], 2),
  ],
  "a second text encoder": Array.from({ length: 30 }, (_, layer) => [
    tensor(`lora_te2_text_model_encoder_layers_${layer}_mlp_fc1.lora_down.weight`, [2, 128], 1),
    tensor(`lora_te2_text_model_encoder_layers_${layer}_mlp_fc1.lora_up.weight`, [512, 2], 2),
  ]).flat(),
  "what training left": [
    tensor("optimizer.state.0.exp_avg", [4], 1),
    tensor("ss_steps", [], 1, "I64"),
    tensor("unet.conv_in.lora_A.weight_ema", [2, 2], 1),
    tensor("model_ema.num_updates", [], 1, "I64"),
  ],
};

/** Names of files, relative to the folder. */
const NAMES = [
  "add_detail (v1)",
  "墨心",
  "style+lora",
  "[Hyper] 8step",
  "_private",
  "d\u00e9tail",
  "re\u0301sume\u0301",
  "sub/inner folder/100% # ? & =",
  "plain name 1.5",
  "\u202eturned",
];

let folder: string;
let runtime: Runtime;
let server: Listening;
let expected: Uint8Array;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "daguerre-lora-names-"));
  await write("usual", tensorsOf(usual));
  for (const name of NAMES) await copy("usual.safetensors", `${name}.safetensors`);
  await copy("usual.safetensors", "upper.SAFETENSORS");
  runtime = await createRuntime({ loraFolder: folder });
  server = await listen(appOfRuntime(runtime), 0, "127.0.0.1");
  expected = (await draw("usual")).pictures[0]!.rgba;
});
afterAll(async () => {
  await server?.close();
  await runtime?.close();
  await rm(folder, { recursive: true, force: true });
});

async function write(name: string, tensors: TensorToWrite[]): Promise<string> {
  const file = join(folder, `${name}.safetensors`);
  await mkdir(dirname(file), { recursive: true });
  await writeSafetensors(file, tensors);
  return file;
}

async function copy(from: string, to: string): Promise<void> {
  await mkdir(dirname(join(folder, to)), { recursive: true });
  await cp(join(folder, from), join(folder, to));
}

async function draw(name?: string): Promise<ResultEvent> {
  const loras = name === undefined ? [] : [{ name, scale: 1 }];
  for await (const event of runtime.textToImage({ ...REQUEST, loras })) if (event.type === "result") return event;
  throw new Error("no result");
}

describe("the same file in another naming", () => {
  it("changes the picture at all", async () => {
    expect((await draw()).pictures[0]!.rgba).not.toEqual(expected);
  });

  it.each(Object.keys(NAMINGS))("%s", async (naming) => {
    await write("other/naming", tensorsOf(NAMINGS[naming]!));
    const { pictures, warnings } = await draw("other/naming");
    expect(warnings).toBeUndefined();
    expect(pictures[0]!.rgba).toEqual(expected);
  });
});

describe("the same file with something that the model has no place for", () => {
  it.each(Object.keys(FOREIGN))("%s: a warning", async (what) => {
    await write("foreign", [...tensorsOf(usual), ...FOREIGN[what]!]);
    for (let again = 0; again < 2; again++) {
      const { pictures, warnings } = await draw("foreign");
      expect(pictures[0]!.rgba).toEqual(expected);
      expect(warnings).toHaveLength(1);
      expect(warnings![0]).toMatch(
        /^The LoRA "foreign.safetensors" changes .* that this model does not have, which were left out: "/,
      );
      expect(warnings![0]!.length).toBeLessThan(600);
    }
  });

  it("and nothing else is refused", async () => {
    await write("stray", FOREIGN["a text projection"]!);
    await expect(draw("stray")).rejects.toMatchObject({ field: "loras.0", status: 422 });
  });
});

describe("how strongly a file counts", () => {
  const drawn = async (lora: object) => {
    const loras = [{ name: "usual", ...lora }];
    for await (const event of runtime.textToImage({ ...REQUEST, loras })) {
      if (event.type === "result") return event.pictures[0]!.rgba;
    }
    throw new Error("no result");
  };
  const ALL = { unet: 1, text_encoder: 1 };
  const zeros = (length: number) => Array(length).fill(0);

  it("scales of components stand for the scale of all", async () => {
    expect(await drawn({ scale: 0.3, ...ALL })).toEqual(expected);
    const plain = (await draw()).pictures[0]!.rgba;
    expect(await drawn({ unet: 0, text_encoder: 0 })).toEqual(plain);
    expect(await drawn({ unet: 0 })).not.toEqual(plain);
    expect(await drawn({ unet: 0 })).not.toEqual(expected);
  });

  it("scales of blocks multiply that of the UNet", async () => {
    expect(await drawn({ blocks: { down: 1, mid: 1 } })).toEqual(expected);
    const withoutUp = await drawn({ blocks: { up: 0 } });
    expect(withoutUp).not.toEqual(expected);
    expect(await drawn({ blocks: { up: { block_0: 0, block_1: [0, 0], block_2: 0 } } })).toEqual(withoutUp);
    // conv_in, conv_out and the time embedding are in no block; this model's have one layer each.
    expect(await drawn({ blocks: [1, ...zeros(25)], unet: 0.5 })).not.toEqual(await drawn({ unet: 0 }));
  });

  it.each([
    [{ blocks: [1, 2, 3] }, /loras\.0\.blocks/],
    [{ blocks: { middle: 1 } }, /loras\.0\.blocks/],
    [{ blocks: { up: { first: 1 } } }, /loras\.0\.blocks/],
    [{ unet: 11 }, /loras\.0\.unet/],
  ])("%j is refused", async (lora, field) => {
    const body = JSON.stringify({ ...REQUEST, loras: [{ name: "usual", ...lora }] });
    const headers = { "content-type": "application/json" };
    const answer = await fetch(server.url, { method: "POST", body, headers });
    expect(answer.status).toBe(422);
    const { detail } = (await answer.json()) as { detail: { loc: unknown[] }[] };
    expect(detail[0]!.loc.join(".")).toMatch(field);
  });
});

describe("a LoRA of few steps", () => {
  const { num_inference_steps: _, guidance_scale: __, ...open } = REQUEST;
  const result = async (fields: object) => {
    for await (const event of runtime.textToImage({ ...open, ...fields })) if (event.type === "result") return event;
    throw new Error("no result");
  };

  it("has what it needs where the request leaves it open, and the result says so", async () => {
    await copy("usual.safetensors", "sdxl_lightning_2step_lora.safetensors");
    const loras = [{ name: "sdxl_lightning_2step_lora", scale: 0.5 }];
    const { pictures, warnings } = await result({ loras });
    expect(warnings).toEqual([
      expect.stringMatching(
        /is a Lightning LoRA; .*: EulerDiscreteScheduler, trailing timesteps, 2 steps, no guidance\.$/,
      ),
    ]);
    const said = { scheduler: "euler", timestep_spacing: "trailing", num_inference_steps: 2, guidance_scale: 0 };
    const same = await result({ loras: [{ name: "usual", scale: 0.5 }], ...said });
    expect(same.warnings).toBeUndefined();
    expect(pictures[0]!.rgba).toEqual(same.pictures[0]!.rgba);
    expect((await result({ loras, ...said })).warnings).toBeUndefined();
  });
});

describe("a file of any name can be asked for", () => {
  const png = async () => {
    const picture = { width: 64, height: 64, rgba: expected };
    return Buffer.from((await encodePicture(picture, { format: "png" })).bytes).toString("base64");
  };
  const body = (name: string) => ({ ...REQUEST, output_format: "png", loras: [{ name }] });
  const all = [...NAMES, "upper", "upper.SAFETENSORS", "de\u0301tail", "r\u00e9sum\u00e9", "usual.safetensors"];

  it.each(all)("over HTTP: %j", async (name) => {
    const answer = await fetch(server.url, {
      method: "POST",
      body: JSON.stringify(body(name)),
      headers: { "content-type": "application/json" },
    });
    const { image } = (await answer.json()) as { image: { url: string } };
    expect(image.url).toBe(`data:image/png;base64,${await png()}`);
  });

  it("over a WebSocket, and by the queue of fal, which says path", async () => {
    const socket = new WebSocket(`${server.url.replace("http", "ws")}/realtime`);
    await new Promise((resolve) => socket.once("open", resolve));
    try {
      for (const name of all) {
        socket.send(encode({ ...body(name), loras: [{ path: name, scale: 1 }], request_id: `r${all.indexOf(name)}` }));
        const picture = await new Promise<Uint8Array>((resolve, reject) => {
          socket.on("message", (data: Buffer, binary) => {
            if (!binary) return;
            // biome-ignore lint/suspicious/noExplicitAny: a message of the wire
            const event = decode(data) as any;
            if (event.type === "result") resolve(event.images[0].content);
            if (event.status === "error" || event.type === "error") reject(new Error(JSON.stringify(event)));
          });
        });
        socket.removeAllListeners("message");
        expect(Buffer.from(picture).toString("base64"), name).toBe(await png());
      }
    } finally {
      socket.terminate();
    }
  });

  it("by the path of --lora, in either normalization of Unicode", async () => {
    const out = join(folder, "out.png");
    const root = dirname(import.meta.dirname);
    const args = ["generate", "a lake", "--size", "64x64", "--steps", "1", "--guidance", "1", "--seed", "1", "-o", out];
    const lora = join(folder, "r\u00e9sum\u00e9.safetensors:1");
    const child = spawn(process.execPath, [
      "--import",
      join(root, "tooling/run.mjs"),
      join(root, "cli/main.ts"),
      ...args,
      "--lora",
      lora,
    ]);
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text) => {
      said += text;
    });
    const code = await new Promise((resolve) => child.once("close", resolve));
    expect({ code, said: code === 0 ? "" : said }).toEqual({ code: 0, said: "" });
    expect((await readFile(out)).toString("base64")).toBe(await png());
  });

  it("GET /loras lists them, in ASCII, and the error the nearest of them", async () => {
    const answer = await fetch(`${server.url}/loras`);
    const text = await answer.text();
    expect(text).toMatch(/^[\x20-\x7e]*$/);
    const { loras } = JSON.parse(text) as { loras: { name: string }[] };
    const names = loras.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining([...NAMES, "upper"]));
    expect(names).toEqual([...names].sort());
    const wrong = await fetch(server.url, {
      method: "POST",
      body: JSON.stringify(body("hyper 8step")),
      headers: { "content-type": "application/json" },
    });
    expect(wrong.status).toBe(422);
    const { detail } = (await wrong.json()) as { detail: { loc: unknown[]; msg: string }[] };
    expect(detail[0]!.loc.join(".")).toBe("body.loras.0.name");
    expect(detail[0]!.msg).toMatch(
      /^"hyper 8step" is not a LoRA of this server; it offers "\[Hyper\] 8step", .* more$/,
    );
  });
});
