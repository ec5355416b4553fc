"""Low-rank additions to the UNet (Hu et al., arXiv:2106.09685): every convolution and linear layer but the first and
the last, in diffusers' names: unet.<layer>.lora_A.weight [rank, in, ...] and .lora_B.weight [out, rank, ...];
W + B·A, scale 1.
"""
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from optimizer import adam, update_average
from weights import save_safetensors

RANK = 16
WARM_UP_STEPS = 50
EMA_DECAY = 0.99
SAVE_MINUTES = 2


def pytorch_lora_file(model, variant):
    """Where a model folder keeps the LoRA of one of its variants."""
    return Path(model) / variant / "pytorch_lora_weights.safetensors"


class Lora(nn.Module):
    """A layer and its low-rank addition, which starts at zero."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = base
        if isinstance(base, nn.Conv2d):
            self.lora_A = nn.Conv2d(base.in_channels, rank, base.kernel_size, base.stride, base.padding, bias=False)
            self.lora_B = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        else:
            self.lora_A = nn.Linear(base.in_features, rank, bias=False)
            self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        return self.base(x) + self.lora_B(self.lora_A(x))


def add_lora(unet):
    """Wraps the layers in place -> {diffusers' name: Lora}"""
    wrapped = {}
    for name, module in list(unet.named_modules()):
        for child_name, child in list(module.named_children()):
            path = f"{name}.{child_name}" if name else child_name
            if isinstance(child, (nn.Conv2d, nn.Linear)) and path not in ("conv_in", "conv_out"):
                wrapped[path] = Lora(child, RANK)
                module._modules[child_name] = wrapped[path]
    return wrapped


def lora_tensors(wrapped):
    return {f"unet.{path}.{part}.weight": getattr(lora, part).weight
            for path, lora in wrapped.items() for part in ("lora_A", "lora_B")}


class LoraTrainer:
    """Trains the LoRA of `unet` alone, and keeps it in DIR/<variant>.pt: the same call goes on from there.

    The learning rate is a cosine over `minutes` of wall clock.
    """

    def __init__(self, unet, run, variant, minutes, rate, device):
        unet.requires_grad_(False)
        self.tensors = lora_tensors(add_lora(unet))
        unet.to(device, memory_format=torch.channels_last)
        self.variant, self.path = variant, Path(run) / f"{variant}.pt"
        self.minutes, self.rate = minutes, rate
        self.average = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        self.optimizer = adam(self.tensors.values(), rate, weight_decay=0)
        self.step, self.spent = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location=device)
            for name, tensor in self.tensors.items():
                tensor.data.copy_(state["tensors"][name])
            self.average = state["average"]
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.spent = state["step"], state["spent"]

    def save(self):
        torch.save({"tensors": {n: t.detach() for n, t in self.tensors.items()}, "average": self.average,
                    "optimizer": self.optimizer.state_dict(), "step": self.step, "spent": self.spent},
                   self.path.with_suffix(".partial"))
        self.path.with_suffix(".partial").rename(self.path)

    def learn(self, loss):
        share = min(1.0, self.spent / self.minutes)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1, (self.step + 1) / WARM_UP_STEPS) * \
                (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.tensors.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        update_average(list(self.average.values()), list(self.tensors.values()), decay)
        return loss.detach()

    def run(self, loss_of, cycle=1):
        """Learns from `loss_of(step)` until the budget is spent; prints the mean loss of each step of a cycle."""
        saved, before, losses = self.spent, time.monotonic(), []
        while self.spent < self.minutes:
            losses.append(self.learn(loss_of(self.step)))
            now = time.monotonic()
            self.spent, before = self.spent + (now - before) / 60, now
            if self.spent - saved >= SAVE_MINUTES or self.spent >= self.minutes:
                losses = losses[-200 * cycle:]
                first = self.step - len(losses)
                recent = [torch.stack(losses[(k - first) % cycle::cycle]).mean().item() for k in range(cycle)]
                print(self.step, f"{self.spent:.1f} min", "loss", np.round(recent, 4), flush=True)
                self.save()
                saved = self.spent

    def export(self, model):
        """The averaged LoRA, in f16."""
        file = pytorch_lora_file(model, self.variant)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_safetensors(file, self.average)
        print(f"{file}: {sum(t.numel() for t in self.average.values()) / 1e6:.2f} M parameters")
