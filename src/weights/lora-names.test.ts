import { describe, expect, it } from "vitest";
import { readFixtureJson } from "../../test/fixtures/read-fixture.ts";
import { kohyaNames, type LoraComponent, type LoraPart, parseLoraKey } from "./lora-names.ts";

describe("parseLoraKey", () => {
  const attention = "down_blocks.0.attentions.0.transformer_blocks.0.attn1";
  const layer = "text_model.encoder.layers.3.self_attn";
  it.each<[string, LoraComponent, string, LoraPart]>([
    // PEFT, as diffusers saves it
    [`unet.${attention}.to_q.lora_A.weight`, "unet", `${attention}.to_q`, "down"],
    [`unet.${attention}.to_out.0.lora_B.weight`, "unet", `${attention}.to_out.0`, "up"],
    [`text_encoder.${layer}.q_proj.lora_A.weight`, "text_encoder", `${layer}.q_proj`, "down"],
    [
      "text_encoder_2.text_model.encoder.layers.31.mlp.fc1.lora_B.weight",
      "text_encoder_2",
      "text_model.encoder.layers.31.mlp.fc1",
      "up",
    ],
    [`unet.${attention}.to_q.alpha`, "unet", `${attention}.to_q`, "alpha"],
    // PEFT, as it saves a model by itself, with and without the adapter's name
    [`base_model.model.${attention}.to_q.lora_A.weight`, "unet", `${attention}.to_q`, "down"],
    [`unet.base_model.model.${attention}.to_q.lora_B.default.weight`, "unet", `${attention}.to_q`, "up"],
    [`base_model.model.${layer}.k_proj.lora_A.weight`, "text_encoder", `${layer}.k_proj`, "down"],
    ["text_projection.lora_A.weight", "text_encoder", "text_projection", "down"],
    // diffusers before PEFT
    ["unet.down_blocks.0.attentions.0.proj_in.lora.down.weight", "unet", "down_blocks.0.attentions.0.proj_in", "down"],
    [
      "text_encoder.text_model.encoder.layers.0.mlp.fc2.lora_linear_layer.up.weight",
      "text_encoder",
      "text_model.encoder.layers.0.mlp.fc2",
      "up",
    ],
    [`text_encoder.${layer}.to_out_lora.down.weight`, "text_encoder", `${layer}.out_proj`, "down"],
    [`text_encoder.${layer}.to_v_lora.up.weight`, "text_encoder", `${layer}.v_proj`, "up"],
    // attention processors
    [`unet.${attention}.processor.to_q_lora.down.weight`, "unet", `${attention}.to_q`, "down"],
    [`unet.${attention}.processor.to_out_lora.up.weight`, "unet", `${attention}.to_out.0`, "up"],
    [`${attention}.processor.to_out_lora.up.weight`, "unet", `${attention}.to_out.0`, "up"],
    [`unet.${attention}.processor.to_out_lora.alpha`, "unet", `${attention}.to_out.0`, "alpha"],
    // after Stability's own names of the components
    ["diffusion_model.input_blocks.1.1.proj_in.lora_down.weight", "unet", "input_blocks.1.1.proj_in", "down"],
    ["model.diffusion_model.out.2.lora_B.weight", "unet", "out.2", "up"],
    [`text_encoders.clip_l.transformer.${layer}.q_proj.lora_A.weight`, "text_encoder", `${layer}.q_proj`, "down"],
    // OneTrainer, by its own names and by those of the Open Model Initiative
    [`lora_unet.${attention}.to_q.lora_down.weight`, "unet", `${attention}.to_q`, "down"],
    [`lora_te2.${layer}.q_proj.dora_scale`, "text_encoder_2", `${layer}.q_proj`, "dora_scale"],
    ["unet.input_blocks.4.1.proj_in.lora_up.weight", "unet", "input_blocks.4.1.proj_in", "up"],
    [`clip_l.${layer}.q_proj.lora_up.weight`, "text_encoder", `${layer}.q_proj`, "up"],
    [`clip_g.${layer}.q_proj.alpha`, "text_encoder_2", `${layer}.q_proj`, "alpha"],
    // other kinds of adapters
    [`unet.${attention}.to_q.lora_magnitude_vector`, "unet", `${attention}.to_q`, "magnitude"],
    [`unet.${attention}.to_q.lora_B.bias`, "unet", `${attention}.to_q`, "up_bias"],
    [`base_model.model.${attention}.to_q.hada_w1_a`, "unet", `${attention}.to_q`, "hada_w1_a"],
    [`diffusion_model.input_blocks.1.1.proj_in.lokr_w2_b`, "unet", "input_blocks.1.1.proj_in", "lokr_w2_b"],
  ])("%s", (tensor, component, module, part) => {
    expect(parseLoraKey(tensor)).toEqual({ component, underscored: false, module, part });
  });

  it.each<[string, LoraComponent, string, LoraPart]>([
    ["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", "unet", "mid_block_attentions_0_proj_in", "down"],
    ["lora_unet_input_blocks_4_1_proj_in.lora_up.weight", "unet", "input_blocks_4_1_proj_in", "up"],
    ["lora_unet_input_blocks_4_1_proj_in.alpha", "unet", "input_blocks_4_1_proj_in", "alpha"],
    ["lora_unet_conv_in.lora_mid.weight", "unet", "conv_in", "mid"],
    [
      "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
      "text_encoder",
      "text_model_encoder_layers_0_mlp_fc1",
      "down",
    ],
    [
      "lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha",
      "text_encoder",
      "text_model_encoder_layers_0_mlp_fc1",
      "alpha",
    ],
    ["lora_te2_text_projection.lora_up.weight", "text_encoder_2", "text_projection", "up"],
    ["lora_unet_conv_in.hada_t2", "unet", "conv_in", "hada_t2"],
    ["lycoris_conv_in.lokr_w1", "unet", "conv_in", "lokr_w1"],
    ["lora_unet_conv_norm_out.w_norm", "unet", "conv_norm_out", "w_norm"],
    ["lora_unet_conv_in.weight", "unet", "conv_in", "gain"],
    ["lycoris_mid_block_attentions_0_proj_in.lora_down.weight", "unet", "mid_block_attentions_0_proj_in", "down"],
    ["lycoris_unet_conv_in.alpha", "unet", "conv_in", "alpha"],
    [
      "lycoris_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
      "text_encoder",
      "text_model_encoder_layers_0_mlp_fc1",
      "up",
    ],
  ])("%s", (tensor, component, module, part) => {
    expect(parseLoraKey(tensor)).toEqual({ component, underscored: true, module, part });
  });

  it.each([
    "conv_in.weight",
    "unet.conv_in.lora_C.weight",
    "lora_down.weight",
    "alpha",
    "unet.conv_in.lora_A.bias",
    "",
  ])("%j is no LoRA tensor", (tensor) => {
    expect(parseLoraKey(tensor)).toBeUndefined();
  });
});

