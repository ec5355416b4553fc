"""The optimizer of all stages, and the averages of weights that they keep beside it."""
import torch


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
