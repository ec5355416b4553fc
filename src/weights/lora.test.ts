import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fixturePath, readFixtureJson, readFixtureTensors } from "../../test/fixtures/read-fixture.ts";
import { zeroTensors } from "../../test/fixtures/safetensors-bytes.ts";
import { type TensorToWrite, writeSafetensors } from "../../test/fixtures/safetensors-writer.ts";
import { toFloat32 } from "./element-types.ts";
import { WeightsError } from "./errors.ts";
import { type LoraComponent, type LoraFile, type ModuleShapes, openLora } from "./lora.ts";
import type { LoraDelta, MatrixDelta, ProductFactor } from "./lora-changes.ts";
import type { TensorEntry } from "./tensor-set.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "daguerre-lora-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function modulesOf(fixture: string, component: LoraComponent): ModuleShapes {
  const shapes = readFixtureJson<Record<string, Record<string, number[]>>>(`${fixture}/modules.json`)[component]!;
  return shaped(shapes);
}

/** Modules by the shapes of their weights; all have biases. */
function shaped(weights: Readonly<Record<string, readonly number[]>>): ModuleShapes {
  return new Map(Object.entries(weights).map(([module, weight]) => [module, { weight, hasBias: true }]));
}

/** The one product that a plain LoRA is. */
function product(delta: LoraDelta | undefined): ProductFactor {
  const { factors } = delta as MatrixDelta;
  expect(factors).toHaveLength(1);
  expect(factors[0].kind).toBe("product");
  return factors[0] as ProductFactor;
}

async function using<T>(path: string, use: (lora: LoraFile) => T | Promise<T>): Promise<T> {
  const lora = await openLora(path);
  try {
    return await use(lora);
  } finally {
    await lora.close();
  }
}

describe("the reference's files", () => {
  // As written by the reference's own conversion (shared conformance, set A), against the modules of its models.
  it.each<[string, string, LoraComponent, number]>([
    ["lora-sd15", "lora_peft", "unet", 128],
    ["lora-sd15", "lora_attn_procs_fp16", "unet", 128],
    ["lora-sd15", "lora_kohya", "unet", 192],
    ["lora-sd15", "lora_kohya_locon_fp16", "unet", 111],
    ["lora-sd15", "lora_kohya_te", "text_encoder", 18],
    ["lora-sdxl", "lora_kohya_sgm", "unet", 194],
  ])("%s/%s changes modules of the %s: %d", async (fixture, name, component, count) => {
    const modules = modulesOf(fixture, component);
    await using(fixturePath(`${fixture}/${name}.safetensors`), (lora) => {
      expect([...lora.components]).toEqual([component]);
      expect(lora.leftOut({ [component]: modules })).toEqual([]);
      const deltas = lora.resolve(component, modules);
      expect(new Set(deltas.map((delta) => delta.module)).size).toBe(count);
      expect(deltas).toHaveLength(count);
      for (const delta of deltas) {
        const { down, up, rank, taps } = product(delta);
        const [out, into, kh = 1, kw = 1] = modules.get(delta.module)!.weight;
        expect(taps).toBe(kh * kw);
        expect(down.byteLength / up.byteLength).toBe((into! * kh * kw) / out!);
        expect(down.shape[0]).toBe(rank);
      }
    });
  });

  it("agree with each other: PEFT and attention processors hold the same LoRA", async () => {
    const modules = modulesOf("lora-sd15", "unet");
    const values = async (name: string) =>
      using(fixturePath(`lora-sd15/${name}.safetensors`), async (lora) => {
        const found = new Map<string, Float32Array[]>();
        for (const delta of lora.resolve("unet", modules)) {
          const { down, up } = product(delta);
          expect(delta.scale).toBe(1);
          const read = async (entry: TensorEntry) => {
            const bytes = new Uint8Array(entry.byteLength);
            await entry.read(bytes);
            return toFloat32(bytes, entry.dtype as "F32" | "F16");
          };
          found.set(delta.module, [await read(down), await read(up)]);
        }
        return found;
      });
    const peft = await values("lora_peft");
    const processors = await values("lora_attn_procs_fp16");
    expect([...processors.keys()].sort()).toEqual([...peft.keys()].sort());
    for (const [module, pair] of peft)
      pair.forEach((whole, part) => {
        const halved = processors.get(module)![part]!;
        const worst = whole.reduce((most, value, i) => Math.max(most, Math.abs(value - halved[i]!)), 0);
        // Rounded to half: 11 significant bits.
        expect(worst).toBeLessThan(Math.max(...whole.map(Math.abs)) * 2 ** -11);
      });
  });

  it("are scaled by their own alpha over their own rank", async () => {
    const tensors = readFixtureTensors("lora-sd15/lora_kohya.safetensors");
    const scales = new Set<number>();
    await using(fixturePath("lora-sd15/lora_kohya.safetensors"), (lora) => {
      for (const delta of lora.resolve("unet", modulesOf("lora-sd15", "unet"))) {
        const { module, scale } = delta;
        const { rank } = product(delta);
        const alpha = tensors.get(`lora_unet_${module.replaceAll(".", "_")}.alpha`)!.values[0]!;
        expect(scale).toBe(alpha / rank);
        scales.add(scale);
      }
    });
    expect(scales.size).toBeGreaterThan(1);
  });

  it("are refused by a model of another kind", async () => {
    await using(fixturePath("lora-sdxl/lora_kohya_sgm.safetensors"), (lora) => {
      const modules = modulesOf("lora-sd15", "unet");
      const error = thrown(() => {
        lora.leftOut({ unet: modules });
        lora.resolve("unet", modules);
      });
      expect(error.message).toMatch(/^lora_kohya_sgm.safetensors: /);
      expect(["lora-module", "weights-shape"]).toContain(error.code);
    });
  });
});

