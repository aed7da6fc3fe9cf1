"""Linear layers in float32 on the CPU, through the faster of the two libraries that come with torch.

torch gives them to MKL, which on processors that are not Intel's leaves half of the machine unused: its matrix products
run at half of oneDNN's rate where there is AVX-512, and a single row (a decode step) keeps one core busy. oneDNN reads
the same weights, so nothing is copied. Small layers stay with MKL, whose calls are shorter. Which one computes follows
from sizes alone, never from a clock: the same call gives the same bits in every run. All of it is float32; the two
differ in the order of their sums (docs/numerics.md).

In: a module. Out: the same module, whose large `nn.Linear`s compute so. Names, weights and everything that is saved
stay as they are. Training does not use it: oneDNN compiles a kernel for each count of rows and keeps it, and there
every step has other counts. Nothing here knows what a layer is for.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST_WEIGHTS = 2**20
"""Inputs x outputs from which a layer is large: 1,024 x 1,024, the smallest of the released model."""

SOME_ROWS, LEAST_WIDTH = range(12, 65), 2048
"""Rows, as of a batch's decode step, and inputs from which the weight is better the left side of the product than the
right one."""

KEPT_KERNELS = "64"
"""Compiled kernels that oneDNN and torch's layer above it may each keep, 1 to 3 MB apiece; 1,024 by default. A model's
step needs about ten; a question of a new length compiles five again, a millisecond each."""


def use_fast_linears(module: nn.Module) -> None:
    """Let every large `nn.Linear` below ``module`` compute as `linear` does, where torch has both libraries.

    Bounds what oneDNN keeps in this process, unless the environment says how much and if nothing ran in it so far.
    """
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, KEPT_KERNELS)
    for layer in module.modules():
        if type(layer) is nn.Linear and layer.weight.numel() >= LEAST_WEIGHTS:
            layer.__class__ = FastLinear


class FastLinear(nn.Linear):
    """float[..., I] -> float[..., O]; everything but the product is `nn.Linear`'s."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x float[..., I], weight float[O, I], bias float[O] or None -> float[..., O]."""
    if not _suits(x, weight):
        return functional.linear(x, weight, bias)
    parts, rows = torch.get_num_threads(), x.numel() // x.shape[-1]
    if rows == 1 and bias is None and weight.shape[0] % parts == 0:
        return _one_row(x, weight, parts)
    if rows in SOME_ROWS and weight.shape[1] >= LEAST_WIDTH and bias is None:
        # Of the two sides oneDNN rearranges the second before it multiplies; here that is the smaller one by far.
        return _product(weight, x.reshape(rows, -1)).T.contiguous().view(*x.shape[:-1], -1)
    return _product(x, weight, bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


def _suits(x: Tensor, weight: Tensor) -> bool:
    # A compiler chooses its own kernels; what wants gradients, and tensors with a mind of their own, are left to torch.
    return (
        x.dtype is torch.float32
        and weight.dtype is torch.float32
        and weight.numel() >= LEAST_WEIGHTS
        and x.device.type == "cpu"
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and type(x) in (Tensor, nn.Parameter)
        and type(weight) in (Tensor, nn.Parameter)
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )


def _one_row(x: Tensor, weight: Tensor, parts: int) -> Tensor:
    """As many products as threads, each over its own rows of the weight, so that every core reads memory."""
    column = x.reshape(1, -1).T.expand(parts, -1, 1)  # with other strides of the same numbers MKL is four times slower
    return torch.bmm(weight.view(parts, weight.shape[0] // parts, -1), column).view(*x.shape[:-1], -1)
