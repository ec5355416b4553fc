"""The diffusion process: its noise schedule, what the UNet predicts, and the DDIM sampler.

    x_t = α_t z + σ_t ε        α² + σ² = 1; scaled-linear betas 0.00085 .. 0.02, 1000 timesteps
    v_t = α_t ε − σ_t z        the UNet's target (Salimans and Ho, arXiv:2202.00512)
"""
from functools import lru_cache

import torch

TIMESTEPS, BETA_START, BETA_END = 1000, 0.00085, 0.02

_betas = torch.linspace(BETA_START ** 0.5, BETA_END ** 0.5, TIMESTEPS, dtype=torch.float64) ** 2
_alphas = torch.cumprod(1 - _betas, 0)
ALPHA, SIGMA = _alphas.sqrt().float(), (1 - _alphas).sqrt().float()


@lru_cache()
def _tables(device):
    return ALPHA.to(device), SIGMA.to(device)


def coefficients(t, like):
    """α and σ at timesteps t [n], to multiply [n, c, h, w] by"""
    return [table[t].view(-1, 1, 1, 1) for table in _tables(like.device)]


def trailing_timesteps(steps):
    """999 first, evenly spaced, as diffusers' timestep_spacing "trailing"."""
    return [round(TIMESTEPS - k * TIMESTEPS / steps) - 1 for k in range(steps)]


def denoise_step(x, v, t, t_next):
    """DDIM: x_t and the predicted v -> x at t_next, or the clean latents where t_next is None."""
    z = ALPHA[t] * x - SIGMA[t] * v
    if t_next is None:
        return z
    return ALPHA[t_next] * z + SIGMA[t_next] * (SIGMA[t] * x + ALPHA[t] * v)


def guided_velocity(unet, x, t, conditioning, unconditional, guidance):
    """v with classifier-free guidance; guidance 1 costs one pass, anything else two in one batch."""
    timesteps = torch.full((len(x),), t, device=x.device)
    if guidance == 1:
        return unet(x, timesteps, conditioning).float()
    both = unet(torch.cat([x, x]), torch.cat([timesteps, timesteps]), torch.cat([conditioning, unconditional]))
    with_text, without = both.float().chunk(2)
    return without + guidance * (with_text - without)


@torch.no_grad()
def sample(unet, noise, conditioning, unconditional, steps, guidance):
    """noise [n, 12, h, w] -> latents"""
    x, timesteps = noise, trailing_timesteps(steps)
    for t, t_next in zip(timesteps, timesteps[1:] + [None]):
        x = denoise_step(x, guided_velocity(unet, x, t, conditioning, unconditional, guidance), t, t_next)
    return x
