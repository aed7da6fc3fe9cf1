"""Load one folder and say what it took: `python -m xverse_v.speed.loading_probe FOLDER DTYPE`, or `... FOLDER plain` to
read its weight files as any program would.

A process of its own, because the peak of a process's memory can only grow. Out, on stdout: one JSON object with seconds
until the model is there, seconds until every byte of it has been read once, and bytes of memory at the peak above what
the process had before. It measures nothing else and prints nothing else.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

from xverse_v.model import XverseVForConditionalGeneration
from xverse_v.speed.loading import PLAIN, read_seconds
from xverse_v.weights.load import load_model
from xverse_v.weights.parts import weight_files

PAGE = 4096


def read_once(network: XverseVForConditionalGeneration) -> float:
    """One number of every page, so that each comes from the disk if it is not in memory. Their sum, so that nobody
    skips it."""
    total = 0.0
    for parameter in network.parameters():
        flat = parameter.detach().view(-1)
        total += float(flat[:: PAGE // flat.element_size()].float().sum())
    return total


def memory(field: str) -> int:
    """Bytes of a line of /proc/self/status; 0 where there is none."""
    path = Path("/proc/self/status")
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def forget_peak() -> None:
    """Start the kernel's count of the peak anew."""
    path = Path("/proc/self/clear_refs")
    if path.exists() and os.access(path, os.W_OK):
        path.write_text("5", encoding="ascii")


def main() -> None:
    """See the module's docstring."""
    folder, how = sys.argv[1:3]
    torch.ones(8).sum()  # what torch makes at its first operation is not the model's
    found = {"read_seconds": read_seconds(weight_files(Path(folder)))} if how == PLAIN else load(folder, how)
    sys.stdout.write(json.dumps(found) + "\n")


def load(folder: str, dtype: str) -> dict[str, float]:
    """Load, and read every page once."""
    forget_peak()
    before = memory("VmRSS")
    began = time.perf_counter()
    network = load_model(folder, dtype=dtype)
    loaded = time.perf_counter()
    checksum = read_once(network)
    done = time.perf_counter()
    return {
        "load_seconds": loaded - began,
        "read_seconds": done - began,
        "weights_bytes": sum(parameter.nbytes for parameter in network.parameters()),
        "peak_bytes": memory("VmHWM") - before,
        "own_bytes": memory("RssAnon"),
        "checksum": checksum,
    }


if __name__ == "__main__":
    main()
