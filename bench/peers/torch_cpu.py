"""PyTorch on the CPU, where the system's Python has it. Speaks the protocol of peer.ts."""

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


def reply(message):
    print("@@reply " + json.dumps(message), flush=True)


def load(tensor):
    return torch.from_numpy(np.fromfile(tensor["file"], dtype=np.float32).reshape(tensor["shape"]))


def prepare(work):
    if work["kind"] != "op":
        raise ValueError("PyTorch takes part in single operations only")
    op = work["op"]
    t = {name: load(tensor) for name, tensor in work["tensors"].items()}
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
        if hasattr(F, "scaled_dot_product_attention"):
            attend = lambda: F.scaled_dot_product_attention(q, k, v)
        else:
            attend = lambda: torch.softmax((q * head**-0.5) @ k.transpose(-1, -2), -1) @ v
        return lambda: attend().permute(0, 2, 1, 3).reshape(1, -1, heads * head)
    raise ValueError(f"no operation {op['kind']}")


run = None
torch.set_grad_enabled(False)
torch.set_num_threads(os.cpu_count())
blas = "MKL" if torch.backends.mkl.is_available() else "the system's libblas"
reply({"ready": f"PyTorch {torch.__version__}, CPU, {torch.get_num_threads()} threads, {blas}"})
for line in sys.stdin:
    request = json.loads(line)
    try:
        if request["method"] == "prepare":
            run = prepare(request["work"])
            run()
            reply({"ok": True})
        elif request["method"] in ("run", "output"):
            begun, cpu = time.perf_counter(), time.process_time()
            for _ in range(request.get("times", 1)):
                result = run()
            wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
            if request["method"] == "output":
                result.contiguous().numpy().astype(np.float32).tofile(request["file"])
            reply({"ok": True, "milliseconds": wall * 1000, "cpuMilliseconds": cpu * 1000})
        else:
            run = None
            reply({"ok": True})
    except Exception as error:
        reply({"error": f"{type(error).__name__}: {error}"})
