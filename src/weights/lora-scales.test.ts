import { describe, expect, it } from "vitest";
import { BLOCK_LIST_LENGTHS, type BlockScales, scaleOf } from "./lora-scales.ts";

const TEXT = "text_model.encoder.layers.0.mlp.fc1";
const LAYERS = 2;

describe("scaleOf", () => {
  it("gives each component its own scale, or the scale of all", () => {
    const scales = { scale: 0.8, unet: 0.5, text_encoder_2: 0 };
    expect(scaleOf(scales, "unet", "conv_in", LAYERS)).toBe(0.5);
    expect(scaleOf(scales, "text_encoder", TEXT, LAYERS)).toBe(0.8);
    expect(scaleOf(scales, "text_encoder_2", TEXT, LAYERS)).toBe(0);
  });

  const named: BlockScales = { down: { block_0: 0.25, block_1: [0.5, 0] }, mid: 2, up: 0.75 };
  it.each([
    ["down_blocks.0.resnets.1.conv1", 0.25],
    ["down_blocks.0.downsamplers.0.conv", 0.25],
    ["down_blocks.1.attentions.0.proj_in", 0.5],
    ["down_blocks.1.resnets.1.conv1", 0],
    ["down_blocks.1.downsamplers.0.conv", 1],
    ["down_blocks.2.attentions.0.proj_in", 1],
    ["mid_block.attentions.0.proj_in", 2],
    ["up_blocks.10.attentions.2.proj_in", 0.75],
    ["conv_in", 1],
    ["time_embedding.linear_1", 1],
  ])("diffusers' blocks multiply the UNet's: %s by %d", (module, factor) => {
    expect(scaleOf({ scale: 1, unet: 0.5, blocks: named }, "unet", module, LAYERS)).toBe(0.5 * factor);
    expect(scaleOf({ scale: 1, blocks: named }, "text_encoder", TEXT, LAYERS)).toBe(1);
  });

  it("lists are of the web UI's lengths", () => expect(BLOCK_LIST_LENGTHS).toEqual([12, 17, 20, 26]));

  // SDXL: BASE, IN04, IN05, IN07, IN08, M00, OUT00 to OUT05. SD 1.x: BASE, IN01, IN02, IN04, IN05, IN07, IN08, M00, OUT03 to 11.
  it.each<[number, string, number]>([
    [12, "down_blocks.1.attentions.0.proj_in", 1],
    [12, "down_blocks.2.attentions.1.proj_in", 4],
    [12, "mid_block.attentions.0.proj_in", 5],
    [12, "up_blocks.0.attentions.0.proj_in", 6],
    [12, "up_blocks.1.attentions.2.proj_in", 11],
    [17, "down_blocks.0.attentions.0.proj_in", 1],
    [17, "down_blocks.2.attentions.1.proj_in", 6],
    [17, "mid_block.resnets.0.conv1", 7],
    [17, "up_blocks.1.attentions.0.proj_in", 8],
    [17, "up_blocks.3.attentions.2.proj_in", 16],
    [20, "conv_in", 1],
    [20, "down_blocks.0.downsamplers.0.conv", 4],
    [20, "up_blocks.2.resnets.2.conv1", 19],
    [26, "down_blocks.3.resnets.1.conv1", 12],
    [26, "up_blocks.0.upsamplers.0.conv", 16],
  ])("a list of %d numbers has the number of %s at place %d", (length, module, place) => {
    const blocks = Array.from({ length }, (_, at) => at + 1);
    expect(scaleOf({ scale: 1, blocks }, "unet", module, LAYERS)).toBe(place + 1);
    expect(scaleOf({ scale: 0.5, blocks }, "text_encoder", TEXT, LAYERS)).toBe(0.5);
    expect(scaleOf({ scale: 1, blocks }, "unet", "time_embedding.linear_1", LAYERS)).toBe(1);
  });

  it("BASE is the text encoders'", () => {
    const blocks = [0.25, ...Array(11).fill(1)];
    expect(scaleOf({ scale: 1, blocks }, "text_encoder_2", TEXT, LAYERS)).toBe(0.25);
  });
});
