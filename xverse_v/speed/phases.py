"""The phases of one run as a list of `Work`: what `speed roofline` shows. Shapes and sizes in, nothing measured."""

from __future__ import annotations

from xverse_v.speed.generate import image_size
from xverse_v.speed.roofline import Work, decode_work, prefill_work, projector_work, vision_work
from xverse_v.speed.roofline_training import optimizer_work, step_work
from xverse_v.weights.plan_table import Stage
from xverse_v.weights.plan_training import TrainingOptions
from xverse_v.weights.shapes import ModelShape, compute_dtype

BATCH = 32
MICRO_TOKENS = 4096


def answering(shape: ModelShape, views: int, text: int, new_tokens: int, dtype: str = "float32") -> list[Work]:
    """One question about one image, a second question about it, and decoding alone and among `BATCH` rows. dtype: of
    the decoder's linears; int8 and int4 leave the tower and the projector in the dtype that computes."""
    image = views * shape.vision.patches
    middle, plain = image + text + new_tokens / 2, compute_dtype(dtype)
    return [
        vision_work(shape, views, plain).called(f"vision tower, {views} views"),
        projector_work(shape, views, plain).called(f"projector, {image:,} image tokens"),
        prefill_work(shape, image + text, dtype=dtype).called(f"prefill of {image + text:,} tokens"),
        prefill_work(shape, text, cached=image, dtype=dtype).called(f"prefill of {text} behind {image:,} kept"),
        decode_work(shape, middle, dtype=dtype).called(f"decode step at {middle:,.0f} tokens"),
        decode_work(shape, middle, rows=BATCH, dtype=dtype).called(f"decode step of {BATCH} rows"),
    ]


def training(shape: ModelShape, views: int, dtype: str = "float32", *, checkpointing: bool = True) -> list[Work]:
    """A micro-batch of both stages, packed to at most `MICRO_TOKENS`, and the optimizer's step. dtype as `answering`;
    training has no quantised weights, so the dtype that computes is taken."""
    size = image_size(views)
    found = []
    stages: tuple[Stage, ...] = ("pretrain", "finetune")
    for stage in stages:
        options = TrainingOptions(
            stage=stage,
            images=(size,),
            micro_tokens=MICRO_TOKENS,
            dtype=compute_dtype(dtype),
            checkpointing=checkpointing,
        )
        step = step_work(shape, options)
        found.append(step.executed.called(f"{stage}: micro-batch of at most {MICRO_TOKENS:,} tokens"))
        found.append(optimizer_work(shape, options).called(f"{stage}: optimizer"))
    return found
