import { describe, expect, it } from "vitest";
import { parseClipTextConfig } from "./clip.ts";
import { ModelConfigError } from "./config.ts";
import { parseUnetConfig } from "./unet.ts";

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
  ])("refuses %s", (_, change, field) => {
    expect(fieldOf(() => parseUnetConfig({ ...unet, ...change }))).toBe(field);
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
