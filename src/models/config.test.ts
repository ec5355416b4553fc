import { describe, expect, it } from "vitest";
import { UnetStep } from "../families/unet-step.ts";
import { parseClipTextConfig } from "./clip.ts";
import { ModelConfigError } from "./config.ts";
import { parseUnetConfig } from "./unet-config.ts";

const unet = {
  in_channels: 4,
  out_channels: 4,
  block_out_channels: [32, 64],
  down_block_types: ["CrossAttnDownBlock2D", "DownBlock2D"],
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"],
  cross_attention_dim: 32,
  attention_head_dim: 8,
};

function fieldOf(parse: () => unknown): string {
  try {
    parse();
  } catch (error) {
    expect(error).toBeInstanceOf(ModelConfigError);
    return (error as ModelConfigError).field;
  }
  throw new Error("was accepted");
}

describe("unet/config.json", () => {
  it("is taken with diffusers' defaults", () => {
    expect(parseUnetConfig(unet)).toMatchObject({ layers_per_block: 2, norm_num_groups: 32, norm_eps: 1e-5 });
  });

  it.each([
    ["a block that we do not have", { down_block_types: ["AttnDownBlock2D", "DownBlock2D"] }, "down_block_types.0"],
    ["too few blocks", { up_block_types: ["UpBlock2D"] }, "up_block_types"],
    ["heads that do not divide the channels", { attention_head_dim: 7 }, "attention_head_dim"],
    ["heads for other levels", { attention_head_dim: [8, 8, 8] }, "attention_head_dim"],
    ["more layers than can be", { layers_per_block: 1e9 }, "layers_per_block"],
    ["an option that would be another network", { class_embed_type: "timestep" }, "class_embed_type"],
    ["size conditions without their width", { addition_embed_type: "text_time" }, "addition_time_embed_dim"],
    ["a number as text", { in_channels: "4" }, "in_channels"],
    ["depths for other levels", { transformer_layers_per_block: [0, 2, 4] }, "transformer_layers_per_block"],
    [
      "depths within a level without those of the way up",
      { transformer_layers_per_block: [[1, 2], 1] },
      "reverse_transformer_layers_per_block",
    ],
    [
      "depths for other layers",
      { transformer_layers_per_block: [[1, 2, 3], 1], reverse_transformer_layers_per_block: [1, 1] },
      "transformer_layers_per_block",
    ],
    [
      "depths beyond all",
      {
        transformer_layers_per_block: [[256, 256], 256],
        layers_per_block: 2,
        reverse_transformer_layers_per_block: [
          [256, 256, 256],
          [256, 256, 256],
        ],
      },
      "transformer_layers_per_block",
    ],
  ])("refuses %s", (_, change, field) => {
    expect(fieldOf(() => parseUnetConfig({ ...unet, ...change }))).toBe(field);
  });

  it.each<[object, string]>([
    [
      { mid_block_type: "UNetMidBlock2DSimpleCrossAttn" },
      'unet/config.json: mid_block_type: is "UNetMidBlock2DSimpleCrossAttn", which is not supported; supported: UNetMidBlock2DCrossAttn, UNetMidBlock2D',
    ],
    [{ encoder_hid_dim: 768 }, "unet/config.json: encoder_hid_dim: is 768, which is not supported; leave it out"],
    [{ act_fn: "gelu" }, 'unet/config.json: act_fn: is "gelu", which is not supported; supported: silu'],
    [{ in_channels: "4" }, 'unet/config.json: in_channels: is "4", where a number is expected'],
    [
      { cross_attention_dim: undefined },
      "unet/config.json: cross_attention_dim: is missing, where a number is expected",
    ],
    [
      { transformer_layers_per_block: [-1, 2] },
      "unet/config.json: transformer_layers_per_block.0: is -1, and 0 is the least that is supported",
    ],
    [{ layers_per_block: 0 }, "unet/config.json: layers_per_block: is 0, and must be above 0"],
    [{ norm_eps: 7 }, "unet/config.json: norm_eps: is 7, and 1 is the most that is supported"],
  ])("says of %j in plain words: %s", (change, message) => {
    expect(() => parseUnetConfig({ ...unet, ...change })).toThrow(message);
  });

  describe("of a distilled UNet", () => {
    const base = { ...unet, layers_per_block: 1 };
    /** Names of the parameters of a UNet. */
    const names = (change: object) => {
      const step = new UnetStep(parseUnetConfig({ ...base, ...change }), 7);
      return step.parameters().flatMap(({ parts }) => parts.map(({ name }) => name));
    };
    const whole = names({});

    it("without a middle block has all but its tensors, and takes their places in the projections of timesteps", () => {
      expect(names({ mid_block_type: null })).toEqual(whole.filter((name) => !name.startsWith("mid_block.")));
      const isLeft = (name: string) => !/^mid_block\.(attentions|resnets\.1)\./.test(name);
      expect(names({ mid_block_type: "UNetMidBlock2D" })).toEqual(whole.filter(isLeft));
    });

    it("with depths by level and attention has as many transformer layers in each", () => {
      const depths = { transformer_layers_per_block: [[2], 3], reverse_transformer_layers_per_block: [5, [0, 4]] };
      const counts = new Map<string, Set<string>>();
      for (const name of names(depths)) {
        const [, place, layer] = /^(.*attentions\.\d)\.(?:transformer_blocks\.(\d+))?/.exec(name) ?? [];
        if (place === undefined) continue;
        counts.set(place, (counts.get(place) ?? new Set()).add(layer ?? ""));
      }
      // One more, of `norm`, `proj_in` and `proj_out`.
      expect(Object.fromEntries([...counts].map(([place, layers]) => [place, layers.size - 1]))).toEqual({
        "down_blocks.0.attentions.0": 2,
        "mid_block.attentions.0": 3,
        "up_blocks.1.attentions.0": 0,
        "up_blocks.1.attentions.1": 4,
      });
    });

    it("with depths written per attention is the same as with one number", () => {
      const apart = {
        transformer_layers_per_block: [[1], [1]],
        reverse_transformer_layers_per_block: [
          [1, 1],
          [1, 1],
        ],
      };
      expect(names(apart)).toEqual(whole);
    });
  });
});

describe("text_encoder/config.json", () => {
  const clip = {
    vocab_size: 600,
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 2,
    num_attention_heads: 4,
  };

  it("knows a projection by its class", () => {
    expect(parseClipTextConfig("text_encoder", clip).withProjection).toBe(false);
    const architectures = ["CLIPTextModelWithProjection"];
    expect(parseClipTextConfig("text_encoder_2", { ...clip, architectures }).withProjection).toBe(true);
  });

  it.each([
    ["heads that do not divide the channels", { num_attention_heads: 5 }, "num_attention_heads"],
    ["an activation that we do not have", { hidden_act: "swish" }, "hidden_act"],
    ["no vocabulary", { vocab_size: undefined }, "vocab_size"],
  ])("refuses %s", (_, change, field) => {
    expect(fieldOf(() => parseClipTextConfig("text_encoder", { ...clip, ...change }))).toBe(field);
  });
});
