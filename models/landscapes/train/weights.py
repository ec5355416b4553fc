"""Reads and writes safetensors files: 8 bytes of length, a JSON header, the tensors end to end.

The format is small enough that the `safetensors` package is not needed.
"""
import json
import struct

import numpy as np
import torch

DTYPES = {"F16": np.float16, "F32": np.float32}


def save_safetensors(path, tensors, dtype="F16"):
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, tensor in tensors.items():
        array = tensor.detach().cpu().float().contiguous(memory_format=torch.contiguous_format).numpy()
        blob = np.ascontiguousarray(array.astype(DTYPES[dtype])).tobytes()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def load_safetensors(path):
    """name -> f32 tensor"""
    with open(path, "rb") as file:
        data = file.read()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        array = np.frombuffer(data[start + first:start + last], DTYPES[entry["dtype"]])
        tensors[name] = torch.from_numpy(array.reshape(entry["shape"]).astype(np.float32))
    return tensors
