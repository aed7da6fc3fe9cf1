"""Predict the memory of training, from a configuration alone: both stages, with and without activation checkpointing.

In: a `ModelShape` and the options of a run. Out: a `Plan`, as for inference. What is counted is a step as the recipe
defines it: vision tower and decoder frozen in the compute dtype; what trains kept in float32 with its gradient and
AdamW's two averages, and a copy in the compute dtype where that is another; logits and loss on supervised tokens only;
gradients accumulated over more than one micro-batch, so they are there already when the activations peak. A micro-batch
is one packed row; with several samples in it, attention on the CPU carries an explicit mask, flash attention none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from xverse_v.errors import error
from xverse_v.model.tiling import MAX_TILES
from xverse_v.weights.plan import check_choice, check_context, check_counts, views_of, weight_items
from xverse_v.weights.plan_activations import Kernels
from xverse_v.weights.plan_backward import PackedRow, step_phases
from xverse_v.weights.plan_table import Device, Item, Plan, Stage
from xverse_v.weights.shapes import ELEMENT_BYTES, ModelShape

MASTER_BYTES = 4
"""Weights that train, their gradients and each of AdamW's averages are float32."""

ONE_GPU = Device("cuda")

GATHERED_LAYERS = 2
"""Under `full` sharding one layer computes while the next is being gathered."""


@dataclass(frozen=True)
class TrainingOptions:
    """One micro-batch on one GPU.

    micro_tokens: tokens of the packed row. A sample is its images and `turns` of question and answer; the answers are
    the supervised tokens. dropout: of LoRA; above 0 every adapter keeps its own dropped copy of the input and the mask.
    loss_chunk: supervised tokens whose logits exist at one time. offload: with `full` sharding on a GPU, what is stored
    stays in host memory and only what computes is on the device.
    """

    stage: Stage = "finetune"
    images: tuple[tuple[int, int], ...] = ()
    question_tokens: int = 64
    new_tokens: int = 128
    turns: int = 1
    micro_tokens: int = 4096
    checkpointing: bool = True
    lora_rank: int = 128
    dropout: float = 0.05
    dtype: str = "bfloat16"
    max_tiles: int = MAX_TILES
    device: Device = ONE_GPU
    loss_chunk: int = 2048
    offload: bool = False

    @property
    def rank(self) -> int:
        """LoRA rank of the stage; `pretrain` has none."""
        return self.lora_rank if self.stage == "finetune" else 0


def plan_training(shape: ModelShape, options: TrainingOptions) -> Plan:
    """The memory of one GPU (or the CPU) over a training step.

    Raises E159 for an unknown stage or dtype, E156 when a sample exceeds the context, E158 when it exceeds the
    micro-batch.
    """
    check_choice("stage", options.stage, ("pretrain", "finetune"))
    check_choice("dtype", options.dtype, tuple(ELEMENT_BYTES))
    check_counts(
        {
            "--question-tokens": options.question_tokens,
            "--new-tokens": options.new_tokens,
            "--turns": options.turns,
            "--micro-tokens": options.micro_tokens,
            "--lora-rank": options.lora_rank,
            "--loss-chunk": options.loss_chunk,
            "--gpus": options.device.gpus,
        }
    )
    if not 0 <= options.dropout < 1:
        raise error("E155", flag="--lora-dropout", given=options.dropout, expected="0 or more and less than 1")
    if options.offload and (options.device.kind == "cpu" or options.device.shard != "full"):
        raise error("E155", flag="--cpu-offload", given="on", expected="--shard full on a GPU")
    row = packed_row(shape, options)
    device = options.device
    kernels = Kernels(ELEMENT_BYTES[options.dtype], device.kind == "cpu", device.threads)
    trainable = shape.projector_parameters + shape.decoder.lora_parameters(options.rank)
    facts = {
        "views": list(row.sample_views),
        "image_tokens_per_view": shape.vision.patches,
        "sample_tokens": row.tokens // row.samples,
        "samples": row.samples,
        "tokens": row.tokens,
        "supervised_tokens": row.supervised,
        "trainable_parameters": trainable,
        "parameters": shape.parameters,
        "host_bytes": sum(item.bytes for item in _stored_items(shape, options, trainable)) if options.offload else 0,
        **_said(options),
    }
    resident = _device_items(shape, options, trainable)
    phases = step_phases(shape, options, row, kernels)
    return Plan(options.stage, shape.name, shape.note, facts, tuple(resident), tuple(phases), device.kind)


def packed_row(shape: ModelShape, options: TrainingOptions) -> PackedRow:
    """How many samples fill the row, and what is in it. Raises E156, E158."""
    views = views_of(options.images, options.max_tiles, shape.vision.image_size)
    image_tokens = sum(views) * shape.vision.patches
    sample = image_tokens + options.turns * (options.question_tokens + options.new_tokens)
    check_context(shape, sample - options.new_tokens, options.new_tokens, image_tokens)
    samples = options.micro_tokens // sample
    if samples < 1:
        raise error("E158", sample=sample, micro_tokens=options.micro_tokens, image_tokens=image_tokens)
    return PackedRow(
        tokens=samples * sample,
        views=samples * sum(views),
        sample_views=tuple(views),
        supervised=samples * options.turns * options.new_tokens,
        samples=samples,
    )


def _stored_items(shape: ModelShape, options: TrainingOptions, trainable: int) -> list[Item]:
    """All that is kept from step to step, whole: frozen weights, and what trains with its gradient and averages."""
    frozen = [item for item in weight_items(shape, shape.decoder, options.dtype) if item.name != "projector"]
    return [
        *frozen,
        _trained("float32 weights", trainable, MASTER_BYTES),
        _trained("gradients", trainable, MASTER_BYTES),
        _trained("AdamW's two averages", trainable, 2 * MASTER_BYTES),
    ]


def _trained(name: str, count: int, size: int) -> Item:
    return Item(f"what trains: {name}", f"{count:,} parameters x {size} bytes", count * size)


def _device_items(shape: ModelShape, options: TrainingOptions, trainable: int) -> list[Item]:
    """What of it one device holds, with the copies it computes with."""
    device, element = options.device, ELEMENT_BYTES[options.dtype]
    stored = _stored_items(shape, options, trainable)
    if device.shard == "replicate":
        low = [] if element == MASTER_BYTES else [_trained(f"{options.dtype} copy", trainable, element)]
        return [*stored, *low]
    # The layers pass through one after the other; embeddings, head and projector are gathered once a step.
    decoder = shape.decoder
    layer = decoder.body_parameters // decoder.layers + decoder.lora_parameters(options.rank) // decoder.layers
    whole = decoder.embedding_parameters + shape.projector_parameters
    gathered = [
        Item(
            "gathered layers",
            f"{GATHERED_LAYERS} x {layer:,} parameters x {element} bytes",
            GATHERED_LAYERS * layer * element,
        ),
        Item("gathered embeddings, head, projector", f"{whole:,} parameters x {element} bytes", whole * element),
    ]
    if options.offload:
        return gathered
    over = f" / {device.gpus} GPUs" if device.gpus > 1 else ""
    return [*(Item(item.name, item.formula + over, -(-item.bytes // device.gpus)) for item in stored), *gathered]


def _said(options: TrainingOptions) -> dict[str, Any]:
    """The options as they were taken, so that no number stands without its settings."""
    said = asdict(options)
    device = said.pop("device")
    return {**said, "images": [f"{width}x{height}" for width, height in options.images], **device}
