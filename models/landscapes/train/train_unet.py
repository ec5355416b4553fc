"""Trains the UNet and the text encoder together: v-prediction on latents of the renders, a new caption each
time a picture is seen, one caption in ten left empty for classifier-free guidance.

Three things make the little model learn sooner what its prompt says. A linear *reader* on the last text state
names the attributes of the scene, and its cross-entropy is added to the loss: from the diffusion loss alone the
text encoder learned very slowly which place belongs to the moon and which to the cabin. For the first
--reading-minutes it learns from the reader alone, on captions without pictures, which is ten times cheaper. The
reader is not exported. High timesteps are drawn more often, because that is where the text matters: below timestep 400 the
loss is the same with a caption and without. And positions of the sun, the moon and the subject count more
(regions.py).

    python3 train_unet.py --run DIR --minutes 340
    python3 train_unet.py --run DIR --minutes 120 --init ../        go on from an exported model

Stop it at any time: the state in DIR/unet.pt (weights, averaged weights, optimiser, step, minutes spent) is
replaced every --save-minutes, and the same command goes on from there. The learning rate follows the share of
--minutes that is spent, so that it ends near zero whatever the machine is or does besides; a larger
--minutes on a later call stretches the schedule. Shards that appear in DIR/data meanwhile are picked up.
Every --keep-minutes a copy of the averaged weights is kept in DIR/stages for the contact sheets.
"""
import argparse
import math
import signal
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from arithmetic import autocast, compiled
from captioned import UNSAID, Captioned, batches
from diffusion import TIMESTEPS, coefficients
from networks import TEXT_WIDTH, UNET_CONFIG, TextEncoder, UNet
from optimizer import adam, swap, update_average
from scenes import SAYABLE
from weights import load_safetensors

READER_WEIGHT = 0.03
READER_RATE = 3e-3
READING_RATE, READING_BATCH = 5e-4, 128  # of the text encoder, while it learns from the reader alone
WARM_UP_STEPS = 200
HOLD = 0.45  # share of the budget at full learning rate; cosine after it
LAST_RATE = 0.01  # of the full learning rate
EMA_DECAY = 0.9985
LOWEST_DENSITY = 0.4  # of timestep 0; rises linearly to 1.6 at the last one
VALIDATION = 256  # pictures


def velocity_loss(unet, text, latents, ids, t, noise, weights=1.0):
    """-> mean squared error of v for each picture, text states; the loss in f32."""
    alpha, sigma = coefficients(t, latents)
    x = (alpha * latents + sigma * noise).contiguous(memory_format=torch.channels_last)
    with autocast(latents.device):
        states = text(ids)
        v = unet(x, t, states)
    return (weights * (v.float() - (alpha * noise - sigma * latents)) ** 2).mean((1, 2, 3)), states


def reader_loss(reader, states, said):
    """The sum over attributes of the cross-entropy of what the last text state says."""
    logits = reader(states[:, -1].float()).split([len(values) for values in SAYABLE.values()], 1)
    return sum(F.cross_entropy(part, said[:, i], ignore_index=UNSAID) for i, part in enumerate(logits))


def random_timesteps_and_noise(latents, seed, step):
    """One timestep [n] and noise [n, 12, h, w] for each picture, from the step's own seed."""
    number = 2 * (seed * 1_000_003 + step)
    generator = torch.Generator().manual_seed(number)
    t = stratified_timesteps(len(latents), generator).to(latents.device, non_blocking=True)
    noise_generator = torch.Generator(latents.device).manual_seed(number + 1)
    return t, torch.randn(latents.shape, generator=noise_generator, device=latents.device)


def stratified_timesteps(count, generator):
    """One timestep from each of `count` equally likely parts of the schedule, in random order."""
    u = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    rise = 1 - LOWEST_DENSITY  # the inverse of u = LOWEST_DENSITY x + rise x²
    x = ((LOWEST_DENSITY ** 2 + 4 * rise * u).sqrt() - LOWEST_DENSITY) / (2 * rise)
    return (x * TIMESTEPS).long().clamp(max=TIMESTEPS - 1)


