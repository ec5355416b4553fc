"""The few-step variant: a LoRA of the UNet that needs four passes where the UNet needs sixteen.

    python3 distill.py --run DIR --model ../ --minutes 20      -> DIR/few-step.pt, and on export
                                                                  few-step/pytorch_lora_weights.safetensors

Guidance and step distillation in one (Meng et al., arXiv:2210.03142; Salimans and Ho, arXiv:2202.00512): at each
of the student's four timesteps the teacher takes two DDIM steps with classifier-free guidance, and the
student learns the v whose single step, without guidance, lands on the same latents. So the variant is run
with `steps` equal to --steps, DDIM, trailing spacing and guidance 1.

The LoRA adapts every convolution and linear layer of the UNet but the first and the last, in diffusers'
names: unet.<layer>.lora_A.weight [rank, in, ...] and .lora_B.weight [out, rank, ...]; W + B·A, scale 1.
"""
import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from arithmetic import autocast
from captioned import Captioned
from diffusion import ALPHA, SIGMA, coefficients, denoise_step, guided_velocity, trailing_timesteps
from pipeline import GUIDANCE, Pipeline
from weights import save_safetensors

RANK = 16
TEACHER_STEPS = 2  # for each of the student's
WARM_UP_STEPS = 50
EMA_DECAY = 0.99
SAVE_MINUTES = 2


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


def add_lora(unet, rank):
    """Wraps the layers in place -> {diffusers' name: Lora}"""
    wrapped = {}
    for name, module in list(unet.named_modules()):
        for child_name, child in list(module.named_children()):
            path = f"{name}.{child_name}" if name else child_name
            if isinstance(child, (nn.Conv2d, nn.Linear)) and path not in ("conv_in", "conv_out"):
                wrapped[path] = Lora(child, rank)
                module._modules[child_name] = wrapped[path]
    return wrapped


def lora_tensors(wrapped):
    return {f"unet.{path}.{part}.weight": getattr(lora, part).weight
            for path, lora in wrapped.items() for part in ("lora_A", "lora_B")}


@torch.no_grad()
def teacher_target(teacher, x, t, t_end, conditioning, unconditional, guidance):
    """The v at (x, t) whose one DDIM step to t_end (None: clean) is where the guided teacher gets in several."""
    last = -1 if t_end is None else t_end
    stops = [t - round((t - last) * k / TEACHER_STEPS) for k in range(1, TEACHER_STEPS)] + [t_end]
    y, at = x, t
    for stop in stops:
        y = denoise_step(y, guided_velocity(teacher, y, at, conditioning, unconditional, guidance), at, stop)
        at = stop
    if t_end is None:
        return (ALPHA[t] * x - y) / SIGMA[t]
    # x' = α'z + σ'ε with z = αx − σv and ε = σx + αv, solved for v
    return (y - (ALPHA[t_end] * ALPHA[t] + SIGMA[t_end] * SIGMA[t]) * x) / \
        (SIGMA[t_end] * ALPHA[t] - ALPHA[t_end] * SIGMA[t])


class Distiller:
    def __init__(self, arguments):
        self.arguments, self.device = arguments, arguments.device
        torch.manual_seed(arguments.seed)
        self.data = Captioned(arguments.run, "train")
        teacher = Pipeline(arguments.model, device=self.device)
        student = Pipeline(arguments.model, device=self.device)
        self.teacher, self.text, self.student = teacher.unet, teacher.text, student.unet
        self.lora = add_lora(self.student, RANK)
        self.student.to(self.device, memory_format=torch.channels_last)
        self.tensors = lora_tensors(self.lora)
        self.average = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        self.optimizer = torch.optim.AdamW(self.tensors.values(), lr=arguments.rate, betas=(0.9, 0.99),
                                           weight_decay=0, foreach=True)
        self.path = Path(arguments.run) / "few-step.pt"
        self.step, self.spent = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location=self.device)
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

    def train_step(self):
        arguments = self.arguments
        rng = np.random.default_rng([arguments.seed, self.step])
        generator = torch.Generator().manual_seed(arguments.seed * 1_000_003 + self.step)
        stops = trailing_timesteps(arguments.steps) + [None]
        which = self.step % arguments.steps
        t, t_end = stops[which], stops[which + 1]
        latents, ids, *_ = self.data.random_batch(arguments.batch, rng, empty=0.0)
        noise = torch.randn(latents.shape, generator=generator)
        latents, noise, ids = latents.to(self.device), noise.to(self.device), ids.to(self.device)
        timesteps = torch.full((len(latents),), t, device=self.device)
        alpha, sigma = coefficients(timesteps, latents)
        x = (alpha * latents + sigma * noise).contiguous(memory_format=torch.channels_last)
        with autocast(self.device):
            with torch.no_grad():
                conditioning = self.text(ids)
                empty = self.text(torch.tensor([self.data.tokenizer.encode("")], device=self.device))
            target = teacher_target(self.teacher, x, t, t_end, conditioning, empty.expand_as(conditioning),
                                    arguments.guidance)
            v = self.student(x, timesteps, conditioning)
        loss = ((v.float() - target) ** 2).mean()
        share = min(1.0, self.spent / arguments.minutes)
        for group in self.optimizer.param_groups:
            group["lr"] = arguments.rate * min(1, (self.step + 1) / WARM_UP_STEPS) * \
                (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.tensors.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        for name, tensor in self.tensors.items():
            self.average[name].mul_(decay).add_(tensor.detach(), alpha=1 - decay)
        return loss.item()

    def run(self):
        saved, before, losses = self.spent, time.monotonic(), []
        while self.spent < self.arguments.minutes:
            losses.append(self.train_step())
            now = time.monotonic()
            self.spent, before = self.spent + (now - before) / 60, now
            if self.spent - saved >= SAVE_MINUTES or self.spent >= self.arguments.minutes:
                recent = [np.mean(losses[-200:][k::self.arguments.steps]) for k in range(self.arguments.steps)]
                print(self.step, f"{self.spent:.1f} min", "loss by timestep", np.round(recent, 4), flush=True)
                self.save()
                saved = self.spent


def export(run, out):
    """The averaged LoRA, in f16."""
    state = torch.load(Path(run) / "few-step.pt", map_location="cpu")
    folder = Path(out) / "few-step"
    folder.mkdir(parents=True, exist_ok=True)
    save_safetensors(folder / "pytorch_lora_weights.safetensors", state["average"])
    print(f"{folder}: {sum(t.numel() for t in state['average'].values()) / 1e6:.2f} M parameters")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="folder of the training run")
    parser.add_argument("--model", required=True, help="exported model to distil; the LoRA is written beside it")
    parser.add_argument("--minutes", type=float, default=20, help="budget of this stage")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    Distiller(arguments).run()
    export(arguments.run, arguments.model)
