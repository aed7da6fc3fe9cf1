"""The matrix products on quantised weights that torch brings for the CPU: how each stores a weight, and how it runs.

What crosses: a float weight in, a `Product` out, a function from float[..., I] to float[..., O] that holds the packed
weight. No module, no model and no choice between kernels: `choice` measures, `quantised` replaces. Kernels of other
devices are in `cuda_kernels`.

Letters: O out features, I in features, G groups of a row.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from xverse_v.linears import linear

Kind = Literal["int8", "int4"]
Product = Callable[[Tensor], Tensor]

GROUP = 128
"""Weights of one row that share a scale and a zero in four bits."""

_FBGEMM = "fbgemm"
_BLOCK = 2**22  # weights turned to float32 at a time
_SMALLEST = 1e-12  # stands for the scale of a row that is zero throughout


@dataclass(frozen=True)
class Kernel:
    """One way to run a linear. ``activations``: what its inputs are rounded to, the part that "weight-only" leaves out.

    ``fits``: whether it can hold a weight of (O, I). ``prepare``: float[O, I] -> its product; the float weight may be
    freed afterwards. ``stored_bytes``: of a weight (O, I), scales included.
    """

    name: str
    kind: Kind
    activations: str
    fits: Callable[[int, int], bool]
    prepare: Callable[[Tensor], Product]
    stored_bytes: Callable[[int, int], int]


def quantise_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """float[O, I] -> int8[O, I] in -127..127 and float32[O], symmetric, one scale a row: weight = values x scale.

    The scale maps the row's largest magnitude to 127, so no value is clipped; values are rounded half to even, so each
    is at most half a scale off.
    """
    weight = weight.detach()
    scale = (torch.linalg.vector_norm(weight, torch.inf, dim=1, dtype=torch.float32) / 127).clamp_min_(_SMALLEST)
    values = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    step = max(1, _BLOCK // weight.shape[1])
    for start in range(0, len(weight), step):  # in blocks: a head of the vocabulary would need gigabytes of float32
        block = weight[start : start + step].float() / scale[start : start + step, None]
        values[start : start + step] = block.round_().clamp_(-127, 127)
    return values, scale


def quantise_groups(weight: Tensor, group: int = GROUP) -> tuple[Tensor, Tensor]:
    """float[O, I] -> int32[O, I] in 0..15, bfloat16[G, O, 2] of scale and zero: weight = (values - 8) x scale + zero.

    Each group's least value and range fix its scale and zero, which are rounded to bfloat16 first, because the kernel
    reads them so; values are then rounded to the nearest for the scale that is used.
    """
    rows, columns = weight.shape
    groups = weight.detach().float().reshape(rows, columns // group, group)
    least, most = groups.amin(-1), groups.amax(-1)
    scale = ((most - least) / 15).clamp_min_(_SMALLEST).bfloat16()
    zero = (least + 8 * scale.float()).bfloat16()
    values = ((groups - zero.float()[..., None]) / scale.float()[..., None]).round_().add_(8).clamp_(0, 15)
    return values.reshape(rows, columns).to(torch.int32), torch.stack([scale.T, zero.T], -1).contiguous()


def dequantise_groups(values: Tensor, scales: Tensor, group: int = GROUP) -> Tensor:
    """The weight float32[O, I] that `quantise_groups` stands for."""
    scale, zero = (part.T.float().repeat_interleave(group, dim=1) for part in scales.unbind(-1))
    return (values.float() - 8) * scale + zero


def cpu_kernels(kind: Kind) -> list[Kernel]:
    """The kernels this torch has on the CPU for ``kind``, the most exact first."""
    if kind == "int4":
        return [INT4_WEIGHTS]
    return [INT8_WEIGHTS, *([INT8_DYNAMIC] if _FBGEMM in torch.backends.quantized.supported_engines else [])]


@cache
def activation_levels() -> int:
    """Levels on each side of zero that an activation may have in `int8-dynamic`: 127, or 63 where 127 overflow.

    Processors without VNNI add two products of eight bits in sixteen, which two large ones exceed. Found by trying the
    worst case, whose exact answer is known, at the shapes whose code paths differ.
    """
    worst = torch.full((64, 128), 127.0)
    for rows in (1, 16):
        found = _dynamic(worst, 127)(torch.ones(rows, 128))
        if not torch.allclose(found, torch.full_like(found, 127.0 * 128), rtol=1e-4):
            return 63
    return 127


def _prepare_dynamic(weight: Tensor) -> Product:
    return _dynamic(weight, activation_levels())


def _dynamic(weight: Tensor, levels: int) -> Product:
    """Eight-bit weights and activations, products summed as whole numbers.

    Every row of the input gets its own scale. torch's ready-made dynamic linear has one scale for the whole input,
    with which an answer would depend on what else is in its batch.
    """
    values, scale = quantise_rows(weight)
    zeros = torch.zeros(len(scale), dtype=torch.long)
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = _FBGEMM  # how a weight is packed follows this switch; how it runs does not
    try:
        with warnings.catch_warnings():
            # torch announces the end of these tensors, not of the kernel; nothing else packs for it so far.
            warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
            whole = torch._make_per_channel_quantized_tensor(values, scale.double(), zeros, 0)
        packed = torch.ops.quantized.linear_prepack(whole, None)
    finally:
        torch.backends.quantized.engine = engine
    run = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32

    def product(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1]).float()
        largest = flat.abs().amax(-1, keepdim=True).clamp_min_(_SMALLEST)
        y: Tensor = run(flat / largest, 1 / levels, levels + 1, packed)
        return y.mul_(largest).to(x.dtype).view(*x.shape[:-1], -1)

    return product


def _prepare_int8_weights(weight: Tensor) -> Product:
    """Eight-bit weights; inputs, scales and results in bfloat16, because the kernel is fast in nothing else."""
    values, scale = quantise_rows(weight)
    narrow = scale.bfloat16()

    def product(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1]).bfloat16()
        return torch._weight_int8pack_mm(flat, values, narrow).to(x.dtype).view(*x.shape[:-1], -1)

    return product


def _prepare_int4_weights(weight: Tensor) -> Product:
    """Four-bit weights in groups; inputs and results in bfloat16."""
    values, scales = quantise_groups(weight)
    packed = torch._convert_weight_to_int4pack_for_cpu(values, 1)

    def product(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1]).bfloat16()
        return torch._weight_int4pack_mm_for_cpu(flat, packed, GROUP, scales).to(x.dtype).view(*x.shape[:-1], -1)

    return product


def prepare_float(weight: Tensor) -> Product:
    """The linear as it is, in the weight's own dtype: what every kernel is measured against."""
    return lambda x: linear(x, weight)


def _int8_bytes(rows: int, columns: int) -> int:
    return rows * columns + 4 * rows


INT8_WEIGHTS = Kernel(
    name="int8-weights",
    kind="int8",
    activations="bfloat16",
    fits=lambda rows, columns: columns % 64 == 0,  # the kernel reads rows in whole vectors, past the end of others
    prepare=_prepare_int8_weights,
    stored_bytes=_int8_bytes,
)
INT8_DYNAMIC = Kernel(
    name="int8-dynamic",
    kind="int8",
    activations="int8, one scale a token",
    fits=lambda rows, columns: True,
    prepare=_prepare_dynamic,
    stored_bytes=_int8_bytes,
)
INT4_WEIGHTS = Kernel(
    name="int4-weights",
    kind="int4",
    activations="bfloat16",
    fits=lambda rows, columns: columns % GROUP == 0 and rows % 64 == 0,
    prepare=_prepare_int4_weights,
    stored_bytes=lambda rows, columns: rows * columns // 2 + 4 * rows * columns // GROUP,
)
