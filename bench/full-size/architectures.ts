/**
 * The published architectures: the fields of each `config.json` that shape the network, as the model's own repository has
 * them, and the number of parameters that is known of each component. If code here or in src/models were not that
 * architecture, the counts would not agree.
 *
 * Counts: runwayml/stable-diffusion-v1-5 and stabilityai/sd-turbo, stabilityai/stable-diffusion-xl-base-1.0 as loaded by
 * diffusers (`sum(p.numel() for p in model.parameters())`).
 */

export interface ComponentSpec {
  readonly library: "diffusers" | "transformers";
  readonly className: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly parameters: number;
}

export interface Architecture {
  readonly name: string;
  readonly pipelineClass: string;
  readonly components: Readonly<Record<string, ComponentSpec>>;
  readonly scheduler: { readonly className: string; readonly config: Readonly<Record<string, unknown>> };
  /** Which state of the text encoders the denoiser reads. */
  readonly hidden: "last" | "last-but-one";
  /** 2: made for classifier-free guidance, both halves in one batch. */
  readonly branches: 1 | 2;
  /** Sides of the pictures to measure, in pixels. */
  readonly sides: readonly number[];
}

const CLIP = {
  vocab_size: 49408,
  max_position_embeddings: 77,
  layer_norm_eps: 1e-5,
  bos_token_id: 0,
  eos_token_id: 2,
} as const;

/** CLIP ViT-L/14's text tower (openai/clip-vit-large-patch14). */
const clipL: ComponentSpec = {
  library: "transformers",
  className: "CLIPTextModel",
  config: {
    architectures: ["CLIPTextModel"],
    ...CLIP,
    hidden_size: 768,
    intermediate_size: 3072,
    num_attention_heads: 12,
    num_hidden_layers: 12,
    hidden_act: "quick_gelu",
    projection_dim: 768,
  },
  parameters: 123_060_480,
};

/** OpenCLIP ViT-H/14's text tower without its last layer, as Stable Diffusion 2 uses it. */
const clipH: ComponentSpec = {
  library: "transformers",
  className: "CLIPTextModel",
  config: {
    architectures: ["CLIPTextModel"],
    ...CLIP,
    hidden_size: 1024,
    intermediate_size: 4096,
    num_attention_heads: 16,
    num_hidden_layers: 23,
    hidden_act: "gelu",
    projection_dim: 512,
  },
  parameters: 340_387_840,
};

/** OpenCLIP ViT-bigG/14's text tower. */
const clipG: ComponentSpec = {
  library: "transformers",
  className: "CLIPTextModelWithProjection",
  config: {
    architectures: ["CLIPTextModelWithProjection"],
    ...CLIP,
    hidden_size: 1280,
    intermediate_size: 5120,
    num_attention_heads: 20,
    num_hidden_layers: 32,
    hidden_act: "gelu",
    projection_dim: 1280,
  },
  parameters: 694_659_840,
};

/** The same network in all of them; the latents' scale differs. */
function vae(scalingFactor: number, sampleSize: number): ComponentSpec {
  return {
    library: "diffusers",
    className: "AutoencoderKL",
    config: {
      _class_name: "AutoencoderKL",
      act_fn: "silu",
      block_out_channels: [128, 256, 512, 512],
      down_block_types: Array(4).fill("DownEncoderBlock2D"),
      up_block_types: Array(4).fill("UpDecoderBlock2D"),
      in_channels: 3,
      out_channels: 3,
      latent_channels: 4,
      layers_per_block: 2,
      norm_num_groups: 32,
      sample_size: sampleSize,
      scaling_factor: scalingFactor,
      force_upcast: true,
    },
    parameters: 83_653_863,
  };
}

const UNET = {
  _class_name: "UNet2DConditionModel",
  act_fn: "silu",
  center_input_sample: false,
  downsample_padding: 1,
  flip_sin_to_cos: true,
  freq_shift: 0,
  in_channels: 4,
  out_channels: 4,
  layers_per_block: 2,
  mid_block_scale_factor: 1,
  norm_eps: 1e-5,
  norm_num_groups: 32,
} as const;

