"""What this machine can do at most, measured on the spot: matrix rates, reading and copying of memory.

In: a device and dtypes. Out: `Ceilings`, each a `Rate` with every sample. A ceiling is the best of its samples, because
whatever else runs only slows them; the median beside it says how disturbed the machine was. Buffers are far larger than
the caches. Reading is tried in two ways (a matrix-vector product, which is what decoding is, and a sum) and the better
one is the ceiling, so that no kernel is praised for beating a weak probe. No model is known here.

Units: FLOP/s (two a multiply-add) and bytes/s; GB is 10^9 bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from xverse_v.linears import linear
from xverse_v.weights.plan_time import Rates

BUFFER_BYTES = {"cpu": 2**29, "cuda": 2**32}
SIDES = {"cpu": (2048, 3072), "cuda": (8192, 16384)}
"""Square products that are tried; the caches hold neither side of them."""
SLOWEST_PRODUCT = 1.5
"""Seconds; a dtype whose product would take longer (no kernel for it) is measured at the trial's size."""
REPEATS = 9
GB = 1e9


@dataclass(frozen=True)
class Rate:
    """One ceiling. `best` counts, `median` shows the machine's unrest; `probe` says how it was measured."""

    name: str
    unit: str
    samples: tuple[float, ...]
    probe: str

    @property
    def best(self) -> float:
        return max(self.samples)

    @property
    def median(self) -> float:
        return median(self.samples)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "best": self.best,
            "median": self.median,
            "n": len(self.samples),
            "probe": self.probe,
        }


@dataclass(frozen=True)
class Ceilings:
    """What one device can do. `matrix` by dtype; `reads`, one a probe, and `copy` in bytes/s, a copy counting both
    directions."""

    device: str
    threads: int
    matrix: Mapping[str, Rate]
    reads: tuple[Rate, ...]
    copy: Rate

    @property
    def read(self) -> Rate:
        """The faster probe: the ceiling of all that reads memory."""
        return max(self.reads, key=lambda rate: rate.best)

    def rates(self, dtype: str = "float32") -> Rates:
        """For `Work.on`: the matrix rate of a dtype and the reading of memory. Raises `KeyError` if not measured."""
        source = f"measured here: {self.device}, {self.threads} threads, best of {len(self.read.samples)}"
        return Rates(self.matrix[dtype].best, self.read.best, source)

    def fastest_dtype(self) -> str:
        """The dtype of the highest matrix rate: which one to compute in is measured, not assumed."""
        return max(self.matrix, key=lambda dtype: self.matrix[dtype].best)

    def as_dict(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "threads": self.threads,
            "matrix": {dtype: rate.as_dict() for dtype, rate in self.matrix.items()},
            "read": self.read.as_dict(),
            "reads": [rate.as_dict() for rate in self.reads],
            "copy": self.copy.as_dict(),
        }


def measure_ceilings(
    device: str = "cpu",
    dtypes: Sequence[str] = ("float32",),
    *,
    repeats: int = REPEATS,
    sides: Sequence[int] | None = None,
    buffer_bytes: int | None = None,
) -> Ceilings:
    """Measure a device; some ten seconds on two cores. `sides` and `buffer_bytes` are for tests: small ones fit caches
    and mean nothing."""
    kind = torch.device(device).type
    size = buffer_bytes or BUFFER_BYTES.get(kind, BUFFER_BYTES["cpu"])
    tried = tuple(sides or SIDES.get(kind, SIDES["cpu"]))
    reads = (_read_by_product(device, size, repeats), _read_by_sum(device, size, repeats))
    copy = _copy(device, size, repeats)
    matrix = {dtype: matrix_rate(device, dtype, tried, repeats=repeats) for dtype in dtypes}
    return Ceilings(device_name(device), torch.get_num_threads(), matrix, reads, copy)


def matrix_rate(device: str, dtype: str, sides: Sequence[int], *, repeats: int = REPEATS) -> Rate:
    """Square products of float[side, side] in `dtype`, FLOP/s; of several sides, and on the CPU of the two libraries
    that compute float32 (`linears`), the fastest one counts.

    A dtype without a fast kernel (bfloat16 on a CPU without AVX512 or AMX) is measured at an eighth of the side only.
    """
    trial = _product(device, dtype, max(1, min(sides) // 8), 3)
    expected = [side for side in sides if 2 * side**3 / trial.best < SLOWEST_PRODUCT]
    found = [_product(device, dtype, side, repeats) for side in expected]
    if device == "cpu" and dtype == "float32":
        found += [_product(device, dtype, side, repeats, linear) for side in expected]
    return max(found, key=lambda rate: rate.best, default=trial)


def device_name(device: str) -> str:
    """The GPU's own name, or the processor's."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} cores of {processor_name()}"


def processor_name() -> str:
    """As the system names it; "an unnamed processor" where it does not."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    known = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags]
    return f"{named or 'an unnamed processor'}{f' ({known[0]})' if known else ''}"


def seconds_of(work: Callable[[], object], device: str = "cpu", *, repeats: int = 1) -> list[float]:
    """Wall seconds of each of `repeats` calls, waiting for the device; one call before them is not counted."""
    work()
    return [_once(work, device) for _ in range(repeats)]


def _once(work: Callable[[], object], device: str) -> float:
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _product(
    device: str, dtype: str, side: int, repeats: int, product: Callable[[Tensor, Tensor], Tensor] = torch.mm
) -> Rate:
    wanted = getattr(torch, dtype)
    left = torch.randn(side, side, device=device).to(wanted)
    right = torch.randn(side, side, device=device).to(wanted)
    times = seconds_of(lambda: product(left, right), device, repeats=repeats)
    library = ", oneDNN" if product is linear else ""
    return Rate(f"matrix {dtype}", "FLOP/s", tuple(2 * side**3 / t for t in times), f"{side} x {side} product{library}")


def _read_by_product(device: str, size: int, repeats: int) -> Rate:
    width = 4096 if size >= 2**24 else 64
    tall = torch.ones(size // 4 // width, width, device=device)
    vector, out = torch.ones(width, device=device), torch.empty(tall.shape[0], device=device)
    times = seconds_of(lambda: torch.mv(tall, vector, out=out), device, repeats=repeats)
    moved = tall.numel() * 4
    return Rate(
        "read", "bytes/s", tuple(moved / t for t in times), f"matrix-vector product over {moved / 2**20:.0f} MiB"
    )


def _read_by_sum(device: str, size: int, repeats: int) -> Rate:
    flat = torch.ones(size // 4, device=device)
    times = seconds_of(flat.sum, device, repeats=repeats)
    return Rate("read", "bytes/s", tuple(flat.numel() * 4 / t for t in times), f"sum over {size / 2**20:.0f} MiB")


def _copy(device: str, size: int, repeats: int) -> Rate:
    source = torch.ones(size // 8, device=device)
    target = torch.empty_like(source)
    times = seconds_of(lambda: target.copy_(source), device, repeats=repeats)
    moved = 2 * source.numel() * 4
    return Rate("copy", "bytes/s", tuple(moved / t for t in times), f"copy of {size / 2**21:.0f} MiB, both directions")
