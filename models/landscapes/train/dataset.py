"""Shards of rendered pictures: DIR/data/train-0000.npy, uint8 [1000, 128, 128, 3], and train-0000.json, the
scene of each picture; those of another side in DIR/data-256. Captions are not stored: a new one is drawn from the scene
each time it is used.

    python3 dataset.py --run DIR --split train --shards 40        13 ms a picture on one thread: 9 minutes
    python3 dataset.py --run DIR --split valid --shards 1
    python3 dataset.py --run DIR --split train --shards 6 --size 256        50 ms a picture

A shard that exists is left alone, so the command can be stopped and started again.
"""
import argparse
import json
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch

NATIVE, LARGE = 128, 256  # pixels: the side of the pictures that the UNet learns from, and its variant `large`
PICTURES_A_SHARD = 1000
VALID_SEED = 10_000_000  # scenes of the valid split come from seeds that train never reaches


def data_folder(run, size=NATIVE):
    return Path(run) / ("data" if size == NATIVE else f"data-{size}")


def picture_shards(run, split, size=NATIVE):
    """Paths of the finished shards, in order."""
    found = sorted(data_folder(run, size).glob(f"{split}-*.json"))
    return [path.with_suffix(".npy") for path in found]


def encoded_shards(run, split, size=NATIVE):
    return [path for path in picture_shards(run, split, size) if path.with_suffix(".codes.npy").exists()]


def load_scenes(path):
    return json.loads(Path(path).with_suffix(".json").read_text())


def load_codes(path):
    """[2, n, 12, h, w], f16, read from the file when used; the second half mirrored"""
    return np.load(Path(path).with_suffix(".codes.npy"), mmap_mode="r")


def to_tensor(pictures, device="cpu"):
    """uint8 [n, h, w, 3] -> f32 [n, 3, h, w] in [-1, 1]"""
    return torch.from_numpy(np.array(pictures)).to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_pixels(pictures):
    """The inverse of to_tensor."""
    return ((pictures.clamp(-1, 1).permute(0, 2, 3, 1).numpy() + 1) * 127.5).round().astype(np.uint8)


def render_shard(index, run, split, size, count):
    from renderer import random_scene, render

    path = data_folder(run, size) / f"{split}-{index:04d}.npy"
    if path.with_suffix(".json").exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures, scenes = np.empty((count, size, size, 3), np.uint8), []
    for i in range(count):
        rng = np.random.default_rng(index * count + i + (VALID_SEED if split == "valid" else 0))
        pictures[i], scene = render(random_scene(rng), rng, size)
        scenes.append(scene)
    np.save(path, pictures)
    path.with_suffix(".json").write_text(json.dumps(scenes))
    print(path.name, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="folder of this training run")
    parser.add_argument("--split", choices=["train", "valid"], default="train")
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--size", type=int, default=NATIVE, help="side of a picture in pixels")
    parser.add_argument("--pictures", type=int, default=PICTURES_A_SHARD, help="pictures a shard")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    arguments = parser.parse_args()
    render_one = partial(render_shard, run=arguments.run, split=arguments.split, size=arguments.size,
                         count=arguments.pictures)
    with Pool(arguments.workers) as pool:
        pool.map(render_one, range(arguments.shards), chunksize=1)