const SD_BLOCKS = {
  block_out_channels: [320, 640, 1280, 1280],
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
} as const;

const BETAS = {
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
} as const;

/** TAESD's channels and blocks (madebyollin/taesd), as the built-in model's decoder has them too, but for fewer. */
const TAESD_BLOCKS = {
  encoder_block_out_channels: [64, 64, 64, 64],
  decoder_block_out_channels: [64, 64, 64, 64],
  num_encoder_blocks: [1, 3, 3, 3],
  num_decoder_blocks: [3, 3, 3, 1],
} as const;

export const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  taesd: {
    name: "TAESD, the decoder alone",
    pipelineClass: "StableDiffusionPipeline",
    components: {
      vae: {
        library: "diffusers",
        className: "AutoencoderTiny",
        config: { _class_name: "AutoencoderTiny", act_fn: "relu", latent_channels: 4, ...TAESD_BLOCKS },
        parameters: 2_445_063,
      },
    },
    scheduler: { className: "PNDMScheduler", config: { _class_name: "PNDMScheduler", ...BETAS } },
    hidden: "last",
    branches: 1,
    sides: [512, 2048],
  },
  sd15: {
    name: "Stable Diffusion 1.5",
    pipelineClass: "StableDiffusionPipeline",
    components: {
      text_encoder: clipL,
      unet: {
        library: "diffusers",
        className: "UNet2DConditionModel",
        config: { ...UNET, ...SD_BLOCKS, attention_head_dim: 8, cross_attention_dim: 768, sample_size: 64 },
        parameters: 859_520_964,
      },
      vae: vae(0.18215, 512),
    },
    scheduler: {
      className: "PNDMScheduler",
      config: {
        _class_name: "PNDMScheduler",
        ...BETAS,
        set_alpha_to_one: false,
        skip_prk_steps: true,
        steps_offset: 1,
      },
    },
    hidden: "last",
    branches: 2,
    sides: [512],
  },
  "sd-turbo": {
    name: "SD-Turbo",
    pipelineClass: "StableDiffusionPipeline",
    components: {
      text_encoder: clipH,
      unet: {
        library: "diffusers",
        className: "UNet2DConditionModel",
        config: {
          ...UNET,
          ...SD_BLOCKS,
          attention_head_dim: [5, 10, 20, 20],
          cross_attention_dim: 1024,
          use_linear_projection: true,
          sample_size: 64,
        },
        parameters: 865_910_724,
      },
      vae: vae(0.18215, 768),
    },
    scheduler: {
      className: "EulerDiscreteScheduler",
      config: {
        _class_name: "EulerDiscreteScheduler",
        ...BETAS,
        prediction_type: "epsilon",
        timestep_spacing: "trailing",
      },
    },
    hidden: "last",
    branches: 1,
    sides: [512],
  },
  sdxl: {
    name: "SDXL base 1.0",
    pipelineClass: "StableDiffusionXLPipeline",
    components: {
      text_encoder: clipL,
      text_encoder_2: clipG,
      unet: {
        library: "diffusers",
        className: "UNet2DConditionModel",
        config: {
          ...UNET,
          block_out_channels: [320, 640, 1280],
          down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
          up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
          attention_head_dim: [5, 10, 20],
          transformer_layers_per_block: [1, 2, 10],
          cross_attention_dim: 2048,
          use_linear_projection: true,
          addition_embed_type: "text_time",
          addition_time_embed_dim: 256,
          projection_class_embeddings_input_dim: 2816,
          sample_size: 128,
        },
        parameters: 2_567_463_684,
      },
      vae: vae(0.13025, 1024),
    },
    scheduler: {
      className: "EulerDiscreteScheduler",
      config: {
        _class_name: "EulerDiscreteScheduler",
        ...BETAS,
        prediction_type: "epsilon",
        timestep_spacing: "leading",
        steps_offset: 1,
      },
    },
    hidden: "last-but-one",
    branches: 2,
    sides: [512, 1024],
  },
};
