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
