"""Trains the two halves of the autoencoder against the fixed linear latents, on 64-pixel crops.

    python3 train_autoencoder.py decoder --run DIR --minutes 8      codes -> picture
    python3 train_autoencoder.py encoder --run DIR --minutes 5      picture -> codes, so that image-to-image
                                                                     needs no second kind of encoder

--init FOLDER starts from an exported model. The state is in DIR/autoencoder-decoder.pt and -encoder.pt; as with
train_unet.py, the same command goes on after an interruption, and the learning rate follows the share of
--minutes that is spent.
"""
import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch

from arithmetic import autocast
from dataset import picture_shards, to_tensor
from latents import LinearLatents
from networks import Autoencoder
from optimizer import adam, swap, update_average
from weights import load_safetensors

CROP = 64
WARM_UP_STEPS = 100
CODE_NOISE = 0.03  # the decoder should not trust the last digit of a code
EMA_DECAY = 0.998
SAVE_MINUTES = 1


class Crops:
    def __init__(self, run):
        self.shards = [np.load(path, mmap_mode="r") for path in picture_shards(run, "train")]

    def batch(self, count, rng):
        """[count, 3, 64, 64] in [-1, 1], half of them mirrored"""
        crops = np.empty((count, CROP, CROP, 3), np.uint8)
        for i in range(count):
            shard = self.shards[rng.integers(0, len(self.shards))]
            size = shard.shape[1]
            y, x = rng.integers(0, size - CROP + 1, 2)
            crop = shard[rng.integers(0, len(shard)), y:y + CROP, x:x + CROP]
            crops[i] = crop[:, ::-1] if rng.random() < 0.5 else crop
        return to_tensor(crops)


def gradients(x):
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def picture_loss(y, x):
    """Squared and absolute error of the pixels and of their differences: edges count twice."""
    loss = 0.3 * (y - x).abs().mean() + 6 * ((y - x) ** 2).mean()
    for a, b in zip(gradients(y), gradients(x)):
        loss = loss + 6 * ((a - b) ** 2).mean() + 0.15 * (a - b).abs().mean()
    return loss


def decoder_loss(autoencoder, linear, x):
    codes = linear.encode(x)
    codes = (codes + torch.randn_like(codes) * CODE_NOISE).contiguous(memory_format=torch.channels_last)
    with autocast(x.device):
        y = autoencoder.decoder(codes)
    return picture_loss(y.float(), x)


def encoder_loss(autoencoder, linear, x):
    with autocast(x.device):
        codes = autoencoder.encoder(x)
    return ((codes.float() - linear.encode(x)) ** 2).mean()


@torch.no_grad()
def validate(autoencoder, linear, run, device, count=64):
    """PSNR in dB through the decoder alone and through both halves."""
    x = to_tensor(np.load(picture_shards(run, "valid")[0], mmap_mode="r")[:count]).to(device)
    psnr = lambda y: (-10 * torch.log10((((y.clamp(-1, 1) - x) / 2) ** 2).mean((1, 2, 3)))).mean().item()
    return {"decoder": round(psnr(autoencoder.decoder(linear.encode(x))), 2),
            "both": round(psnr(autoencoder.decoder(autoencoder.encoder(x))), 2)}


def load_half(autoencoder, run, half, device):
    path = Path(run) / f"autoencoder-{half}.pt"
    if path.exists():
        state = torch.load(path, map_location=device)
        getattr(autoencoder, half).load_state_dict(state["average"])


def train(half, run, minutes, init, batch, rate, device, seed):
    torch.manual_seed(seed)
    crops, linear = Crops(run), LinearLatents.load(run)
    autoencoder = Autoencoder()
    if init:
        autoencoder.load_state_dict(load_safetensors(Path(init) / "vae/diffusion_pytorch_model.safetensors"))
    autoencoder.to(device, memory_format=torch.channels_last)
    load_half(autoencoder, run, "encoder" if half == "decoder" else "decoder", device)
    network = getattr(autoencoder, half)
    loss_of = decoder_loss if half == "decoder" else encoder_loss
    parameters = list(network.parameters())
    optimizer = adam(parameters, rate, weight_decay=1e-4)
    average = [p.detach().clone() for p in parameters]
    step, spent, path = 0, 0.0, Path(run) / f"autoencoder-{half}.pt"
    if path.exists():
        state = torch.load(path, map_location=device)
        network.load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        average = [state["average"][name] for name, _ in network.named_parameters()]
        step, spent = state["step"], state["spent"]

    def save():
        weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        swap(parameters, average)
        print(half, step, f"{spent:.1f} min", validate(autoencoder, linear, run, device), flush=True)
        state = {"weights": weights, "average": {n: t.clone() for n, t in network.state_dict().items()},
                 "optimizer": optimizer.state_dict(), "step": step, "spent": spent}
        swap(parameters, average)
        torch.save(state, path.with_suffix(".partial"))
        path.with_suffix(".partial").rename(path)

    saved, before = spent, time.monotonic()
    while spent < minutes:
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, spent / minutes)))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / WARM_UP_STEPS) * (0.01 + 0.99 * fall)
        x = crops.batch(batch, np.random.default_rng([seed, step])).to(device, memory_format=torch.channels_last)
        loss = loss_of(autoencoder, linear, x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        step += 1
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        update_average(average, parameters, decay)
        now = time.monotonic()
        spent, before = spent + (now - before) / 60, now
        if spent - saved >= SAVE_MINUTES or spent >= minutes:
            save()
            saved = spent


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("half", choices=["decoder", "encoder"])
    parser.add_argument("--run", required=True, help="folder of this training run")
    parser.add_argument("--minutes", type=float, default=8, help="budget of this stage")
    parser.add_argument("--init", help="model folder whose weights to start from")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.half, arguments.run, arguments.minutes, arguments.init, arguments.batch, arguments.rate,
          arguments.device, arguments.seed)
