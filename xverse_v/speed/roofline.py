"""What every phase of work needs at least: matrix operations and bytes, from a model's shape alone.

In: a `ModelShape` and the size of the work. Out: `Work`, to be divided by rates that `ceilings` measured. Operations
are those of matrix products and of attention, two a multiply-add; norms, activations, rotary turns and softmax are not
counted (a fraction of a per cent). Attention over what may not be seen is not counted either: a token meets itself and
what stands before it. Bytes are what cannot stay in a cache between two uses: weights once a pass, keys and values, the
phase's input and output; activations inside a phase are not in it. So both are floors, and no machine can be faster.
No tensor is made here, no clock read.

Letters: V views, P patches a view, S tokens, R rows, D decoder width, E vision width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from xverse_v.weights.plan_time import Duration, Rates
from xverse_v.weights.shapes import ELEMENT_BYTES, DecoderShape, ModelShape, compute_dtype, linear_bytes


@dataclass(frozen=True)
class Work:
    """Matrix operations and bytes of a phase. `dtype`: what the products are computed in, so which rate holds."""

    name: str
    flops: float
    bytes: float
    dtype: str = "float32"

    def __add__(self, other: Work) -> Work:
        """Both, one after the other. Raises `ValueError` for two dtypes: one rate would not hold for both."""
        if other.dtype != self.dtype:
            raise ValueError(f"{self.name} is {self.dtype}, {other.name} is {other.dtype}")
        names = f"{self.name} + {other.name}"
        return Work(names, self.flops + other.flops, self.bytes + other.bytes, self.dtype)

    def times(self, count: float) -> Work:
        """The same work `count` times."""
        return replace(self, flops=self.flops * count, bytes=self.bytes * count)

    def called(self, name: str) -> Work:
        """The same work under another name."""
        return replace(self, name=name)

    @property
    def intensity(self) -> float:
        """Operations a byte; below a machine's rate over its bandwidth, memory sets the time."""
        return self.flops / self.bytes if self.bytes else float("inf")

    def on(self, rates: Rates) -> Duration:
        """The least time at these rates, and which of the two sets it: "matrix rate" or "bandwidth"."""
        compute, memory = self.flops / rates.flops, self.bytes / rates.bandwidth
        bound = "matrix rate" if compute > memory else "bandwidth"
        return Duration(self.name, self.flops, self.bytes, max(compute, memory), bound)

    def seconds(self, rates: Rates) -> float:
        """The least time at these rates."""
        return self.on(rates).seconds


def vision_work(shape: ModelShape, views: int, dtype: str = "float32") -> Work:
    """Vision tower on float[V, 3, T, T]: patch convolution and every layer, CLS among the positions, no mask."""
    vision, element = shape.vision, ELEMENT_BYTES[compute_dtype(dtype)]
    positions = vision.patches + 1
    convolution = 2.0 * vision.patches * vision.channels * vision.patch_size**2 * vision.width
    linears = 2.0 * positions * (4 * vision.width**2 + 2 * vision.width * vision.feed_forward)
    attention = 4.0 * positions**2 * vision.width
    flops = views * (convolution + vision.layers * (linears + attention))
    moved = vision.channels * vision.image_size**2 + positions * vision.width
    return Work("vision tower", flops, (vision.parameters + views * moved) * element, compute_dtype(dtype))


def projector_work(shape: ModelShape, views: int, dtype: str = "float32") -> Work:
    """Projector on float[V, P, E] -> float[V, P, D]: its two linears."""
    vision, width, element = shape.vision, shape.decoder.width, ELEMENT_BYTES[compute_dtype(dtype)]
    patches = views * vision.patches
    moved = shape.projector_parameters + patches * (vision.width + width)
    return Work("projector", 2.0 * patches * projector_linears(shape), moved * element, compute_dtype(dtype))


