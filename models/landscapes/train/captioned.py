"""What the UNet learns from: the latents of all rendered pictures, each with a caption drawn anew when it is seen,
and now and then mirrored, with left and right swapped in the caption.
"""
import time
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from captions import caption
from dataset import NATIVE, encoded_shards, load_codes, load_scenes
from latents import LinearLatents
from regions import position_weights
from scenes import SAYABLE, mirrored, sayable_labels
from tokenizer import Tokenizer

EMPTY_CAPTIONS = 0.1  # of all, for classifier-free guidance
UNSAID = -100  # the label that cross-entropy ignores
REFRESH_SECONDS = 20  # shards that appeared meanwhile are picked up


class Captioned:
    """All encoded shards of a split: latents and, drawn anew each time, captions."""

    def __init__(self, run, split, size=NATIVE):
        self.run, self.split, self.size = run, split, size
        self.scaling_factor = LinearLatents.load(run).scaling_factor
        self.tokenizer = Tokenizer(Path(run) / "tokenizer")
        self.shards, self.codes, self.scenes = [], [], []
        self.refresh()

    def refresh(self):
        self.refreshed = time.monotonic()
        for path in encoded_shards(self.run, self.split, self.size):
            if path not in self.shards:
                self.shards.append(path)
                self.codes.append(load_codes(path))
                self.scenes += load_scenes(path)
        self.ends = np.cumsum([codes.shape[1] for codes in self.codes])

    def batch(self, indices, mirrors, rng, empty):
        """-> latents [n, 12, h, w] in f32, ids [n, 32], what the captions can say [n, attributes], and the
        weight of each position [n, 1, h, w]"""
        latents = []
        for index, mirror in zip(indices, mirrors):
            shard = int(np.searchsorted(self.ends, index, side="right"))
            latents.append(self.codes[shard][mirror, index - self.ends[shard]])  # from the shard's end: negative
        latents = torch.from_numpy(np.stack(latents)).float() * self.scaling_factor
        scenes = self.seen(indices, mirrors)
        ids, said = self.captions(scenes, rng, empty)
        return latents, ids, said, position_weights(scenes, *latents.shape[2:])

    def seen(self, indices, mirrors):
        return [mirrored(self.scenes[i]) if mirror else self.scenes[i] for i, mirror in zip(indices, mirrors)]

    def captions(self, scenes, rng, empty):
        """-> ids [n, 32], what the captions can say [n, attributes]"""
        ids, said = [], []
        for scene in scenes:
            is_empty = rng.random() < empty
            ids.append(self.tokenizer.encode("" if is_empty else caption(scene, rng)))
            said.append([UNSAID] * len(SAYABLE) if is_empty else sayable_labels(scene))
        return torch.tensor(ids), torch.tensor(said)

    def random_captions(self, size, rng):
        scenes = self.seen(rng.integers(0, len(self.scenes), size), rng.integers(0, 2, size))
        return self.captions(scenes, rng, 0.0)

    def random_batch(self, size, rng, empty=EMPTY_CAPTIONS):
        return self.batch(rng.integers(0, len(self.scenes), size), rng.integers(0, 2, size), rng, empty)


class Steps(Dataset):
    """The batch of each step, from the step's own seed: the same after a restart and whichever process draws it."""

    def __init__(self, data, size, seed, empty):
        self.data, self.size, self.seed, self.empty = data, size, seed, empty

    def __getitem__(self, step):
        if time.monotonic() - self.data.refreshed > REFRESH_SECONDS:
            self.data.refresh()
        return self.data.random_batch(self.size, np.random.default_rng([self.seed, step]), self.empty)


def batches(data, size, seed, first_step, device, workers, empty=EMPTY_CAPTIONS):
    """Endless: what `Captioned.batch` gives, on `device`, from `first_step` on; drawn ahead by so many processes."""
    is_cuda = torch.device(device).type == "cuda"
    loader = DataLoader(Steps(data, size, seed, empty), batch_size=None, sampler=count(first_step), num_workers=workers,
                        pin_memory=is_cuda, **({"prefetch_factor": 4} if workers else {}))
    for batch in loader:
        yield [part.to(device, non_blocking=True) for part in batch]