type Tensors = Parameters<typeof zeroTensors>[0];

const MODULES = shaped({
  "down_blocks.0.resnets.0.conv1": [16, 8, 3, 3],
  "down_blocks.0.attentions.0.proj_in": [16, 16, 1, 1],
  "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": [16, 12],
  "down_blocks.0.attentions.0.norm": [16],
});
const TO_Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";

async function made(tensors: Tensors): Promise<string> {
  const path = join(folder, "style.safetensors");
  await writeFile(path, zeroTensors(tensors));
  return path;
}

function thrown(act: () => unknown): WeightsError {
  try {
    act();
  } catch (error) {
    if (error instanceof WeightsError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("a file", () => {
  it("may have convolutions, with and without a kernel in the middle", async () => {
    const conv = "lora_unet_down_blocks_0_resnets_0_conv1";
    const locon = await made({
      [`${conv}.lora_down.weight`]: ["F16", [4, 8, 3, 3]],
      [`${conv}.lora_up.weight`]: ["F16", [16, 4, 1, 1]],
    });
    await using(locon, (lora) => {
      const [delta] = lora.resolve("unet", MODULES);
      expect(delta).toMatchObject({ module: "down_blocks.0.resnets.0.conv1", scale: 1 });
      expect(product(delta)).toMatchObject({ rank: 4, taps: 9 });
      expect(product(delta).core).toBeUndefined();
    });
    const cp = await made({
      [`${conv}.lora_down.weight`]: ["F16", [4, 8, 1, 1]],
      [`${conv}.lora_mid.weight`]: ["F16", [4, 4, 3, 3]],
      [`${conv}.lora_up.weight`]: ["F16", [16, 4, 1, 1]],
    });
    await using(cp, (lora) => {
      expect(product(lora.resolve("unet", MODULES)[0]).core!.shape).toEqual([4, 4, 3, 3]);
    });
  });

  it("may write a 1×1 kernel out or leave it away", async () => {
    const proj = "unet.down_blocks.0.attentions.0.proj_in";
    await using(
      await made({
        [`${proj}.lora_A.weight`]: ["F32", [2, 16]],
        [`${proj}.lora_B.weight`]: ["F32", [16, 2]],
        [`unet.${TO_Q}.lora_A.weight`]: ["F32", [2, 12, 1, 1]],
        [`unet.${TO_Q}.lora_B.weight`]: ["F32", [16, 2, 1, 1]],
      }),
      (lora) => expect(lora.resolve("unet", MODULES)).toHaveLength(2),
    );
  });

  it("may be for several components, of which one is asked for", async () => {
    const te = "text_model.encoder.layers.0.mlp.fc1";
    const shapes = shaped({ [te]: [6, 5] });
    const tensors: Tensors = {
      [`lora_unet_${TO_Q.replaceAll(".", "_")}.lora_down.weight`]: ["F32", [2, 12]],
      [`lora_unet_${TO_Q.replaceAll(".", "_")}.lora_up.weight`]: ["F32", [16, 2]],
      [`lora_te1_${te.replaceAll(".", "_")}.lora_down.weight`]: ["F32", [2, 5]],
      [`lora_te1_${te.replaceAll(".", "_")}.lora_up.weight`]: ["F32", [6, 2]],
      [`lora_te2_${te.replaceAll(".", "_")}.lora_down.weight`]: ["F32", [3, 5]],
      [`lora_te2_${te.replaceAll(".", "_")}.lora_up.weight`]: ["F32", [6, 3]],
    };
    await using(await made(tensors), (lora) => {
      expect([...lora.components].sort()).toEqual(["text_encoder", "text_encoder_2", "unet"]);
      expect(lora.resolve("unet", MODULES).map((delta) => delta.module)).toEqual([TO_Q]);
      expect(lora.resolve("text_encoder", shapes).map((delta) => product(delta).rank)).toEqual([2]);
      expect(lora.resolve("text_encoder_2", shapes).map((delta) => product(delta).rank)).toEqual([3]);
      // A model without a second text encoder takes the rest.
      expect(lora.leftOut({ unet: MODULES, text_encoder: shapes })).toEqual([
        "lora_te2_text_model_encoder_layers_0_mlp_fc1",
      ]);
    });
  });

  it("may have a module under both of its names, in any order; diffusers' counts", async () => {
    const sgm: Tensors = {
      "lora_unet_input_blocks_1_1_proj_in.lora_down.weight": ["F32", [2, 16]],
      "lora_unet_input_blocks_1_1_proj_in.lora_up.weight": ["F32", [16, 2]],
    };
    const own: Tensors = {
      "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": ["F32", [3, 16]],
      "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight": ["F32", [16, 3]],
    };
    for (const tensors of [
      { ...sgm, ...own },
      { ...own, ...sgm },
    ])
      await using(await made(tensors), (lora) => {
        expect(lora.resolve("unet", MODULES).map((delta) => product(delta).rank)).toEqual([3]);
      });
  });

  it.each<[string, Uint8Array]>([
    ["F32", new Uint8Array(Float32Array.of(6).buffer)],
    ["F16", new Uint8Array(Uint16Array.of(0x4600).buffer)],
    ["BF16", new Uint8Array(Uint16Array.of(0x40c0).buffer)],
    ["F64", new Uint8Array(Float64Array.of(6).buffer)],
    ["I64", new Uint8Array(BigInt64Array.of(6n).buffer)],
    ["I32", new Uint8Array(Int32Array.of(6).buffer)],
  ])("may have its alpha as %s", async (dtype, data) => {
    const path = join(folder, "alpha.safetensors");
    await writeSafetensors(path, [...pair(), { name: `unet.${TO_Q}.alpha`, dtype: dtype as "F32", shape: [], data }]);
    await using(path, (lora) => expect(lora.resolve("unet", MODULES)[0]!.scale).toBe(1.5));
  });

  it.each<[string, object, number]>([
    ["alpha", { "unet.r": 4, "unet.lora_alpha": 8 }, 2],
    ["alpha without prefix", { r: 4, lora_alpha: 8 }, 2],
    ["an alpha of the module's own", { "unet.lora_alpha": 8, "unet.alpha_pattern": { "attn1.to_q": 2 } }, 0.5],
    ["an alpha of another module", { "unet.lora_alpha": 8, "unet.alpha_pattern": { to_k: 2, q: 3 } }, 2],
    ["rank-stabilised scaling", { "unet.lora_alpha": 8, "unet.use_rslora": true }, 4],
    ["settings of another component", { "text_encoder.lora_alpha": 8 }, 1],
  ])("may have %s in its metadata", async (_, settings, scale) => {
    const path = join(folder, "config.safetensors");
    await writeSafetensors(path, pair(), { metadata: { lora_adapter_metadata: JSON.stringify(settings) } });
    await using(path, (lora) => expect(lora.resolve("unet", MODULES)[0]!.scale).toBe(scale));
  });

  it("with an alpha tensor follows that, not the metadata", async () => {
    const path = join(folder, "both.safetensors");
    const alpha: TensorToWrite = { name: `unet.${TO_Q}.alpha`, dtype: "F32", shape: [1], data: new Uint8Array(4) };
    const metadata = { lora_adapter_metadata: JSON.stringify({ "unet.lora_alpha": 8 }) };
    await writeSafetensors(path, [...pair(), alpha], { metadata });
    await using(path, (lora) => expect(lora.resolve("unet", MODULES)[0]!.scale).toBe(0));
  });

  it("takes the first exception that a module's name ends in", async () => {
    const path = join(folder, "patterns.safetensors");
    const pattern = { elsewhere: 1, to_q: 8, [TO_Q]: 16 };
    const settings = { "unet.lora_alpha": 4, "unet.alpha_pattern": pattern };
    await writeSafetensors(path, pair(), { metadata: { lora_adapter_metadata: JSON.stringify(settings) } });
    await using(path, (lora) => expect(lora.resolve("unet", MODULES)[0]!.scale).toBe(2));
  });

  it.each([[1e308], [Number.POSITIVE_INFINITY], [Number.NaN], [-3e7]])(
    "with an alpha of %d is refused",
    async (value) => {
      const path = join(folder, "alpha.safetensors");
      const data = new Uint8Array(new Float64Array([value]).buffer);
      const alpha: TensorToWrite = { name: `unet.${TO_Q}.alpha`, dtype: "F64", shape: [1], data };
      await writeSafetensors(path, [...pair(), alpha]);
      await expect(openLora(path)).rejects.toMatchObject({ code: "lora-format", tensor: `unet.${TO_Q}.alpha` });
    },
  );

  it("with settings of megabytes is refused", async () => {
    const path = join(folder, "long-config.safetensors");
    await writeSafetensors(path, pair(), { metadata: { lora_adapter_metadata: " ".repeat(2 ** 21) } });
    await expect(openLora(path)).rejects.toThrow(/lora_adapter_metadata is 2097152 characters long/);
  });

  it("of a rank that none has is refused", async () => {
    const path = join(folder, "rank.safetensors");
    const rank = 10_000;
    await writeSafetensors(path, [
      { name: `unet.${TO_Q}.lora_A.weight`, dtype: "F32", shape: [rank, 12], data: new Uint8Array(rank * 48) },
      { name: `unet.${TO_Q}.lora_B.weight`, dtype: "F32", shape: [16, rank], data: new Uint8Array(rank * 64) },
    ]);
    await using(path, (lora) => expect(() => lora.resolve("unet", MODULES)).toThrow(/has rank 10000, more than/));
  });

  it("of more tensors than any model takes is refused", async () => {
    const path = join(folder, "many.safetensors");
    const many = Array.from({ length: 25_000 }, (_, i) => [`lora_unet_${i}.alpha`, ["F32", [0]]] as const);
    await writeFile(path, zeroTensors(Object.fromEntries(many) as never));
    await expect(openLora(path)).rejects.toThrow(/holds 25000 tensors, more than the 20000 allowed/);
  });

  it.each([
    ["not JSON"],
    ['{"unet.lora_alpha":"8"}'],
    ['{"unet.lora_alpha":1e308}'],
    ['{"unet.lora_alpha":8,"unet.alpha_pattern":{"to_q":1e999}}'],
    ['{"unet.lora_alpha":8,"unet.alpha_pattern":{".*q":1}}'],
  ])("with metadata %s is refused", async (text) => {
    const path = join(folder, "bad-config.safetensors");
    await writeSafetensors(path, pair(), { metadata: { lora_adapter_metadata: text } });
    await expect(openLora(path)).rejects.toMatchObject({ code: "lora-format", file: "bad-config.safetensors" });
  });

  function pair(): TensorToWrite[] {
    return [
      { name: `unet.${TO_Q}.lora_A.weight`, dtype: "F32", shape: [4, 12], data: new Uint8Array(192) },
      { name: `unet.${TO_Q}.lora_B.weight`, dtype: "F32", shape: [16, 4], data: new Uint8Array(256) },
    ];
  }
});

describe("a file is refused on opening", () => {
  const conv = "lora_unet_conv_in";
  const down: Tensors = { [`${conv}.lora_down.weight`]: ["F32", [1, 1]] };
  it.each<[string, Tensors, string, string | undefined, RegExp]>([
    ["for OFT", { [`${conv}.oft_blocks`]: ["F32", [1]] }, "lora-format", `${conv}.oft_blocks`, /OFT.*not supported/],
    [
      "for a magnitude alone",
      { [`${conv}.dora_scale`]: ["F32", [1]] },
      "lora-format",
      undefined,
      /holds no LoRA tensors/,
    ],
    [
      "for a model's weights",
      { "conv_in.weight": ["F32", [1]] },
      "lora-format",
      undefined,
      /no LoRA.*: it is a denoiser/,
    ],
    ["for a number alone", { [`${conv}.alpha`]: ["F32", [1]] }, "lora-format", undefined, /holds no LoRA tensors/],
    ["for an embedding", { emb_params: ["F32", [2, 8]] }, "lora-format", undefined, /is a textual-inversion embedding/],
    [
      "for diffusers' embedding",
      { "<cat-toy>": ["F32", [8]] },
      "lora-format",
      undefined,
      /is a textual-inversion embed/,
    ],
    [
      "for SDXL's embedding",
      { clip_l: ["F16", [2, 8]], clip_g: ["F16", [2, 12]] },
      "lora-format",
      undefined,
      /is a textual-inversion embedding, not a LoRA/,
    ],
    ["for nothing", {}, "lora-format", undefined, /holds no LoRA tensors/],
    [
      "for a part that is there twice",
      { "unet.conv_in.lora_A.weight": ["F32", [1, 1]], "unet.conv_in.lora.down.weight": ["F32", [1, 1]] },
      "lora-format",
      "unet.conv_in.lora.down.weight",
      /same part of the same module as "unet.conv_in.lora_A.weight"/,
    ],
    [
      "for an alpha of two",
      { ...down, [`${conv}.alpha`]: ["F32", [2]] },
      "weights-shape",
      `${conv}.alpha`,
      /single number/,
    ],
    ["for an alpha of bytes", { ...down, [`${conv}.alpha`]: ["U8", [1]] }, "weights-dtype", `${conv}.alpha`, /U8/],
  ])("%s", async (_, tensors, code, tensor, reason) => {
    const error: unknown = await openLora(await made(tensors)).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(WeightsError);
    expect(error).toMatchObject({ code, tensor, file: "style.safetensors" });
    expect((error as Error).message).toMatch(reason);
  });

  it("for an alpha that is not finite", async () => {
    const path = join(folder, "nan.safetensors");
    const data = new Uint8Array(Float32Array.of(NaN).buffer);
    await writeSafetensors(path, [
      { name: `${conv}.lora_down.weight`, dtype: "F32", shape: [1, 1], data },
      { name: `${conv}.alpha`, dtype: "F32", shape: [], data },
    ]);
    await expect(openLora(path)).rejects.toThrow(/"lora_unet_conv_in.alpha": is NaN/);
  });
});

describe("a file is refused for a model", () => {
  const q = `unet.${TO_Q}`;
  const up: Tensors = { [`${q}.lora_B.weight`]: ["F32", [16, 2]] };
  const conv = "unet.down_blocks.0.resnets.0.conv1";
  it.each<[string, Tensors, string, string | undefined, string]>([
    ["without a down matrix", up, "lora-format", undefined, `"${q}" has no down matrix`],
    [
      "without an up matrix",
      { [`${q}.lora_A.weight`]: ["F32", [2, 12]] },
      "lora-format",
      undefined,
      `"${q}" has no up matrix`,
    ],
    [
      "of another width",
      { ...up, [`${q}.lora_A.weight`]: ["F32", [2, 13]] },
      "weights-shape",
      `${q}.lora_A.weight`,
      `is [2, 13], where [2, 12] is expected for ${TO_Q} [16, 12]`,
    ],
    [
      "of two ranks",
      { ...up, [`${q}.lora_A.weight`]: ["F32", [3, 12]] },
      "weights-shape",
      `${q}.lora_B.weight`,
      `is [16, 2], where [16, 3] is expected`,
    ],
    [
      "of rank 0",
      { [`${q}.lora_A.weight`]: ["F32", [0, 12]], [`${q}.lora_B.weight`]: ["F32", [16, 0]] },
      "weights-shape",
      `${q}.lora_A.weight`,
      "has no rank",
    ],
    [
      "of whole numbers",
      { ...up, [`${q}.lora_A.weight`]: ["I32", [2, 12]] },
      "weights-dtype",
      `${q}.lora_A.weight`,
      "is I32, where F32, F16, BF16 or FP8 is expected",
    ],
    [
      "of another kernel",
      { [`${conv}.lora_A.weight`]: ["F32", [2, 8, 1, 1]], [`${conv}.lora_B.weight`]: ["F32", [16, 2, 1, 1]] },
      "weights-shape",
      `${conv}.lora_A.weight`,
      "is [2, 8, 1, 1], where [2, 8, 3, 3] is expected for down_blocks.0.resnets.0.conv1 [16, 8, 3, 3]",
    ],
    [
      "of whole numbers",
      { ...up, [`${q}.lora_A.weight`]: ["I32", [2, 12]] },
      "weights-dtype",
      `${q}.lora_A.weight`,
      "is I32, where F32, F16, BF16 or FP8 is expected",
    ],
    [
      "of a norm",
      {
        "unet.down_blocks.0.attentions.0.norm.lora_A.weight": ["F32", [2, 1]],
        "unet.down_blocks.0.attentions.0.norm.lora_B.weight": ["F32", [16, 2]],
      },
      "weights-shape",
      "unet.down_blocks.0.attentions.0.norm.lora_A.weight",
      "is no matrix or convolution",
    ],
  ])("%s", async (_, tensors, code, tensor, reason) => {
    await using(await made(tensors), (lora) => {
      const error = thrown(() => lora.resolve("unet", MODULES));
      expect(error).toMatchObject({ code, tensor, file: "style.safetensors" });
      expect(error.message).toContain(reason);
    });
  });
});

describe("an adapter of another kind", () => {
  const q = `lora_unet_${TO_Q.replaceAll(".", "_")}`;
  const conv = "lora_unet_down_blocks_0_resnets_0_conv1";
  const norm = "lora_unet_down_blocks_0_attentions_0_norm";
  const loha = (on: string, width: number): Tensors => ({
    [`${on}.hada_w1_a`]: ["F16", [16, 3]],
    [`${on}.hada_w1_b`]: ["F16", [3, width]],
    [`${on}.hada_w2_a`]: ["F16", [16, 2]],
    [`${on}.hada_w2_b`]: ["F16", [2, width]],
  });
  const lora: Tensors = { [`${q}.lora_down.weight`]: ["F32", [2, 12]], [`${q}.lora_up.weight`]: ["F32", [16, 2]] };

  it.each<[string, Tensors, object]>([
    ["LoHa", loha(q, 12), { kind: "matrix", scale: 1, factors: [{ rank: 3 }, { rank: 2 }] }],
    ["LoHa of a convolution", loha(conv, 72), { factors: [{ rank: 3, taps: 9 }, { taps: 9 }] }],
    [
      "LoHa in Tucker's form",
      {
        [`${conv}.hada_t1`]: ["F16", [3, 3, 3, 3]],
        [`${conv}.hada_t2`]: ["F16", [2, 2, 3, 3]],
        [`${conv}.hada_w1_a`]: ["F16", [3, 16]],
        [`${conv}.hada_w1_b`]: ["F16", [3, 8]],
        [`${conv}.hada_w2_a`]: ["F16", [2, 16]],
        [`${conv}.hada_w2_b`]: ["F16", [2, 8]],
      },
      {
        factors: [
          { rank: 3, isUpTransposed: true },
          { rank: 2, isUpTransposed: true },
        ],
      },
    ],
    [
      "LoKr of two whole factors, whose alpha means nothing",
      { [`${q}.lokr_w1`]: ["F32", [4, 3]], [`${q}.lokr_w2`]: ["F32", [4, 4]], [`${q}.alpha`]: ["F32", []] },
      {
        scale: 1,
        factors: [
          { kind: "whole", rows: 4, columns: 3 },
          { kind: "whole", rows: 4, columns: 4 },
        ],
      },
    ],
    [
      "LoKr of two products",
      {
        [`${q}.lokr_w1_a`]: ["F32", [2, 5]],
        [`${q}.lokr_w1_b`]: ["F32", [5, 6]],
        [`${q}.lokr_w2_a`]: ["F32", [8, 3]],
        [`${q}.lokr_w2_b`]: ["F32", [3, 2]],
        [`${q}.alpha`]: ["F32", []],
      },
      { scale: 0, factors: [{ rank: 5, rows: 2, columns: 6 }, { rank: 3 }] },
    ],
    [
      "LoKr with a kernel in the middle",
      {
        [`${conv}.lokr_w1`]: ["F32", [4, 4]],
        [`${conv}.lokr_t2`]: ["F32", [3, 3, 3, 3]],
        [`${conv}.lokr_w2_a`]: ["F32", [3, 4]],
        [`${conv}.lokr_w2_b`]: ["F32", [3, 2]],
      },
      { factors: [{ kind: "whole" }, { kind: "product", rows: 4, columns: 2, taps: 9, isUpTransposed: true }] },
    ],
    ["DoRA of outputs", { ...lora, [`${q}.dora_scale`]: ["F32", [16, 1]] }, { magnitude: { axis: "outputs" } }],
    ["DoRA of inputs", { ...lora, [`${q}.dora_scale`]: ["F32", [1, 12]] }, { magnitude: { axis: "inputs" } }],
    [
      "PEFT's DoRA",
      {
        [`unet.${TO_Q}.lora_A.weight`]: ["F32", [2, 12]],
        [`unet.${TO_Q}.lora_B.weight`]: ["F32", [16, 2]],
        [`unet.${TO_Q}.lora_magnitude_vector.default.weight`]: ["F32", [16]],
      },
      { magnitude: { axis: "outputs", rule: "peft" } },
    ],
    ["a whole difference", { [`${conv}.diff`]: ["BF16", [16, 8, 3, 3]] }, { factors: [{ kind: "whole", taps: 9 }] }],
    ["a difference of a bias", { [`${conv}.diff_b`]: ["F32", [16]] }, { kind: "vector", of: "bias" }],
    ["a difference of a norm", { [`${norm}.w_norm`]: ["F32", [16]] }, { kind: "vector", of: "weight" }],
    ["a norm's bias", { [`${norm}.b_norm`]: ["F32", [16]] }, { kind: "vector", of: "bias" }],
    ["IA³ of outputs", { [`${q}.weight`]: ["F32", [16]], [`${q}.on_input`]: ["BOOL", []] }, { axis: "outputs" }],
  ])("%s", async (_, tensors, expected) => {
    await using(await made(tensors), (file) => {
      const deltas = file.resolve("unet", MODULES);
      expect(file.leftOut({ unet: MODULES })).toEqual([]);
      expect(deltas).toHaveLength(1);
      expect(deltas[0]).toMatchObject(expected);
    });
  });

  it("may have a bias beside its matrices, as strong as they are", async () => {
    const file = await made({ ...lora, [`${q}.lora_up.bias`]: ["F32", [16]] });
    await using(file, (opened) =>
      expect(opened.resolve("unet", MODULES).map(({ kind, scale }) => [kind, scale])).toEqual([
        ["matrix", 1],
        ["vector", 1],
      ]),
    );
  });

  it("without on_input is no IA³, and a weight of another model is left out", async () => {
    const file = await made({ ...lora, [`${conv}.weight`]: ["F32", [16]] });
    await using(file, (opened) => expect(opened.leftOut({ unet: MODULES })).toEqual([conv]));
  });

  it.each<[string, Tensors, string, string | undefined, RegExp]>([
    [
      "LoHa without a matrix",
      { [`${q}.hada_w1_a`]: ["F32", [16, 3]], [`${q}.hada_w1_b`]: ["F32", [3, 12]] },
      "lora-format",
      undefined,
      /has no hada_w2_a/,
    ],
    [
      "LoHa of another width",
      { ...loha(q, 12), [`${q}.hada_w2_b`]: ["F32", [2, 13]] },
      "weights-shape",
      `${q}.hada_w2_b`,
      /is \[2, 13\], where \[2, 12\] is expected for .*to_q \[16, 12\]/,
    ],
    [
      "LoHa with one core",
      { ...loha(conv, 8), [`${conv}.hada_t1`]: ["F32", [3, 3, 3, 3]] },
      "lora-format",
      undefined,
      /has no hada_t2/,
    ],
    [
      "LoKr that does not divide the weight",
      { [`${q}.lokr_w1`]: ["F32", [5, 3]], [`${q}.lokr_w2`]: ["F32", [4, 4]] },
      "weights-shape",
      `${q}.lokr_w1`,
      /does not divide .*to_q \[16, 12\]/,
    ],
    [
      "LoKr whose factors are less than the weight",
      { [`${q}.lokr_w1`]: ["F32", [4, 3]], [`${q}.lokr_w2`]: ["F32", [4, 3]] },
      "weights-shape",
      `${q}.lokr_w2`,
      /is \[4, 3\], where \[4, 4\] is expected/,
    ],
    [
      "DoRA of neither side",
      { ...lora, [`${q}.dora_scale`]: ["F32", [1, 13]] },
      "weights-shape",
      `${q}.dora_scale`,
      /a magnitude of each of 16 outputs or 12 inputs is expected/,
    ],
    [
      "a difference of another shape",
      { [`${q}.diff`]: ["F32", [12, 16]] },
      "weights-shape",
      `${q}.diff`,
      /is \[12, 16\], where \[16, 12\] is expected/,
    ],
    [
      "a norm's difference of another length",
      { [`${norm}.w_norm`]: ["F32", [15]] },
      "weights-shape",
      `${norm}.w_norm`,
      /is \[15\], where \[16\] is expected for the weight of/,
    ],
    ["two kinds at once", { ...lora, ...loha(q, 12) }, "lora-format", undefined, /is both LoRA and LoHa/],
    ["whole numbers", { [`${q}.diff`]: ["I32", [16, 12]] }, "weights-dtype", `${q}.diff`, /is I32/],
  ])("is refused: %s", async (_, tensors, code, tensor, reason) => {
    await using(await made(tensors), (file) => {
      const error = thrown(() => file.resolve("unet", MODULES));
      expect(error).toMatchObject({ code, tensor, file: "style.safetensors" });
      expect(error.message).toMatch(reason);
    });
  });
});

describe("a file with something that the model has no place for", () => {
  const good: Tensors = {
    [`unet.${TO_Q}.lora_A.weight`]: ["F32", [2, 12]],
    [`unet.${TO_Q}.lora_B.weight`]: ["F32", [16, 2]],
  };
  const pair = (module: string): Tensors => {
    return { [`${module}.lora_down.weight`]: ["F32", [2, 5]], [`${module}.lora_up.weight`]: ["F32", [6, 2]] };
  };

  it.each<[string, Tensors, string[]]>([
    ["an embedding", { "bundle_emb.ema yasuhara.clip_l": ["F32", [2, 8]] }, ["bundle_emb.ema yasuhara.clip_l"]],
    ["a text projection", pair("lora_te_text_projection"), ["lora_te_text_projection"]],
    [
      "a second text encoder",
      pair("lora_te2_text_model_encoder_layers_0_mlp_fc1"),
      ["lora_te2_text_model_encoder_layers_0_mlp_fc1"],
    ],
    [
      "what an optimizer left",
      { "optimizer.state.0.exp_avg": ["F32", [3]], step: ["I64", []] },
      ["optimizer.state.0.exp_avg", "step"],
    ],
    ["what a trainer wrote", { ss_network_dim: ["U8", [4]] }, ["ss_network_dim"]],
    [
      "averages",
      { ...pair("ema.unet.conv_in"), "model_ema.decay": ["F32", []] },
      ["ema.unet.conv_in", "model_ema.decay"],
    ],
    ["a number alone", { "unet.conv_in.alpha": ["F32", [7]] }, ["unet.conv_in"]],
    [
      "a module of another model",
      pair("lora_unet_double_blocks_0_img_attn_qkv"),
      ["lora_unet_double_blocks_0_img_attn_qkv"],
    ],
  ])("is applied without %s", async (_, foreign, names) => {
    await using(await made({ ...good, ...foreign }), (lora) => {
      expect(lora.leftOut({ unet: MODULES })).toEqual(names);
      expect(lora.resolve("unet", MODULES).map(({ module }) => module)).toEqual([TO_Q]);
    });
  });

  it.each<[string, Tensors]>([
    ["nothing else", pair("lora_unet_conv_out")],
    [
      "only words of another model",
      {
        ...pair("lora_te1_text_model_encoder_layers_0_mlp_fc1"),
        ...pair("lora_unet_double_blocks_0_img_attn_qkv"),
        ...pair("lora_unet_double_blocks_1_img_attn_qkv"),
      },
    ],
  ])("is refused if it has %s", async (_, tensors) => {
    await using(await made(tensors), (lora) => {
      const shapes = shaped({ "text_model.encoder.layers.0.mlp.fc1": [6, 5] });
      const error = thrown(() => lora.leftOut({ unet: MODULES, text_encoder: shapes }));
      expect(error.code).toBe("lora-module");
      expect(error.message).toMatch(/that this model does not have \(is it for another kind of model\?\): "lora_unet_/);
    });
  });
});
