"""In which arithmetic the networks run: bf16 where the machine multiplies it natively, f32 elsewhere.

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
