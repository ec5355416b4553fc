"""The variant for pictures of twice the side: a LoRA of the UNet, learned as the UNet was, on larger renders.

    python3 dataset.py --run DIR --split train --size 256 --shards 6      and valid, and latents.py encode
    python3 train_large.py --run DIR --model ../ --minutes 30       -> DIR/large.pt, and on export
                                                                       large/pytorch_lora_weights.safetensors

The networks have seen 16×16 latents only; at 32×32 the UNet repeats the horizon and draws things half as large as the
picture wants them. The autoencoder works at any size as it is.
"""
import argparse

import torch

from captioned import Captioned, batches
from dataset import LARGE
from lora import LoraTrainer
from pipeline import LARGE_VARIANT, Pipeline
from train_unet import random_timesteps_and_noise, velocity_loss


def train(arguments):
    device = arguments.device
    torch.manual_seed(arguments.seed)
    data = Captioned(arguments.run, "train", arguments.size)
    base = Pipeline(arguments.model, device=device)
    trainer = LoraTrainer(base.unet, arguments.run, LARGE_VARIANT, arguments.minutes, arguments.rate, device)
    drawn = batches(data, arguments.batch, arguments.seed, trainer.step, device, arguments.workers)

    def loss(step):
        latents, ids, _, weights = next(drawn)
        t, noise = random_timesteps_and_noise(latents, arguments.seed, step)
        return velocity_loss(base.unet, base.text, latents, ids, t, noise, weights)[0].mean()

    trainer.run(loss)
    trainer.export(arguments.model)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="folder of the training run")
    parser.add_argument("--model", required=True, help="exported model to adapt; the LoRA is written beside it")
    parser.add_argument("--minutes", type=float, default=30, help="budget of this stage")
    parser.add_argument("--size", type=int, default=LARGE, help="side of a picture in pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw batches ahead: 4 on a GPU")
    parser.add_argument("--seed", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments)
