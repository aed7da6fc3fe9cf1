"""Predict the memory of training, from a configuration alone: every stage, with and without activation checkpointing.

In: a `ModelShape` and the options of a run. Out: a `Plan`, as for inference. What is counted is a step as the recipe
defines it: what is frozen in the compute dtype (the vision tower always, the decoder but in `full`); what trains kept
in float32 with its gradient and AdamW's two averages, and a copy in the compute dtype where that is another; logits and
loss on supervised tokens only; gradients accumulated over more than one micro-batch, so they are there already when the
activations peak. A micro-batch is one packed row; with several samples in it, attention on the CPU carries an explicit
mask, flash attention none. A padded micro-batch carries none anywhere.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from xverse_v.errors import error
from xverse_v.model.tiling import MAX_TILES
from xverse_v.weights.plan import check_choice, check_context, check_counts, views_of
from xverse_v.weights.plan_activations import Kernels
from xverse_v.weights.plan_backward import PackedRow, step_phases
from xverse_v.weights.plan_table import Device, Item, Plan, Stage
from xverse_v.weights.plan_weights import weight_items
from xverse_v.weights.shapes import ELEMENT_BYTES, ModelShape

MASTER_BYTES = 4
"""Weights that train, their gradients and each of AdamW's averages are float32."""

ONE_GPU = Device("cuda")

TRAINED = "what trains: "

GATHERED_LAYERS = 2
"""Under `full` sharding one layer computes while the next is being gathered."""


@dataclass(frozen=True)
class TrainingOptions:
    """One micro-batch on one GPU.

    micro_tokens: tokens of the packed row. A sample is its images and `turns` of question and answer; the answers are
    the supervised tokens. dropout: of LoRA; above 0 every adapter keeps its own dropped copy of the input and the mask.
    loss_chunk: supervised tokens whose logits exist at one time. offload: with `full` sharding on a GPU, what is stored
    stays in host memory and only what computes is on the device. packing: off for one padded sample a row.
    claimed, adapted: numbers that the rules of a recipe claim besides adapters, and those of adapters for each rank;
    None: all that the stage trains. split: with `replicate`, the GPUs that share what trains, as the trainer does.
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
    packing: bool = True
    claimed: int | None = None
    adapted: int | None = None
    split: int = 1

    @property
    def rank(self) -> int:
        """LoRA rank of the stage; only `finetune` has one."""
        return self.lora_rank if self.stage == "finetune" else 0


def plan_training(shape: ModelShape, options: TrainingOptions) -> Plan:
    """The memory of one GPU (or the CPU) over a training step.

    Raises E159 for an unknown stage or dtype, E156 when a sample exceeds the context, E158 when it exceeds the
    micro-batch.
    """
    check_choice("stage", options.stage, ("pretrain", "finetune", "full"))
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
            "split": options.split,
        }
    )
    if not 0 <= options.dropout < 1:
        raise error("E155", flag="--lora-dropout", given=options.dropout, expected="0 or more and less than 1")
    if options.offload and (options.device.kind == "cpu" or options.device.shard != "full"):
        raise error("E155", flag="--cpu-offload", given="on", expected="--shard full on a GPU")
    row = packed_row(shape, options)
    device = options.device
    kernels = Kernels(ELEMENT_BYTES[options.dtype], device.kind == "cpu", device.threads)
    trainable = trained_besides_adapters(shape, options) + _adapters(shape, options)
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
        packed=options.packing,
    )


def trained_besides_adapters(shape: ModelShape, options: TrainingOptions) -> int:
    """Numbers of projector and decoder that train."""
    if options.claimed is not None:
        return options.claimed
    return shape.projector_parameters + (shape.decoder.parameters if options.stage == "full" else 0)


def _adapters(shape: ModelShape, options: TrainingOptions) -> int:
    each = shape.decoder.lora_parameters(1) if options.adapted is None else options.adapted
    return options.rank * each


def _frozen_items(shape: ModelShape, options: TrainingOptions) -> list[Item]:
    """What no rule claims, in the compute dtype."""
    items = weight_items(shape, shape.decoder, options.dtype)
    whole, name = shape.projector_parameters, "projector"
    if options.stage == "full":
        items = [item for item in items if item.name == "vision tower"]
        whole, name = whole + shape.decoder.parameters, "decoder and projector, frozen part"
    rest, element = whole - trained_besides_adapters(shape, options), ELEMENT_BYTES[options.dtype]
    left = [Item(name, f"{rest:,} parameters x {element} bytes", rest * element)] if rest else []
    return [*(item for item in items if item.name != "projector"), *left]


def _stored_items(shape: ModelShape, options: TrainingOptions, trainable: int) -> list[Item]:
    """All that is kept from step to step, whole: frozen weights, and what trains with its gradient and averages."""
    return [
        *_frozen_items(shape, options),
        _trained("float32 weights", trainable, MASTER_BYTES),
        _trained("gradients", trainable, MASTER_BYTES),
        _trained("AdamW's two averages", trainable, 2 * MASTER_BYTES),
    ]


def _trained(name: str, count: int, size: int) -> Item:
    return Item(f"{TRAINED}{name}", f"{count:,} parameters x {size} bytes", count * size)


def _device_items(shape: ModelShape, options: TrainingOptions, trainable: int) -> list[Item]:
    """What of it one device holds, with the copies it computes with."""
    device, element = options.device, ELEMENT_BYTES[options.dtype]
    stored = _stored_items(shape, options, trainable)
    if device.shard == "replicate":
        low = [] if element == MASTER_BYTES else [_trained(f"{options.dtype} copy", trainable, element)]
        return [*_shared(stored, options, trainable), *low]
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
    if options.stage == "full":
        gathered += _whole_gradients(layer, whole, element)
    if options.offload:
        return gathered
    over = f" / {device.gpus} GPUs" if device.gpus > 1 else ""
    return [*(Item(item.name, item.formula + over, -(-item.bytes // device.gpus)) for item in stored), *gathered]


def _shared(stored: list[Item], options: TrainingOptions, trainable: int) -> list[Item]:
    """Frozen weights whole, what trains divided; its gradients also whole until the step's last micro-batch."""
    parts = options.split
    if parts == 1:
        return stored
    shared = [
        Item(item.name, f"{item.formula} / {parts} GPUs", -(-item.bytes // parts))
        if item.name.startswith(TRAINED)
        else item
        for item in stored
    ]
    return [*shared, _trained("gradients, summed here before they are shared", trainable, MASTER_BYTES)]


def _whole_gradients(layer: int, rest: int, element: int) -> list[Item]:
    """Under `full` sharding: a layer's gradients as they are made, and in float32 as they are sent; the gradients of
    embeddings, head and projector wait for the end of the backward pass."""
    sent = 0 if element == MASTER_BYTES else MASTER_BYTES
    return [
        Item(
            "gradients of a layer, not yet divided",
            f"{layer:,} parameters x {element + sent} bytes",
            layer * (element + sent),
        ),
        Item(
            "gradients of embeddings, head, projector, not yet divided",
            f"{rest:,} parameters x {element} bytes",
            rest * element,
        ),
    ]


def _said(options: TrainingOptions) -> dict[str, Any]:
    """The options as they were taken, so that no number stands without its settings."""
    said = asdict(options)
    device = said.pop("device")
    return {**said, "images": [f"{width}x{height}" for width, height in options.images], **device}
