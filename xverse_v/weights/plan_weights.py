"""Weights as they lie in the memory of one device, quantised ones included.

In: a shape, the dtype that was asked for, the kind of device. Out: bytes, as items of a plan. On a GPU, int8 and int4
are counted as engines hold them: the linears alone, head and all else in 16 bits. On a CPU, as our own `--quantise`
does: the head in int8, linears that four bits cannot hold in int8, all else in float32. Which of its kernels runs is
measured when weights are loaded; none is here, so one is taken to be there for every linear.
"""

from __future__ import annotations

from xverse_v.weights.plan_table import Item
from xverse_v.weights.shapes import (
    ELEMENT_BYTES,
    INT4_GROUP,
    DecoderShape,
    ModelShape,
    compute_dtype,
    linear_bytes,
)

INT4_ROWS = 64
"""Out-features that our CPU kernel of four bits takes at a time; other linears are held in int8 there."""


def weight_items(shape: ModelShape, decoder: DecoderShape, dtype: str, device: str = "cuda") -> list[Item]:
    """Stored weights of one device. `decoder` may be a GPU's part of it; the rest is whole on every device."""
    plain = compute_dtype(dtype, device)
    each = ELEMENT_BYTES[plain]
    bits = f" x {each} bytes" if dtype in ELEMENT_BYTES else f", linears in {dtype}, the rest in {plain}"
    other = decoder.body_parameters - decoder.linear_parameters
    body = linears_bytes(decoder, dtype, device) + other * each
    vision, projector = shape.vision.parameters, shape.projector_parameters
    return [
        Item("decoder layers", f"{decoder.body_parameters:,} parameters{bits}", body),
        _embeddings_and_head(shape, decoder, dtype, device),
        Item("vision tower", f"{vision:,} parameters x {each} bytes", vision * each),
        Item("projector", f"{projector:,} parameters x {each} bytes", projector * each),
    ]


def _embeddings_and_head(shape: ModelShape, decoder: DecoderShape, dtype: str, device: str) -> Item:
    """A head that is quantised no longer shares the embeddings' weights, so a tied one is there as well."""
    name, each, rows = "embeddings and head", ELEMENT_BYTES[compute_dtype(dtype, device)], decoder.head_parameters
    if _ours(dtype, device):
        formula = f"{rows:,} parameters x {each} bytes, the head in int8"
        return Item(name, formula, rows * each + head_bytes(decoder, dtype, device))
    count = rows + (0 if decoder.tied else rows * decoder.heads // shape.decoder.heads)
    return Item(name, f"{count:,} parameters x {each} bytes", count * each)


def linears_bytes(decoder: DecoderShape, dtype: str, device: str) -> int:
    """The linears of all layers, scales included."""
    if not _ours(dtype, device):
        return linear_bytes(decoder, dtype)
    return decoder.layers * sum(_held(inside, outside, dtype) for inside, outside in decoder.linears.values())


def head_bytes(decoder: DecoderShape, dtype: str, device: str) -> int:
    """The head, which every step reads, scales included."""
    if not _ours(dtype, device):
        return decoder.head_parameters * ELEMENT_BYTES[compute_dtype(dtype, device)]
    return _held(decoder.width, decoder.vocabulary, "int8")


def _ours(dtype: str, device: str) -> bool:
    """Whether it is our own quantisation that holds these weights."""
    return dtype not in ELEMENT_BYTES and device == "cpu"


def _held(inside: int, outside: int, dtype: str) -> int:
    """One linear in our CPU kernels. int8: a scale of four bytes a row. int4: a scale and a zero of two a group."""
    weights = inside * outside
    if dtype == "int4" and inside % INT4_GROUP == 0 and outside % INT4_ROWS == 0:
        return weights // 2 + 4 * weights // INT4_GROUP
    return weights + 4 * outside
