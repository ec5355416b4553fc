"""Writes a training run as a model folder in diffusers layout, weights in f16.

    python3 export.py --run DIR --out ../
    python3 export.py --run DIR --unet DIR/stages/unet-0040min.pt --out /tmp/model     an earlier stage

The averaged weights are exported. Where an autoencoder half or the tokenizer was not trained in this run,
--base names the model folder that the run started from.
"""
import argparse
import json
import shutil
from pathlib import Path

import torch

from captions import known_words
from diffusion import BETA_END, BETA_START, TIMESTEPS
from latents import PATCH, LinearLatents
from networks import (CONTEXT_LENGTH, LATENT_CHANNELS, TEXT_WIDTH, UNET_CONFIG, Autoencoder, TextEncoder, UNet)
from tokenizer import END, START, Tokenizer
from train_autoencoder import load_half
from weights import load_safetensors, save_safetensors

DIFFUSERS_VERSION = "0.30.0"  # whose layout this is


def model_index():
    return {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": DIFFUSERS_VERSION,
        "feature_extractor": [None, None], "safety_checker": [None, None], "requires_safety_checker": False,
        "scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderTiny"],
    }


def unet_config(picture_size):
    attention = UNET_CONFIG["attention"]
    return {
        "_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": list(UNET_CONFIG["heads"]),
        "block_out_channels": list(UNET_CONFIG["channels"]), "center_input_sample": False,
        "cross_attention_dim": TEXT_WIDTH,
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)],
        "mid_block_type": "UNetMidBlock2DCrossAttn", "downsample_padding": 1, "flip_sin_to_cos": True,
        "freq_shift": 0, "in_channels": LATENT_CHANNELS, "out_channels": LATENT_CHANNELS, "layers_per_block": 1,
        "mid_block_scale_factor": 1, "norm_eps": 1e-5, "norm_num_groups": UNET_CONFIG["groups"],
        "sample_size": picture_size // PATCH, "use_linear_projection": False, "only_cross_attention": False,
        "dual_cross_attention": False, "upcast_attention": False,
    }


def vae_config(scaling_factor):
    return {
        "_class_name": "AutoencoderTiny", "act_fn": "relu", "in_channels": 3, "out_channels": 3,
        "latent_channels": LATENT_CHANNELS,
        "encoder_block_out_channels": [Autoencoder.CHANNELS] * len(Autoencoder.ENCODER_BLOCKS),
        "decoder_block_out_channels": [Autoencoder.CHANNELS] * len(Autoencoder.DECODER_BLOCKS),
        "num_encoder_blocks": list(Autoencoder.ENCODER_BLOCKS),
        "num_decoder_blocks": list(Autoencoder.DECODER_BLOCKS),
        "upsampling_scaling_factor": 2, "upsample_fn": "nearest", "latent_magnitude": 3, "latent_shift": 0.5,
        "force_upcast": False, "scaling_factor": scaling_factor, "shift_factor": 0.0,
    }


def text_config(vocabulary):
    return {
        "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "hidden_act": "quick_gelu",
        "hidden_size": TEXT_WIDTH, "intermediate_size": 4 * TEXT_WIDTH, "projection_dim": TEXT_WIDTH,
        "max_position_embeddings": CONTEXT_LENGTH, "num_attention_heads": 4, "num_hidden_layers": 3,
        "vocab_size": len(vocabulary), "layer_norm_eps": 1e-5, "bos_token_id": vocabulary[START],
        "eos_token_id": vocabulary[END], "pad_token_id": vocabulary[END], "torch_dtype": "float16",
    }


def scheduler_config():
    return {
        "_class_name": "DDIMScheduler", "num_train_timesteps": TIMESTEPS, "beta_start": BETA_START,
        "beta_end": BETA_END, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction",
        "clip_sample": False, "set_alpha_to_one": True, "steps_offset": 0, "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": False,
    }


def special_tokens():
    return {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}


def tokenizer_config():
    return {"tokenizer_class": "CLIPTokenizer", "model_max_length": CONTEXT_LENGTH, "do_lower_case": True,
            "add_prefix_space": False, "errors": "replace", **special_tokens()}


def trained_networks(path, vocabulary):
    """UNet and text encoder with averaged weights, from the trainer's state or from one of its stages."""
    state = torch.load(path, map_location="cpu")
    unet, text = UNet(**UNET_CONFIG), TextEncoder(vocabulary)
    unet.load_state_dict(state["unet"])
    text.load_state_dict(state["text"])
    if "average" in state:
        for parameter, average in zip([*unet.parameters(), *text.parameters()], state["average"]):
            parameter.data = average
    return unet, text


def main(run, unet_path, base, out, picture_size):
    run, out = Path(run), Path(out)
    for folder in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    vocabulary = Tokenizer(run / "tokenizer").vocabulary
    unet, text = trained_networks(unet_path or run / "unet.pt", len(vocabulary))
    autoencoder = Autoencoder()
    if base:
        autoencoder.load_state_dict(load_safetensors(Path(base) / "vae/diffusion_pytorch_model.safetensors"))
    for half in ("decoder", "encoder"):
        if not base and not (run / f"autoencoder-{half}.pt").exists():
            raise SystemExit(f"{half} not trained in {run}: train it, or name a model with --base")
        load_half(autoencoder, run, half, "cpu")

    for path, config in (
            ("model_index.json", model_index()),
            ("unet/config.json", unet_config(picture_size)),
            ("vae/config.json", vae_config(LinearLatents.load(run).scaling_factor)),
            ("text_encoder/config.json", text_config(vocabulary)),
            ("scheduler/scheduler_config.json", scheduler_config()),
            ("tokenizer/tokenizer_config.json", tokenizer_config()),
            ("tokenizer/special_tokens_map.json", special_tokens())):
        (out / path).write_text(json.dumps(config, indent=1) + "\n")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(run / "tokenizer" / name, out / "tokenizer" / name)

    (out / "words.json").write_text(json.dumps({
        "_comment": "Words whose meaning the model was taught: a prompt with none of them deserves a warning. "
                    "Written by train/export.py.",
        "words": known_words()}) + "\n")

    total = 0
    for path, network in (("unet/diffusion_pytorch_model", unet), ("text_encoder/model", text),
                          ("vae/diffusion_pytorch_model", autoencoder)):
        file = out / f"{path}.safetensors"
        save_safetensors(file, network.state_dict())
        total += file.stat().st_size
        print(f"{file}: {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters, "
              f"{file.stat().st_size / 1e6:.2f} MB")
    print(f"{total / 1e6:.2f} MB of weights")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="folder of the training run")
    parser.add_argument("--unet", help="state or stage to export instead of DIR/unet.pt")
    parser.add_argument("--base", help="model folder for what this run did not train")
    parser.add_argument("--out", required=True, help="model folder to write")
    parser.add_argument("--size", type=int, default=128, help="side of a picture in pixels")
    arguments = parser.parse_args()
    main(arguments.run, arguments.unet, arguments.base, arguments.out, arguments.size)