def prefill_work(
    shape: ModelShape, tokens: int, *, cached: int = 0, rows: int = 1, dtype: str = "float32", logits: int = 1
) -> Work:
    """Decoder on `rows` x `tokens` behind `cached` tokens each, with the head on `logits` positions a row.

    dtype: of the linears; int8 and int4 shrink their bytes, products are then computed in bfloat16.
    """
    decoder, element = shape.decoder, ELEMENT_BYTES[compute_dtype(dtype)]
    linears = 2.0 * decoder.linear_parameters * tokens
    head = 2.0 * decoder.head_parameters * logits
    attention = pairs_flops(decoder, seen_pairs(tokens, cached))
    states = decoder.cache_bytes(1, element) * (cached + tokens) + decoder.width * tokens * element
    read = decoder_bytes(decoder, dtype) + rows * states
    return Work("prefill", rows * (linears + attention + head), read, compute_dtype(dtype))


def decode_work(shape: ModelShape, context: float, *, rows: int = 1, dtype: str = "float32") -> Work:
    """One step: a new token for each of `rows` whose cache holds `context` tokens. The mean context of several steps
    gives their mean exactly, because both numbers grow in proportion to it."""
    decoder, element = shape.decoder, ELEMENT_BYTES[compute_dtype(dtype)]
    products = 2.0 * (decoder.linear_parameters + decoder.head_parameters) + pairs_flops(decoder, context + 1)
    states = decoder.cache_bytes(1, element) * (context + 1) + decoder.width * element
    read = decoder_bytes(decoder, dtype) + rows * states
    return Work("decode step", rows * products, read, compute_dtype(dtype))


def answer_work(shape: ModelShape, prompt: int, new_tokens: int, *, rows: int = 1, dtype: str = "float32") -> Work:
    """All decode steps of an answer of `new_tokens` behind `prompt` tokens: one fewer than tokens, the first comes out
    of the prefill."""
    steps = new_tokens - 1
    return decode_work(shape, prompt + (steps - 1) / 2, rows=rows, dtype=dtype).times(steps).called("decode")


def first_token_work(
    shape: ModelShape, views: int, text_tokens: int, *, dtype: str = "float32", adapter_rank: int = 0
) -> Work:
    """Everything up to the first token of one request: tower, projector, prefill of image and text tokens.

    adapter_rank: of LoRA that was left unmerged on all linears; 0 for none.
    """
    tokens = views * shape.vision.patches + text_tokens
    work = prefill_work(shape, tokens, dtype=dtype)
    if views:
        work = vision_work(shape, views, dtype) + projector_work(shape, views, dtype) + work
    if adapter_rank:
        work = work + adapter_work(shape, tokens, rank=adapter_rank, dtype=dtype)
    return work.called("first token")


def adapter_work(shape: ModelShape, tokens: int, *, rank: int, dtype: str = "float32") -> Work:
    """What LoRA of this rank on all linears adds to a pass while it is not merged."""
    count, compute = shape.decoder.lora_parameters(rank), compute_dtype(dtype)
    return Work("adapter", 2.0 * count * tokens, float(count * ELEMENT_BYTES[compute]), compute)


def seen_pairs(tokens: int, cached: int = 0) -> float:
    """Pairs of a query and a key it may see: `tokens` new ones behind `cached` old ones."""
    return tokens * (tokens + 1) / 2 + tokens * cached


def all_pairs(tokens: int, cached: int = 0) -> float:
    """All pairs, as a kernel without knowledge of the mask computes them and `FlopCounterMode` counts them."""
    return float(tokens * (tokens + cached))


def pairs_flops(decoder: DecoderShape, pairs: float) -> float:
    """Scores and weighted sum of so many pairs of a query and a key, over all heads and layers."""
    return 4.0 * pairs * decoder.query_width * decoder.layers


def projector_linears(shape: ModelShape) -> int:
    """Weights of the projector's two linears, without its norm and biases."""
    return shape.vision.width * shape.decoder.width + shape.decoder.width**2


def decoder_bytes(decoder: DecoderShape, dtype: str) -> float:
    """Weights that one pass reads: linears as stored, norms and biases, the head; of the embeddings only rows."""
    element = ELEMENT_BYTES[compute_dtype(dtype)]
    others = decoder.body_parameters - decoder.linear_parameters + decoder.head_parameters
    return float(linear_bytes(decoder, dtype) + others * element)
