"""All stages in order, from nothing to an exported and measured model.

    python3 run_all.py --run /somewhere/landscapes --out ../          seven hours on one CPU thread
    python3 run_all.py --run /tmp/smoke --out /tmp/smoke/model --smoke    every stage on a tiny size: 2 minutes
    python3 run_all.py --run DIR --out ../ --init ../ --unet-minutes 120  go on from the model that is there

After an interruption the same command goes on where it stopped: every stage keeps its state in --run and is
passed over when its budget is spent. Each stage is a command of its own; this file only says in which order,
how large and how long.
"""
import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

from dataset import LARGE

HERE = Path(__file__).parent
# minutes on one thread of a CPU with AMX; a stage that learns takes what it is given
FULL = {"shards": 40, "valid": 2, "pictures": 1000, "captions": 20000, "decoder": 10, "encoder": 5, "classifier": 12,
        "reading": 5, "unet": 340, "distill": 20, "large": 40, "large_shards": 6, "batch": 48, "distill_batch": 32,
        "large_batch": 16, "drawers": 0}
# minutes on an H200, whose UNet takes 1.4 to be compiled and sees 18,000 pictures a second then; never run there as a whole
GPU = {"shards": 100, "valid": 2, "pictures": 1000, "captions": 20000, "decoder": 1, "encoder": 0.5, "classifier": 0.5,
       "reading": 0.3, "unet": 7, "distill": 2, "large": 2, "large_shards": 12, "batch": 512, "distill_batch": 256,
       "large_batch": 64, "drawers": 4}
SMOKE = {"shards": 1, "valid": 1, "pictures": 64, "captions": 200, "decoder": 0.05, "encoder": 0.05,
         "classifier": 0.05, "reading": 0.05, "unet": 0.1, "distill": 0.1, "large": 0.1, "large_shards": 1, "batch": 8,
         "distill_batch": 8, "large_batch": 8, "drawers": 1}


def stages(run, out, size, init, workers):
    """(name, arguments) of each command"""
    begin = ["--init", init] if init else []
    drawers = ["--workers", size["drawers"]]
    shard_size = ["--pictures", size["pictures"], "--workers", workers]
    yield "dataset.py", ["--run", run, "--split", "valid", "--shards", size["valid"], *shard_size]
    yield "dataset.py", ["--run", run, "--split", "train", "--shards", size["shards"], *shard_size]
    yield "dataset.py", ["--run", run, "--split", "valid", "--shards", 1, "--size", LARGE, *shard_size]
    yield "dataset.py", ["--run", run, "--split", "train", "--shards", size["large_shards"], "--size", LARGE, *shard_size]
    if init:  # its tokenizer and its latents belong to its weights
        yield "tokenizer.py", ["--run", run, "--copy", init]
        yield "latents.py", ["recover", "--run", run, "--model", init]
    else:
        yield "tokenizer.py", ["--run", run, "--captions", size["captions"]]
        yield "latents.py", ["fit", "--run", run]
    yield "latents.py", ["encode", "--run", run]
    yield "train_autoencoder.py", ["decoder", "--run", run, "--minutes", size["decoder"], *begin]
    yield "train_autoencoder.py", ["encoder", "--run", run, "--minutes", size["encoder"], *begin]
    yield "evaluate.py", ["classifier", "--run", run, "--minutes", size["classifier"]]
    yield "train_unet.py", ["--run", run, "--minutes", size["unet"], "--reading-minutes", size["reading"],
                            "--batch", size["batch"], *drawers, *begin]
    yield "export.py", ["--run", run, "--out", out]
    yield "latents.py", ["preview", "--run", run, "--out", f"{out}/latent_rgb.json"]
    yield "distill.py", ["--run", run, "--model", out, "--minutes", size["distill"],
                         "--batch", size["distill_batch"], *drawers]
    yield "train_large.py", ["--run", run, "--model", out, "--minutes", size["large"],
                             "--batch", size["large_batch"], *drawers]
    for suffix, variant in (("", []), ("-few-step", ["--few-step"]), ("-large", ["--large"])):
        yield "evaluate.py", ["model", "--run", run, "--model", out, *variant, "--out", f"{out}/evaluation{suffix}.json"]
        yield "pipeline.py", ["--model", out, *variant, "--sheet", f"{out}/contact-sheet{suffix}.jpg"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="folder of this training run")
    parser.add_argument("--out", required=True, help="model folder to write")
    parser.add_argument("--init", help="model folder whose weights to start from")
    parser.add_argument("--unet-minutes", type=float, help="budget of the UNet stage")
    parser.add_argument("--workers", type=int, default=1, help="processes that render")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    arguments = parser.parse_args()
    size = dict(SMOKE if arguments.smoke else GPU if torch.cuda.is_available() else FULL)
    if arguments.unet_minutes:
        size["unet"] = arguments.unet_minutes
    for name, options in stages(arguments.run, arguments.out, size, arguments.init, arguments.workers):
        start = time.monotonic()
        print(f"== {name} {' '.join(map(str, options))}", flush=True)
        subprocess.run([sys.executable, HERE / name, *map(str, options)], check=True)
        print(f"== {name}: {(time.monotonic() - start) / 60:.1f} min", flush=True)
