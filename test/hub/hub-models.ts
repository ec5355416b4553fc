/** Repositories as they are on a hub, with weights of zeros. */
import { zeroTensors } from "../fixtures/safetensors-bytes.ts";
import type { Files } from "./loopback-hub.ts";

const TENSORS = zeroTensors({ weight: ["F16", [1000]] });

/** Weights that differ from all others, so that their checksums do. */
export function weights(mark: string, bytes = 3000): Uint8Array {
  return Buffer.concat([TENSORS, Buffer.from(mark), Buffer.alloc(bytes, mark)]);
}

/** A folder as SD-Turbo's and SD 1.5's are: all variants, all formats, and things that no picture needs. */
export const EVERYTHING: Files = {
  "README.md": "# A model",
  "model_index.json": JSON.stringify({
    _class_name: "StableDiffusionPipeline",
    unet: ["diffusers", "UNet2DConditionModel"],
    vae: ["diffusers", "AutoencoderKL"],
    text_encoder: ["transformers", "CLIPTextModel"],
    tokenizer: ["transformers", "CLIPTokenizer"],
    scheduler: ["diffusers", "PNDMScheduler"],
    safety_checker: ["stable_diffusion", "StableDiffusionSafetyChecker"],
    feature_extractor: ["transformers", "CLIPImageProcessor"],
    requires_safety_checker: true,
  }),
  "sd-pruned.safetensors": weights("one file"),
  "sd-pruned.ckpt": weights("a pickle of all"),
  "unet/config.json": '{"_class_name": "UNet2DConditionModel"}',
  "unet/diffusion_pytorch_model.safetensors": weights("unet"),
  "unet/diffusion_pytorch_model.fp16.safetensors": weights("unet fp16"),
  "unet/diffusion_pytorch_model.non_ema.safetensors": weights("unet non-ema"),
  "unet/diffusion_pytorch_model.bin": weights("unet pickle"),
  "unet/model.onnx": weights("unet onnx"),
  "vae/config.json": '{"_class_name": "AutoencoderKL"}',
  "vae/diffusion_pytorch_model.safetensors": weights("vae"),
  "vae/diffusion_pytorch_model.fp16.bin": weights("vae pickle"),
  "text_encoder/config.json": '{"architectures": ["CLIPTextModel"]}',
  "text_encoder/model.safetensors": weights("text"),
  "text_encoder/model.fp16.safetensors": weights("text fp16"),
  "text_encoder/pytorch_model.bin": weights("text pickle"),
  "text_encoder/flax_model.msgpack": weights("text flax"),
  "tokenizer/vocab.json": "{}",
  "tokenizer/merges.txt": "#version: 0.2",
  "tokenizer/tokenizer_config.json": "{}",
  "scheduler/scheduler_config.json": "{}",
  "safety_checker/config.json": "{}",
  "safety_checker/model.safetensors": weights("safety"),
  "feature_extractor/preprocessor_config.json": "{}",
};
