"""How long a run takes at least: operations and bytes from the shape, divided by rates that were measured or given.

In: a shape, options, two rates with where they come from. Out: seconds a phase, each with what bounds it. A rate is
never guessed: without rates there is no time. The result is a floor (kernels reach a part of the rates), and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from xverse_v.weights.plan import InferenceOptions, views_of
from xverse_v.weights.plan_training import TrainingOptions, packed_row
from xverse_v.weights.plan_weights import head_bytes, linears_bytes
from xverse_v.weights.shapes import ELEMENT_BYTES, ModelShape, compute_dtype

MATRIX_SIDE = {"cpu": 1024, "cuda": 8192}
VECTOR_ROWS = {"cpu": 16_384, "cuda": 65_536}
VECTOR_WIDTH = 4096
REPEATS = 7


@dataclass(frozen=True)
class Rates:
    """What a device does: matrix products in FLOP/s, reading of weights in bytes/s, and where the numbers come from."""

    flops: float
    bandwidth: float
    source: str


@dataclass(frozen=True)
class Duration:
    """A phase: operations, bytes read, the seconds they take at least, and which of the two sets them."""

    name: str
    flops: float
    bytes: float
    seconds: float
    bound: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_rates(device: str, dtype: str) -> Rates:
    """Measure this machine: median of a square matrix product and of a matrix-vector product, some seconds in all."""
    import torch

    kind, wanted = torch.device(device).type, getattr(torch, compute_dtype(dtype))
    side, rows = MATRIX_SIDE.get(kind, MATRIX_SIDE["cpu"]), VECTOR_ROWS.get(kind, VECTOR_ROWS["cpu"])
    square = torch.randn(side, side, dtype=wanted, device=device)
    tall = torch.randn(rows, VECTOR_WIDTH, dtype=wanted, device=device)
    vector = torch.randn(VECTOR_WIDTH, dtype=wanted, device=device)

    def finished(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        if kind == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    product = median([finished(lambda: square @ square) for _ in range(REPEATS + 1)][1:])
    reading = median([finished(lambda: tall @ vector) for _ in range(REPEATS + 1)][1:])
    name = torch.cuda.get_device_name(device) if kind == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    source = f"measured here: {name}, {str(wanted).removeprefix('torch.')}, median of {REPEATS}"
    return Rates(2 * side**3 / product, tall.numel() * tall.element_size() / reading, source)


def vision_flops(shape: ModelShape, views: int) -> float:
    """Tower and projector on `views` views: two operations a weight and position, and attention within each view."""
    vision = shape.vision
    positions = vision.patches + 1
    layers = vision.layers * (2 * vision.layer_parameters * positions + 4 * positions**2 * vision.width)
    patches = vision.patches * (
        2 * vision.channels * vision.patch_size**2 * vision.width + 2 * shape.projector_parameters
    )
    return float(views * (layers + patches))


def attention_flops(shape: ModelShape, tokens: int) -> float:
    """Causal attention of one row over its own tokens: scores and weighted sum, half of the square."""
    return 2.0 * tokens**2 * shape.decoder.query_width * shape.decoder.layers


def time_inference(shape: ModelShape, options: InferenceOptions, rates: Rates) -> list[Duration]:
    """Vision, prefill and decode of one batch; under `full` sharding ideally divided over the GPUs."""
    decoder, rows, held = shape.decoder, options.batch, (options.dtype, options.device.kind)
    element = ELEMENT_BYTES[compute_dtype(*held)]
    parts = options.device.gpus if options.device.shard == "full" else 1
    views = sum(views_of(options.images, options.max_tiles, shape.vision.image_size))
    answered = (options.turns - 1) * options.new_tokens
    prompt = views * shape.vision.patches + options.turns * options.question_tokens + answered
    norms = decoder.width * (2 * decoder.layers + 1)
    weights = linears_bytes(decoder, *held) + head_bytes(decoder, *held) + norms * element
    prefill = 2.0 * decoder.linear_parameters * prompt + attention_flops(shape, prompt) + 2.0 * decoder.head_parameters
    middle = prompt + options.new_tokens / 2
    step = (
        2.0 * (decoder.linear_parameters + decoder.head_parameters) + 4 * middle * decoder.query_width * decoder.layers
    )
    read = weights + rows * decoder.cache_bytes(1, element) * middle
    tower = shape.vision.parameters + shape.projector_parameters
    phases = [
        _duration("prefill", rows * prefill / parts, rows * weights / parts, rates),
        _duration(
            f"decode, {options.new_tokens} tokens",
            rows * step * options.new_tokens / parts,
            read * options.new_tokens / parts,
            rates,
        ),
    ]
    if views:
        phases.insert(0, _duration("vision", rows * vision_flops(shape, views), float(rows * tower * element), rates))
    return phases


def time_training(shape: ModelShape, options: TrainingOptions, rates: Rates) -> list[Duration]:
    """One micro-batch, forward and backward.

    A frozen weight costs two operations a token forward and two for the gradient that passes through it; one that
    trains two more; checkpointing runs the decoder's forward again.
    """
    row, decoder = packed_row(shape, options), shape.decoder
    lora = options.rank * (decoder.lora_parameters(1) if options.adapted is None else options.adapted)
    full = options.stage == "full"
    sample = row.tokens // row.samples
    attention = row.samples * attention_flops(shape, sample)
    forward = 2.0 * (decoder.linear_parameters + lora) * row.tokens + attention
    backward = 2.0 * ((1 + full) * decoder.linear_parameters + 2 * lora) * row.tokens + 2.5 * attention
    again = forward if options.checkpointing else 0.0
    head = (4.0 + 2 * full) * decoder.head_parameters * row.supervised
    projector = (0.0 if options.claimed == 0 else 4.0) * shape.projector_parameters * row.views * shape.vision.patches
    flops = vision_flops(shape, row.views) + forward + backward + again + head + projector
    weights = decoder.parameters * ELEMENT_BYTES[options.dtype]
    return [_duration(f"micro-batch of {row.tokens:,} tokens", flops, float(2 * weights), rates)]


def _duration(name: str, flops: float, read: float, rates: Rates) -> Duration:
    compute, memory = flops / rates.flops, read / rates.bandwidth
    return Duration(name, flops, read, max(compute, memory), "matrix rate" if compute > memory else "bandwidth")
