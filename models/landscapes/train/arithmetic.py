"""How the networks are run: in bf16 where the machine multiplies it natively, in f32 elsewhere; compiled on a GPU.

A CPU without AVX-512's or AMX's bf16 instructions emulates it, 14 times slower than f32.
"""
from functools import lru_cache
from pathlib import Path

import torch

CPU_FLAGS = ("avx512_bf16", "amx_bf16")


@lru_cache()
def has_bf16(kind):
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and any(flag in cpu.read_text() for flag in CPU_FLAGS)


def autocast(device, enabled=True):
    """The context in which networks run on `device`."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled and has_bf16(kind))


def compiled(network):
    """The network as one CUDA graph of fused kernels; on a CPU, as it is. For batches of one shape only, and for more than a
    few minutes: an H200's machine compiled the UNet for 1.4 of them."""
    if next(network.parameters()).device.type != "cuda":
        return network
    return torch.compile(network, mode="reduce-overhead", dynamic=False)


def adam(parameters, rate, weight_decay):
    """AdamW, in one kernel on a GPU."""
    parameters = list(parameters)
    form = {"fused": True} if parameters[0].device.type == "cuda" else {"foreach": True}
    return torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=weight_decay, **form)


@torch.no_grad()
def swap(tensors, others):
    """Exchanges their contents; a CUDA graph knows its tensors by their place."""
    for a, b in zip(tensors, others):
        kept = a.clone()
        a.copy_(b)
        b.copy_(kept)


@torch.no_grad()
def update_average(average, tensors, decay):
    """average ← decay · average + (1 − decay) · tensors"""
    torch._foreach_mul_(average, decay)
    torch._foreach_add_(average, [tensor.detach() for tensor in tensors], alpha=1 - decay)
