"""Quantised linears on a CUDA device, by torchao or bitsandbytes, whichever is installed. Not run on a GPU so far.

What crosses: as in `kernels`. Both libraries are optional and imported only here; `choice` measures what they bring on
the device at hand, so a kernel that is slower than the half-precision linear is refused there as anywhere.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from xverse_v.errors import error

from .kernels import GROUP, Kernel, Kind, Product


def cuda_kernels(kind: Kind) -> list[Kernel]:
    """The kernels of the installed libraries for ``kind``, the most exact first. Raises E863 if there is neither."""
    found = [kernel for library, kernels in _KERNELS.items() if find_spec(library) for kernel in kernels]
    if not found:
        raise error("E863", kind=kind)
    return [kernel for kernel in found if kernel.kind == kind]


def _torchao_int8(weight: Tensor) -> Product:
    torchao = import_module("torchao.quantization")
    linear = _linear(weight)
    torchao.quantize_(linear, torchao.Int8WeightOnlyConfig())
    return linear


def _torchao_int4(weight: Tensor) -> Product:
    torchao = import_module("torchao.quantization")
    linear = _linear(weight.to(torch.bfloat16))  # its kernel knows no other activations
    torchao.quantize_(linear, torchao.Int4WeightOnlyConfig(group_size=GROUP))

    def product(x: Tensor) -> Tensor:
        y: Tensor = linear(x.to(torch.bfloat16))
        return y.to(x.dtype)

    return product


def _bitsandbytes_int8(weight: Tensor) -> Product:
    bitsandbytes = import_module("bitsandbytes")
    rows, columns = weight.shape
    linear = bitsandbytes.nn.Linear8bitLt(columns, rows, bias=False, has_fp16_weights=False, device="meta")
    linear.weight = bitsandbytes.nn.Int8Params(
        weight.detach().half().cpu(), requires_grad=False, has_fp16_weights=False
    )
    return linear.to(weight.device)  # moving it to the device is what quantises it


def _bitsandbytes_nf4(weight: Tensor) -> Product:
    bitsandbytes = import_module("bitsandbytes")
    rows, columns = weight.shape
    linear = bitsandbytes.nn.Linear4bit(
        columns, rows, bias=False, compute_dtype=weight.dtype, quant_type="nf4", device="meta"
    )
    linear.weight = bitsandbytes.nn.Params4bit(weight.detach().cpu(), requires_grad=False, quant_type="nf4")
    return linear.to(weight.device)


def _linear(weight: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return linear


def _int8_bytes(rows: int, columns: int) -> int:
    return rows * columns + 4 * rows


_KERNELS = {
    "torchao": (
        Kernel("int8-torchao", "int8", "as loaded", lambda rows, columns: True, _torchao_int8, _int8_bytes),
        Kernel(
            "int4-torchao",
            "int4",
            "bfloat16",
            lambda rows, columns: columns % GROUP == 0 and rows % 8 == 0,
            _torchao_int4,
            lambda rows, columns: rows * columns // 2 + 4 * rows * columns // GROUP,
        ),
    ),
    "bitsandbytes": (
        Kernel("int8-bitsandbytes", "int8", "int8", lambda rows, columns: True, _bitsandbytes_int8, _int8_bytes),
        Kernel(
            "nf4-bitsandbytes",
            "int4",
            "as loaded",
            lambda rows, columns: columns % 64 == 0,
            _bitsandbytes_nf4,
            lambda rows, columns: rows * columns // 2 + 4 * rows * columns // 64,
        ),
    ),
}