@torch.no_grad()
def validation_loss(unet, text, held_out, device):
    """Always the same pictures, captions, timesteps and noise."""
    count = min(VALIDATION, len(held_out.scenes))
    latents, ids, _, _ = held_out.batch(range(count), [0] * count, np.random.default_rng(7), 0.0)
    t = ((torch.arange(count) + 0.5) / count * TIMESTEPS).long()
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(9))
    losses = [velocity_loss(unet, text, *(part.to(device) for part in parts))[0]
              for parts in zip(latents.split(32), ids.split(32), t.split(32), noise.split(32))]
    return torch.cat(losses).mean().item()


class Trainer:
    def __init__(self, arguments):
        self.arguments, self.device = arguments, arguments.device
        self.path = Path(arguments.run) / f"{arguments.name}.pt"
        self.data = Captioned(arguments.run, "train")
        self.held_out = Captioned(arguments.run, "valid")
        torch.manual_seed(arguments.seed)
        self.unet = UNet(**UNET_CONFIG).to(self.device, memory_format=torch.channels_last)
        self.text = TextEncoder(len(self.data.tokenizer.vocabulary)).to(self.device)
        if arguments.init:
            init = Path(arguments.init)
            self.unet.load_state_dict(load_safetensors(init / "unet/diffusion_pytorch_model.safetensors"))
            self.text.load_state_dict(load_safetensors(init / "text_encoder/model.safetensors"))
        self.parameters = [*self.unet.parameters(), *self.text.parameters()]
        self.optimizer = adam(self.parameters, arguments.rate, weight_decay=0.01)
        self.reader = nn.Linear(TEXT_WIDTH, sum(map(len, SAYABLE.values()))).to(self.device)
        self.reader_optimizer = torch.optim.AdamW(self.reader.parameters(), lr=READER_RATE)
        self.average = [p.detach().clone() for p in self.parameters]
        self.step, self.samples, self.spent, self.log = 0, 0, 0.0, []
        self.stopped = False
        self.run_unet, self.run_text = compiled(self.unet), compiled(self.text)
        if self.path.exists():
            self.restore(torch.load(self.path, map_location=self.device))

    def restore(self, state):
        self.unet.load_state_dict(state["unet"])
        self.text.load_state_dict(state["text"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.reader.load_state_dict(state["reader"])
        self.reader_optimizer.load_state_dict(state["reader_optimizer"])
        self.average = state["average"]
        self.step, self.samples, self.spent, self.log = (state[k] for k in ("step", "samples", "spent", "log"))
        print(f"resumed at step {self.step}, minute {self.spent:.1f}", flush=True)

    def save(self):
        state = {"unet": self.unet.state_dict(), "text": self.text.state_dict(),
                 "optimizer": self.optimizer.state_dict(), "average": self.average,
                 "reader": self.reader.state_dict(), "reader_optimizer": self.reader_optimizer.state_dict(),
                 "step": self.step, "samples": self.samples, "spent": self.spent, "log": self.log}
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.rename(self.path)

    def keep_stage(self):
        folder = Path(self.arguments.run) / "stages"
        folder.mkdir(exist_ok=True)
        swap(self.parameters, self.average)
        torch.save({"unet": self.unet.state_dict(), "text": self.text.state_dict()},
                   folder / f"{self.arguments.name}-{round(self.spent):04d}min.pt")
        swap(self.parameters, self.average)

    def validate(self, training_loss):
        swap(self.parameters, self.average)
        loss = validation_loss(self.unet, self.text, self.held_out, self.device)
        swap(self.parameters, self.average)
        self.log.append({"minutes": round(self.spent, 1), "step": self.step, "samples": self.samples,
                         "training": round(float(training_loss), 4), "validation": round(loss, 4)})
        print("validation", self.log[-1], flush=True)

    def learning_rate(self):
        share = min(1.0, self.spent / self.arguments.minutes)
        fall = 1.0 if share < HOLD else 0.5 * (1 + math.cos(math.pi * (share - HOLD) / (1 - HOLD)))
        return self.arguments.rate * min(1, (self.step + 1) / WARM_UP_STEPS) * (LAST_RATE + (1 - LAST_RATE) * fall)

    def train_step(self, latents, ids, said, weights):
        """-> losses of the velocity and of the reader, on the device"""
        t, noise = random_timesteps_and_noise(latents, self.arguments.seed, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        losses, states = velocity_loss(self.run_unet, self.run_text, latents, ids, t, noise, weights)
        loss, reading = losses.mean(), reader_loss(self.reader, states, said)
        self.optimizer.zero_grad(set_to_none=True)
        self.reader_optimizer.zero_grad(set_to_none=True)
        (loss + READER_WEIGHT * reading).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.reader_optimizer.step()
        self.step += 1
        self.samples += len(latents)
        decay = min(EMA_DECAY, (1 + self.step) / (20 + self.step))
        update_average(self.average, self.parameters, decay)
        return torch.stack([loss, reading]).detach()

    def read(self, minutes):
        """The text encoder and the reader alone, on captions."""
        text = list(self.text.parameters())
        optimizer = adam(text, READING_RATE, weight_decay=0.01)
        start, step = time.monotonic(), 0
        while not self.stopped and (share := (time.monotonic() - start) / 60 / minutes) < 1:
            rng = np.random.default_rng([self.arguments.seed, step, READING_BATCH])
            ids, said = (x.to(self.device) for x in self.data.random_captions(READING_BATCH, rng))
            for group in optimizer.param_groups:
                group["lr"] = READING_RATE * min(1, (step + 1) / WARM_UP_STEPS) * 0.5 * (1 + math.cos(math.pi * share))
            with autocast(self.device):
                states = self.text(ids)
            reading = reader_loss(self.reader, states, said)
            optimizer.zero_grad(set_to_none=True)
            self.reader_optimizer.zero_grad(set_to_none=True)
            reading.backward()
            torch.nn.utils.clip_grad_norm_(text, 1.0)
            optimizer.step()
            self.reader_optimizer.step()
            step += 1
            if step % 100 == 0:
                print(f"reading {step} {share * minutes:.1f} min loss {reading.item():.3f}", flush=True)
        self.average = [p.detach().clone() for p in self.parameters]

    def stop(self, *_):
        self.stopped = True

    def run(self):
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        if self.step == 0:
            self.read(self.arguments.reading_minutes)
        saved = kept = self.spent
        smooth, before = None, time.monotonic()
        drawn = batches(self.data, self.arguments.batch, self.arguments.seed, self.step, self.device, self.arguments.workers)
        while self.spent < self.arguments.minutes and not self.stopped:
            losses = self.train_step(*next(drawn))
            smooth = losses if smooth is None else 0.99 * smooth + 0.01 * losses
            now = time.monotonic()
            self.spent, before = self.spent + (now - before) / 60, now
            if self.step % 100 == 0:
                print(f"{self.step} {self.spent:.1f} min loss {smooth[0]:.4f} reader {smooth[1]:.3f} rate {self.learning_rate():.1e}",
                      flush=True)
            if self.spent - saved >= self.arguments.save_minutes:
                self.validate(smooth[0])
                self.save()
                saved = self.spent
            if self.spent - kept >= self.arguments.keep_minutes:
                self.keep_stage()
                kept = self.spent
        if smooth is None:
            return
        if not self.stopped:
            self.validate(smooth[0])
            self.keep_stage()
        self.save()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="folder of this training run")
    parser.add_argument("--name", default="unet", help="name of the state file")
    parser.add_argument("--minutes", type=float, default=340, help="budget of the whole stage")
    parser.add_argument("--reading-minutes", type=float, default=5, help="before it, the text encoder alone")
    parser.add_argument("--init", help="model folder whose weights to start from")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=8e-4, help="highest learning rate")
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--keep-minutes", type=float, default=20)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw batches ahead: 4 on a GPU")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    Trainer(arguments).run()
