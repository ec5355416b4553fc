"""The few-step variant: a LoRA of the UNet that needs four passes where the UNet needs sixteen.

    python3 distill.py --run DIR --model ../ --minutes 20      -> DIR/few-step.pt, and on export
                                                                  few-step/pytorch_lora_weights.safetensors

Guidance and step distillation in one (Meng et al., arXiv:2210.03142; Salimans and Ho, arXiv:2202.00512): at each
of the student's four timesteps the teacher takes two DDIM steps with classifier-free guidance, and the
student learns the v whose single step, without guidance, lands on the same latents. So the variant is run
with `steps` equal to --steps, DDIM, trailing spacing and guidance 1.
"""
import argparse

import torch

from arithmetic import autocast
from captioned import Captioned, batches
from diffusion import ALPHA, SIGMA, coefficients, denoise_step, guided_velocity, trailing_timesteps
from lora import LoraTrainer
from pipeline import FEW_STEP, GUIDANCE, Pipeline
from train_unet import random_timesteps_and_noise

TEACHER_STEPS = 2  # for each of the student's


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
        self.teacher, self.text = teacher.unet, teacher.text
        self.student = Pipeline(arguments.model, device=self.device).unet
        self.trainer = LoraTrainer(self.student, arguments.run, FEW_STEP, arguments.minutes, arguments.rate,
                                   self.device)
        self.batches = batches(self.data, arguments.batch, arguments.seed, self.trainer.step, self.device,
                               arguments.workers, empty=0.0)

    def loss(self, step):
        arguments = self.arguments
        stops = trailing_timesteps(arguments.steps) + [None]
        which = step % arguments.steps
        t, t_end = stops[which], stops[which + 1]
        latents, ids, *_ = next(self.batches)
        _, noise = random_timesteps_and_noise(latents, arguments.seed, step)
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
        return ((v.float() - target) ** 2).mean()

    def run(self):
        self.trainer.run(self.loss, cycle=self.arguments.steps)
        self.trainer.export(self.arguments.model)


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
    parser.add_argument("--workers", type=int, default=0, help="processes that draw batches ahead: 4 on a GPU")
    parser.add_argument("--seed", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    Distiller(arguments).run()
