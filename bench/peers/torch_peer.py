"""PyTorch, where there is one: `torch_peer.py '{"device": "cpu" | "cuda", "type": "f32" | "f16", "graph": false}'`.

Speaks the protocol of peer.ts. On CUDA: TF32 off, convolutions channels-last and chosen by cudnn's benchmark; `graph` replays
a CUDA graph, which leaves out what Python costs. Results are given in f32.
"""

import contextlib
import json
import os
import sys
import time

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
except Exception as error:  # not installed: said in the table
    print("@@reply " + json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
    sys.exit(0)

options = {"device": "cpu", "type": "f32", "graph": False, **json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}")}
device = torch.device(options["device"])
dtype = {"f32": torch.float32, "f16": torch.float16}[options["type"]]
on_gpu = device.type == "cuda"


def reply(message):
    print("@@reply " + json.dumps(message), flush=True)


def load(tensor):
    values = torch.from_numpy(np.fromfile(tensor["file"], dtype=np.float32).reshape(tensor["shape"]))
    return place(values.to(device, dtype))


def place(values):
    """On a GPU, pictures and windows in the layout that its units take."""
    return values.contiguous(memory_format=torch.channels_last) if on_gpu and values.dim() == 4 else values


def attend(q, k, v):
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v)
    return torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), -1) @ v


def operation(op, tensors):
    t = {name: load(tensor) for name, tensor in tensors.items()}
    if op["kind"] == "gemm":
        return lambda: F.linear(t["x"], t["weight"])
    if op["kind"] == "conv":
        return lambda: F.conv2d(t["x"], t["weight"], t["bias"], stride=op["stride"], padding=op["padding"])
    if op["kind"] == "group-norm":

        def chain():
            x = t["x"]
            for _ in range(op["times"]):
                x = F.silu(F.group_norm(x, op["groups"], t["gamma"], t["beta"], 1e-5))
            return x

        return chain
    if op["kind"] == "attention":
        heads, head = op["heads"], op["head"]

        def split(x):
            return x.reshape(1, -1, heads, head).permute(0, 2, 1, 3)

        q, k, v = (split(t[name]).contiguous() for name in ("query", "key", "value"))
        return lambda: attend(q, k, v).permute(0, 2, 1, 3).reshape(1, -1, heads * head)
    raise ValueError(f"no operation {op['kind']}")


def network(work):
    """A UNet (torch_unet.py) with the weights that generated-weights.ts would give it."""
    from torch_unet import UNet

    description = work.get("unet")
    if description is None:
        raise ValueError("of whole networks PyTorch takes part in UNets only")
    with torch.device(device) if hasattr(torch.device, "__enter__") else contextlib.nullcontext():
        model = UNet(description["config"]).to(device, dtype)
    pool = load(description["pool"]).double()
    state = {}
    for name, own in model.state_dict().items():
        spec = description["tensors"][name]
        at = (spec["at"] + torch.arange(own.numel(), device=device)) % pool.numel()
        state[name] = (pool[at] * spec["scale"] + spec["mean"]).to(dtype).reshape(own.shape)
    model.load_state_dict(state)
    if on_gpu:
        model.to(memory_format=torch.channels_last)
    inputs = [load(work["tensors"][name]) for name in ("sample", "timestep", "text")]
    return lambda: model(*inputs)


def captured(compute):
    """Replays of a CUDA graph of `compute`."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            compute()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = compute()

    def replay():
        graph.replay()
        return result

    return replay


def finish():
    if on_gpu:
        torch.cuda.synchronize()


def prepare(work):
    compute = operation(work["op"], work["tensors"]) if work["kind"] == "op" else network(work)
    compute()
    finish()
    return captured(compute) if options["graph"] else compute


run = None
torch.set_grad_enabled(False)
torch.set_num_threads(os.cpu_count())
try:
    if on_gpu:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        torch.zeros(1, device=device)
        where = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cudnn {torch.backends.cudnn.version()}"
    else:
        blas = "MKL" if torch.backends.mkl.is_available() else "the system's libblas"
        where = f"CPU, {torch.get_num_threads()} threads, {blas}"
except Exception as error:
    reply({"error": f"{type(error).__name__}: {error}"})
    sys.exit(0)
reply({"ready": f"PyTorch {torch.__version__}, {options['type']}{', graph' if options['graph'] else ''}, {where}"})
for line in sys.stdin:
    request = json.loads(line)
    try:
        if request["method"] == "prepare":
            run = None
            run = prepare(request["work"])
            reply({"ok": True})
        elif request["method"] in ("run", "output"):
            begun, cpu = time.perf_counter(), time.process_time()
            for _ in range(request.get("times", 1)):
                result = run()
            finish()
            wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
            if request["method"] == "output":
                result.float().contiguous().cpu().numpy().tofile(request["file"])
            reply({"ok": True, "milliseconds": wall * 1000, "cpuMilliseconds": cpu * 1000})
        else:
            run = None
            reply({"ok": True})
    except Exception as error:
        reply({"error": f"{type(error).__name__}: {error}"[:2000]})
