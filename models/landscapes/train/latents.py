"""The latent space: a fixed linear map from 8×8 patches of the picture to 12 channels.

The 12 principal components of the patches of real renders, each scaled to a standard deviation
proportional to λ^0.15 (λ its variance), so that small but visible details are not drowned. A linear map
needs no training, and the decoder then only has to learn to invert it: learning both at once on a small
budget gave blurry pictures.

    python3 latents.py fit      --run DIR    principal components -> DIR/latents.npz
    python3 latents.py recover  --run DIR --model FOLDER
                                             the linear map behind an already trained model's encoder, by
                                             least squares: to go on training that model
    python3 latents.py encode   --run DIR    the shards of pictures -> shards of codes
    python3 latents.py preview  --run DIR --out latent_rgb.json
                                             the linear map from latents to colours that previews use
"""
import argparse
import json
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from dataset import LARGE, NATIVE, picture_shards, to_tensor
from networks import LATENT_CHANNELS, Autoencoder
from weights import load_safetensors

PATCH = 8
TOP_STD = 1.35  # standard deviation of the first channel; the decoder's tanh(z / 3) begins to bend there
POWER = 0.15
CODE_LIMIT = 4.0  # codes are clipped here: beyond it tanh(z / 3) has nothing left to say


class LinearLatents:
    """codes = conv(picture, weight, stride 8) + bias; latents = codes · scaling_factor."""

    def __init__(self, weight, bias, scaling_factor):
        self.weight, self.bias, self.scaling_factor = weight, bias, float(scaling_factor)

    @classmethod
    def load(cls, run):
        file = np.load(Path(run) / "latents.npz")
        return cls(torch.from_numpy(file["weight"]), torch.from_numpy(file["bias"]), file["scaling_factor"])

    def save(self, run):
        np.savez(Path(run) / "latents.npz", weight=self.weight.numpy(), bias=self.bias.numpy(),
                 scaling_factor=self.scaling_factor)

    def encode(self, pictures):
        """[n, 3, 8h, 8w] in [-1, 1] -> codes [n, 12, h, w]"""
        weight, bias = self.weight.to(pictures.device), self.bias.to(pictures.device)
        return F.conv2d(pictures, weight, bias, stride=PATCH).clamp(-CODE_LIMIT, CODE_LIMIT)


def sample_pictures(run, count):
    shards = picture_shards(run, "train")
    if not shards:
        raise SystemExit(f"no pictures in {run}: run dataset.py first")
    share = -(-count // len(shards))
    return to_tensor(np.concatenate([np.load(path, mmap_mode="r")[:share] for path in shards])[:count])


def to_patches(pictures):
    """[n, 3, 8h, 8w] -> [n·h·w, 192], channel-major as a convolution's weight is"""
    return F.unfold(pictures, PATCH, stride=PATCH).transpose(1, 2).reshape(-1, 3 * PATCH * PATCH)


def fit(run, count):
    pictures = sample_pictures(run, count)
    patches = to_patches(pictures).double()
    mean = patches.mean(0)
    variance, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    variance, vectors = variance.flip(0)[:LATENT_CHANNELS], vectors.flip(1)[:, :LATENT_CHANNELS]
    target = TOP_STD * (variance / variance[0]) ** POWER
    matrix = (vectors * (target / variance.sqrt())).T
    linear = LinearLatents(matrix.float().view(LATENT_CHANNELS, 3, PATCH, PATCH), -(matrix @ mean).float(), 1.0)
    linear.scaling_factor = float(1 / linear.encode(pictures).std())
    linear.save(run)
    print(f"fit on {len(patches)} patches; scaling factor {linear.scaling_factor:.4f}")


def recover(run, model, count):
    model = Path(model)
    autoencoder = Autoencoder()
    autoencoder.load_state_dict(load_safetensors(model / "vae/diffusion_pytorch_model.safetensors"))
    pictures = sample_pictures(run, count)
    with torch.no_grad():
        codes = torch.cat([autoencoder.encoder(batch) for batch in pictures.split(64)])
    target = codes.permute(0, 2, 3, 1).reshape(-1, LATENT_CHANNELS).double()
    patches = to_patches(pictures).double()
    design = torch.cat([patches, torch.ones(len(patches), 1, dtype=torch.float64)], 1)
    ridge = 1e-6 * len(patches) * torch.eye(design.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(design.T @ design + ridge, design.T @ target)
    config = json.loads((model / "vae/config.json").read_text())
    linear = LinearLatents(solution[:-1].T.float().reshape(LATENT_CHANNELS, 3, PATCH, PATCH).contiguous(),
                           solution[-1].float(), config["scaling_factor"])
    linear.save(run)
    error = ((design @ solution - target) ** 2).mean() / target.var()
    print(f"recovered from {model}: {error:.2%} of the encoder's variance is not linear")


def encode(run, device):
    """Each shard once; [2, n, 12, h, w] in f16, the second half mirrored."""
    linear = LinearLatents.load(run)
    for split, size in product(("train", "valid"), (NATIVE, LARGE)):
        for path in picture_shards(run, split, size):
            target = path.with_suffix(".codes.npy")
            if target.exists():
                continue
            pictures = np.load(path)
            both = [torch.cat([linear.encode(to_tensor(part, device)).cpu() for part in np.array_split(view, 8)])
                    for view in (pictures, pictures[:, :, ::-1])]
            partial = target.with_suffix(".partial")
            with open(partial, "wb") as file:
                np.save(file, torch.stack(both).numpy().astype(np.float16))
            partial.rename(target)
            print(target.name, flush=True)


def preview(run, out, count):
    """Least squares from scaled latents to the mean colour of the patch, in [-1, 1]."""
    linear = LinearLatents.load(run)
    pictures = sample_pictures(run, count)
    latents = linear.encode(pictures) * linear.scaling_factor
    x = latents.permute(0, 2, 3, 1).reshape(-1, LATENT_CHANNELS).double()
    y = F.avg_pool2d(pictures, PATCH).permute(0, 2, 3, 1).reshape(-1, 3).double()
    design = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    solution = torch.linalg.lstsq(design, y).solution
    rms = ((design @ solution - y) ** 2).mean().sqrt().item()
    table = {
        "_comment": "rgb = matrix · latent + bias, in [-1, 1], one pixel for each latent position; latents as "
                    f"the diffusion loop has them (scaled). Least squares on renders, RMS error {rms:.4f}. "
                    "Written by train/latents.py preview.",
        "matrix": [[round(v, 6) for v in row] for row in solution[:-1].T.tolist()],
        "bias": [round(v, 6) for v in solution[-1].tolist()],
    }
    Path(out).write_text(json.dumps(table, indent=1) + "\n")
    print(f"{out}: RMS error {rms:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["fit", "recover", "encode", "preview"])
    parser.add_argument("--run", required=True, help="folder of this training run")
    parser.add_argument("--model", help="recover: a model folder in diffusers layout")
    parser.add_argument("--out", help="preview: where the JSON goes")
    parser.add_argument("--pictures", type=int, default=2000, help="pictures to fit on")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="encode: where")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.action == "fit":
        fit(arguments.run, arguments.pictures)
    elif arguments.action == "recover":
        recover(arguments.run, arguments.model, arguments.pictures)
    elif arguments.action == "encode":
        encode(arguments.run, arguments.device)
    else:
        preview(arguments.run, arguments.out, arguments.pictures)
