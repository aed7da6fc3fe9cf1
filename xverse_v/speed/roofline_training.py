"""What a training step needs at least, part by part: as `roofline`, with a backward pass.

In: a `ModelShape` and the `TrainingOptions` of the planner, whose packed row is the unit here, too. Out: `Work` a part.
A linear costs two operations a weight and token forward, two for the gradient that passes through it and two more if
its weight trains; the two products of attention cost twice their forward in the backward pass. The vision tower is
frozen and runs forward only. Recomputation (activation checkpointing, a head in pieces) is a part of its own, because
MFU must not count it; optimizer and gradient traffic is one, too. Nothing is measured here.
"""

from __future__ import annotations

from dataclasses import dataclass

from xverse_v.speed.roofline import Work, decoder_bytes, pairs_flops, projector_linears, seen_pairs, vision_work
from xverse_v.weights.plan_training import MASTER_BYTES, TrainingOptions, packed_row, trained_besides_adapters
from xverse_v.weights.shapes import ELEMENT_BYTES, ModelShape

OPTIMIZER_PASSES = 7
"""AdamW a step: weight read and written, gradient read, two averages read and written; all in float32."""


@dataclass(frozen=True)
class StepWork:
    """One micro-batch, forward and backward, in parts."""

    tower: Work
    projector: Work
    decoder: Work
    head: Work
    recomputed: Work

    @property
    def useful(self) -> Work:
        """What the mathematics needs: the numerator of MFU."""
        return (self.tower + self.projector + self.decoder + self.head).called("training step")

    @property
    def executed(self) -> Work:
        """With what is computed twice to save memory: the least time of this step as it is run."""
        return (self.useful + self.recomputed).called("training step, with recomputation")


def step_work(shape: ModelShape, options: TrainingOptions, *, features: bool = False) -> StepWork:
    """One packed row of `options.micro_tokens`. features: the tower's patch vectors were stored, so it does not run.

    Raises what `packed_row` raises (E156, E158).
    """
    row, decoder, dtype = packed_row(shape, options), shape.decoder, options.dtype
    element, full = ELEMENT_BYTES[dtype], options.stage == "full"
    adapters = options.rank * (decoder.lora_parameters(1) if options.adapted is None else options.adapted)
    trained = options.claimed != 0
    products = 2.0 * decoder.linear_parameters * row.tokens
    adapted = 2.0 * adapters * row.tokens
    attention = row.samples * pairs_flops(decoder, seen_pairs(row.tokens // row.samples))
    weights = decoder_bytes(decoder, dtype) - decoder.head_parameters * element + adapters * element
    projecting = 2.0 * row.views * shape.vision.patches * projector_linears(shape)
    head = 2.0 * decoder.head_parameters * row.supervised
    pieces = row.supervised > options.loss_chunk
    head_bytes = float(decoder.head_parameters * element)
    decoded = (2 + full) * products + 3 * adapted + 3 * attention
    return StepWork(
        tower=vision_work(shape, 0 if features else row.views, dtype).called("vision tower"),
        projector=Work(
            "projector",
            (3 if trained else 1) * projecting,  # its norm trains too, so also the first linear's input has a gradient
            2.0 * shape.projector_parameters * element,
            dtype,
        ),
        decoder=Work("decoder", decoded, 2 * weights, dtype),
        head=Work("head", (2 + full) * head, 2 * head_bytes, dtype),
        recomputed=_recomputed(shape, options, row.tokens, attention, head if pieces else 0.0, weights),
    )


def _recomputed(
    shape: ModelShape, options: TrainingOptions, tokens: int, attention: float, head: float, weights: float
) -> Work:
    """Each layer's forward again but for its very last product, which no gradient asks for, and the head in pieces."""
    if not options.checkpointing:
        return Work("recomputation", head, 0.0, options.dtype)
    decoder = shape.decoder
    rank = options.rank if options.adapted is None else 0
    last = decoder.layers * (rank * decoder.width if rank else decoder.feed_forward * decoder.width)
    adapters = options.rank * (decoder.lora_parameters(1) if options.adapted is None else options.adapted)
    again = 2.0 * (decoder.linear_parameters + adapters - last) * tokens + attention
    return Work("recomputation", again + head, weights, options.dtype)


def optimizer_work(shape: ModelShape, options: TrainingOptions) -> Work:
    """AdamW over everything that trains, once a step however many micro-batches it has: memory alone."""
    each = shape.decoder.lora_parameters(1) if options.adapted is None else options.adapted
    count = trained_besides_adapters(shape, options) + options.rank * each
    return Work("optimizer", 0.0, float(OPTIMIZER_PASSES * MASTER_BYTES * count), "float32")
