"""The exported model, for measuring and looking: what Daguerre itself does in TypeScript, in a few lines.

    python3 pipeline.py --model ../ --prompt "a lighthouse at dusk" --out picture.png
    python3 pipeline.py --model ../ --sheet ../contact-sheet.jpg [--steps 8 --guidance 3]
    python3 pipeline.py --model ../ --sheet ../few-step.jpg --few-step     4 steps, no guidance
    python3 pipeline.py --model ../ --sheet ../large.jpg --large           256×256
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch

from arithmetic import autocast
from dataset import LARGE, to_pixels
from diffusion import sample
from latents import PATCH
from lora import pytorch_lora_file
from networks import LATENT_CHANNELS, Autoencoder, TextEncoder, UNet
from tokenizer import Tokenizer
from weights import load_safetensors

GUIDANCE = 3.0  # 2 to 3 was best by eye
FEW_STEPS = 4  # of the few-step variant, which needs no guidance
FEW_STEP, LARGE_VARIANT = "few-step", "large"  # variants, each a LoRA in a folder of its name
SHEET_PROMPTS = [
    "a beautiful sunset over the sea",
    "a night sky with a full moon over snowy mountains",
    "a foggy forest at dawn",
    "desert dunes at noon with a cactus",
    "a city skyline at night",
    "a sailboat on the sea at sunset",
    "green hills with a lone tree, blue sky",
    "northern lights over a lake",
    "a red and white lighthouse at dusk, purple sky",
    "a colorful hot air balloon over rolling hills",
    "an old windmill at sunrise, pink sky",
    "the pyramids at sunset, golden sky",
    "a wooden cabin in snowy mountains at night, stars",
    "a palm tree in the desert with a crescent moon on the left",
    "a mountain range at noon with a flock of birds",
    "rainy city skyscrapers in the evening",
]


class Pipeline:
    """Weights as stored (f16), arithmetic in f32, or in bf16 where `bf16` is set and the machine has it."""

    def __init__(self, folder, bf16=False, device="cpu", variants=()):
        folder = Path(folder)
        unet = json.loads((folder / "unet/config.json").read_text())
        text = json.loads((folder / "text_encoder/config.json").read_text())
        vae = json.loads((folder / "vae/config.json").read_text())
        self.scaling_factor = vae["scaling_factor"]
        self.size = LARGE // PATCH if LARGE_VARIANT in variants else unet["sample_size"]
        self.bf16, self.device = bf16, device
        self.tokenizer = Tokenizer(folder / "tokenizer")
        self.text = TextEncoder(text["vocab_size"])
        self.unet = UNet(unet["block_out_channels"], [kind != "DownBlock2D" for kind in unet["down_block_types"]],
                         unet["attention_head_dim"], unet["norm_num_groups"])
        self.autoencoder = Autoencoder(vae["num_decoder_blocks"])
        for network, path in ((self.text, "text_encoder/model"), (self.unet, "unet/diffusion_pytorch_model"),
                              (self.autoencoder, "vae/diffusion_pytorch_model")):
            network.load_state_dict(load_safetensors(folder / f"{path}.safetensors"))
            network.to(device).eval().requires_grad_(False)
        for variant in variants:
            merge_lora(self.unet, load_safetensors(pytorch_lora_file(folder, variant)))
        self.unet.to(memory_format=torch.channels_last)
        self.autoencoder.to(memory_format=torch.channels_last)

    def embed(self, prompts):
        return self.text(torch.tensor([self.tokenizer.encode(p) for p in prompts], device=self.device))

    def latents(self, prompts, steps, guidance, seed, batch=64):
        """-> [n, 12, 16, 16], or [n, 12, 32, 32] of the large variant; the noise of a picture depends on the seed and its place in the list only"""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(prompts), LATENT_CHANNELS, self.size, self.size, generator=generator)
        out = []
        for first in range(0, len(prompts), batch):
            part = prompts[first:first + batch]
            x = noise[first:first + batch].to(self.device).contiguous(memory_format=torch.channels_last)
            with torch.no_grad(), autocast(self.device, self.bf16):
                conditioning, empty = self.embed(part), self.embed([""] * len(part))
                out.append(sample(self.unet, x, conditioning, empty, steps, guidance).float().cpu())
        return torch.cat(out)

    @torch.no_grad()
    def decode(self, latents):
        """latents -> uint8 [n, h, w, 3]"""
        pictures = [self.autoencoder.decoder(part.to(self.device) / self.scaling_factor).cpu() for part in latents.split(32)]
        return to_pixels(torch.cat(pictures))


def merge_lora(unet, tensors):
    """W + B·A in every layer that the LoRA names."""
    layers = dict(unet.named_modules())
    for name, down in tensors.items():
        if name.endswith(".lora_A.weight"):
            path = name[len("unet."):-len(".lora_A.weight")]
            up = tensors[f"unet.{path}.lora_B.weight"]
            weight = layers[path].weight
            weight.data += (up.flatten(1) @ down.flatten(1)).view_as(weight)


def tile(pictures, columns, gap=2):
    """uint8 [n, h, w, 3] -> one picture, row by row"""
    n, h, w, _ = pictures.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = (i // columns) * (h + gap), (i % columns) * (w + gap)
        sheet[y:y + h, x:x + w] = picture
    return sheet


def write_picture(path, pixels):
    from PIL import Image

    Image.fromarray(pixels).save(path, **({"quality": 88, "subsampling": 0} if str(path).endswith(".jpg") else {}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder in diffusers layout")
    parser.add_argument("--prompt")
    parser.add_argument("--out", default="picture.png")
    parser.add_argument("--sheet", help="write a contact sheet of the standard prompts, two seeds each, here")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--few-step", action="store_true", help=f"the few-step variant: {FEW_STEPS} steps, no guidance")
    parser.add_argument("--large", action="store_true", help=f"the variant for {LARGE}×{LARGE}")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    variants = [FEW_STEP] * arguments.few_step + [LARGE_VARIANT] * arguments.large
    if arguments.few_step:
        arguments.steps, arguments.guidance = FEW_STEPS, 1.0
    torch.set_num_threads(1)
    pipeline = Pipeline(arguments.model, variants=variants)
    draw = lambda prompts, seed: pipeline.decode(
        pipeline.latents(prompts, arguments.steps, arguments.guidance, seed))
    if arguments.sheet:
        two = [draw(SHEET_PROMPTS, arguments.seed + k) for k in (0, 1)]
        half = len(SHEET_PROMPTS) // 2
        rows = [pictures[first:first + half] for first in (0, half) for pictures in two]
        write_picture(arguments.sheet, tile(np.concatenate(rows), half))
    if arguments.prompt:
        write_picture(arguments.out, draw([arguments.prompt], arguments.seed)[0])