describe("kohyaNames", () => {
  // The numbers of Stability's own configs: SDXL has two layers in each of three blocks, SD 1.x two in each of four.
  const sdxl = [
    "conv_in",
    "conv_out",
    "time_embedding.linear_1",
    "time_embedding.linear_2",
    "add_embedding.linear_1",
    "add_embedding.linear_2",
    "conv_norm_out",
    "down_blocks.0.resnets.0.conv1",
    "down_blocks.0.resnets.0.norm1",
    "down_blocks.0.resnets.1.conv2",
    "down_blocks.0.resnets.1.norm2",
    "down_blocks.1.attentions.0.norm",
    "down_blocks.0.downsamplers.0.conv",
    "down_blocks.1.attentions.0.proj_in",
    "down_blocks.1.resnets.0.conv_shortcut",
    "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_out.0",
    "down_blocks.2.resnets.1.time_emb_proj",
    "mid_block.resnets.0.conv1",
    "mid_block.attentions.0.proj_out",
    "mid_block.resnets.1.conv2",
    "up_blocks.0.attentions.0.proj_in",
    "up_blocks.0.attentions.2.transformer_blocks.0.ff.net.0.proj",
    "up_blocks.0.upsamplers.0.conv",
    "up_blocks.1.attentions.2.proj_out",
    "up_blocks.1.upsamplers.0.conv",
    "up_blocks.2.resnets.2.conv_shortcut",
  ];

  it.each([
    ["input_blocks_0_0", "conv_in"],
    ["out_2", "conv_out"],
    ["time_embed_0", "time_embedding.linear_1"],
    ["time_embed_2", "time_embedding.linear_2"],
    ["label_emb_0_0", "add_embedding.linear_1"],
    ["label_emb_0_2", "add_embedding.linear_2"],
    ["input_blocks_1_0_in_layers_2", "down_blocks.0.resnets.0.conv1"],
    ["input_blocks_1_0_in_layers_0", "down_blocks.0.resnets.0.norm1"],
    ["input_blocks_2_0_out_layers_0", "down_blocks.0.resnets.1.norm2"],
    ["input_blocks_4_1_norm", "down_blocks.1.attentions.0.norm"],
    ["out_0", "conv_norm_out"],
    ["input_blocks_2_0_out_layers_3", "down_blocks.0.resnets.1.conv2"],
    ["input_blocks_3_0_op", "down_blocks.0.downsamplers.0.conv"],
    ["input_blocks_4_1_proj_in", "down_blocks.1.attentions.0.proj_in"],
    ["input_blocks_4_0_skip_connection", "down_blocks.1.resnets.0.conv_shortcut"],
    [
      "input_blocks_8_1_transformer_blocks_9_attn2_to_out_0",
      "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_out.0",
    ],
    ["input_blocks_8_0_emb_layers_1", "down_blocks.2.resnets.1.time_emb_proj"],
    ["middle_block_0_in_layers_2", "mid_block.resnets.0.conv1"],
    ["middle_block_1_proj_out", "mid_block.attentions.0.proj_out"],
    ["middle_block_2_out_layers_3", "mid_block.resnets.1.conv2"],
    ["output_blocks_0_1_proj_in", "up_blocks.0.attentions.0.proj_in"],
    [
      "output_blocks_2_1_transformer_blocks_0_ff_net_0_proj",
      "up_blocks.0.attentions.2.transformer_blocks.0.ff.net.0.proj",
    ],
    ["output_blocks_2_2_conv", "up_blocks.0.upsamplers.0.conv"],
    ["output_blocks_5_1_proj_out", "up_blocks.1.attentions.2.proj_out"],
    ["output_blocks_5_2_conv", "up_blocks.1.upsamplers.0.conv"],
    ["output_blocks_8_0_skip_connection", "up_blocks.2.resnets.2.conv_shortcut"],
  ])("SGM's %s is %s", (name, module) => {
    expect(kohyaNames("unet", sdxl).get(name)).toEqual({ module, sgm: true });
  });

  it("gives the upsampler of a block without attention its place (SD 1.x)", () => {
    expect(kohyaNames("unet", ["up_blocks.0.upsamplers.0.conv"], 2).get("output_blocks_2_1_conv")?.module).toBe(
      "up_blocks.0.upsamplers.0.conv",
    );
  });

  it("takes the layers of a block as told, or counts them", () => {
    const modules = ["down_blocks.0.resnets.0.conv1", "down_blocks.1.attentions.0.proj_in"];
    expect(kohyaNames("unet", modules).get("input_blocks_3_1_proj_in")?.module).toBe(
      "down_blocks.1.attentions.0.proj_in",
    );
    expect(kohyaNames("unet", modules, 3).get("input_blocks_5_1_proj_in")?.module).toBe(
      "down_blocks.1.attentions.0.proj_in",
    );
  });

  it.each(["lora-sd15", "lora-sdxl"])("gives every module of %s a name of its own", (name) => {
    for (const [component, shapes] of Object.entries(
      readFixtureJson<Record<LoraComponent, object>>(`${name}/modules.json`),
    )) {
      const modules = Object.keys(shapes);
      const own = [...kohyaNames(component as LoraComponent, modules)].filter(([, { sgm }]) => !sgm);
      expect(own).toHaveLength(modules.length);
    }
  });
});
