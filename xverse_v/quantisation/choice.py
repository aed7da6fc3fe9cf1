"""Which kernel runs the quantised linears of this model on this machine: the fastest one, by measurement.

What crosses: a float weight and kernels in, a `Choice` out that keeps every number it rests on. A kernel that is not
faster than the float linear it would replace is never chosen; whether that ends the load is the caller's. Nothing is
replaced here.

Letters: O out features, I in features.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .kernels import Kernel, Product, prepare_float

MANY = 64
"""Rows of the second measurement: a short prompt, or a batch of answers."""

_ROUNDS = 7
_PROBE = 2**24  # weights of the probe at most, so that measuring stays short on a 13B model
_FLUSH = 2**26  # bytes read between two timings of a model that is larger than the processor's caches
_NEARLY = 1.25  # a kernel that is more exact is taken if it needs no more than this share of the fastest one's time


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one linear for one row (a decode step) and for `MANY` rows. On the CPU they are CPU time."""

    name: str
    one_row_ms: float
    many_rows_ms: float


@dataclass(frozen=True)
class Choice:
    """``order``: the kernels faster than float, the chosen one first. ``shape``: (O, I) of the linear measured."""

    order: tuple[Kernel, ...]
    timings: tuple[Timing, ...]
    plain: Timing
    shape: tuple[int, int]
    threads: int

    @property
    def best(self) -> Timing:
        """Of the chosen kernel; of the fastest one if none is faster than float."""
        if self.order:
            return next(timing for timing in self.timings if timing.name == self.order[0].name)
        return min(self.timings, key=lambda timing: timing.one_row_ms)

    def text(self) -> str:
        """The numbers in one line: "int8-dynamic 0.55 ms, float32 2.17 ms for one row of 2048 -> 5504, 1 threads"."""
        rows = ", ".join(f"{timing.name} {timing.one_row_ms:.3g} ms" for timing in (*self.timings, self.plain))
        outside, inside = self.shape
        slower = (
            ""
            if self.best.many_rows_ms <= self.plain.many_rows_ms
            else (f"; slower for {MANY} rows: {self.best.many_rows_ms:.3g} against {self.plain.many_rows_ms:.3g} ms")
        )
        return f"{rows} for one row of {inside} -> {outside}, {self.threads} threads{slower}"


def choose(weight: Tensor, kernels: Sequence[Kernel], *, cold: bool) -> Choice:
    """Measure ``kernels`` against the float linear on a part of ``weight`` float[O, I]; the first are the most exact.

    ``cold``: the model is larger than the caches, so its weights come from memory at every step.
    """
    rows = min(len(weight), max(64, _PROBE // weight.shape[1] // 64 * 64))
    part = weight[:rows].detach()
    if part.device.type == "cpu":
        part = part.float()  # the linears that are not quantised run in float32 there
    fitting = [kernel for kernel in kernels if kernel.fits(*part.shape)]
    products = [prepare_float(part), *(kernel.prepare(part) for kernel in fitting)]
    threads = torch.get_num_threads()
    if part.device.type == "cpu":
        torch.set_num_threads(1)  # CPU time of several would count how long they wait for each other
    try:
        one, many = (_measure(products, part, count, rounds, cold) for count, rounds in ((1, _ROUNDS), (MANY, 3)))
    finally:
        torch.set_num_threads(threads)
    names = [str(part.dtype).removeprefix("torch."), *(kernel.name for kernel in fitting)]
    plain, *timings = (Timing(*numbers) for numbers in zip(names, one, many, strict=True))
    return Choice(
        order=_order(fitting, timings, plain),
        timings=tuple(timings),
        plain=plain,
        shape=(part.shape[0], part.shape[1]),
        threads=1 if part.device.type == "cpu" else threads,
    )


def _order(kernels: Sequence[Kernel], timings: Sequence[Timing], plain: Timing) -> tuple[Kernel, ...]:
    """Those faster than float; first the most exact of those that are nearly the fastest, then the others by speed."""
    spent = {timing.name: timing.one_row_ms for timing in timings if timing.one_row_ms < plain.one_row_ms}
    faster = sorted((kernel for kernel in kernels if kernel.name in spent), key=lambda kernel: spent[kernel.name])
    if not faster:
        return ()
    limit = _NEARLY * spent[faster[0].name]
    first = next(kernel for kernel in kernels if spent.get(kernel.name, limit + 1) <= limit)
    return (first, *(kernel for kernel in faster if kernel is not first))


@torch.inference_mode()
def _measure(products: Sequence[Product], like: Tensor, rows: int, rounds: int, cold: bool) -> list[float]:
    """Median milliseconds of each product on ``rows`` rows, taken in turns so that a busy moment meets all of them."""
    x = torch.randn(rows, like.shape[1], device=like.device, dtype=like.dtype)
    flush = torch.zeros(_FLUSH // 4 if cold else 1, device=like.device)
    for product in products:
        product(x)
    spent: list[list[float]] = [[] for _ in products]
    for _ in range(rounds):
        for taken, product in zip(spent, products, strict=True):
            flush.sum()
            taken.append(_milliseconds(product, x))
    return [statistics.median(taken) for taken in spent]


def _milliseconds(product: Product, x: Tensor) -> float:
    """CPU time on the CPU, which other programs on the machine do not disturb; elsewhere until the device is done."""
    if x.device.type == "cpu":
        began = time.process_time()
        product(x)
        return (time.process_time() - began) * 1000
    torch.accelerator.synchronize(x.device)
    began = time.perf_counter()
    product(x)
    torch.accelerator.synchronize(x.device)
    return (time.perf_counter() - began) * 1000
