"""Predict the memory of training, from a configuration alone: both stages, with and without activation checkpointing.

In: a `ModelShape` and the options of a run. Out: a `Plan`, as for inference. What is counted is a step as the recipe
defines it: vision tower and decoder frozen in the compute dtype; what trains kept in float32 with its gradient and
AdamW's two averages, and a copy in the compute dtype where that is another; logits and loss on supervised tokens only;
gradients accumulated over more than one micro-batch, so they are there already when the activations peak. A micro-batch
is one packed row; with several samples in it, attention on the CPU carries an explicit mask.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from xverse_v.errors import error
from xverse_v.model.tiling import MAX_TILES
from xverse_v.weights.plan import check_choice, check_context, check_counts, views_of, weight_items
from xverse_v.weights.plan_activations import Kernels, decoder_pass, features_item, views_item, vision_phase
from xverse_v.weights.plan_table import Device, Item, Phase, Plan, Stage, product, worst_of
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

    @property
    def rank(self) -> int:
        """LoRA rank of the stage; `pretrain` has none."""
        return self.lora_rank if self.stage == "finetune" else 0


@dataclass(frozen=True)
class PackedRow:
    """The packed row of a micro-batch."""

    tokens: int
    views: int
    sample_views: tuple[int, ...]
    supervised: int
    samples: int


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
            "--gpus": options.device.gpus,
        }
    )
    if not 0 <= options.dropout < 1:
        raise error("E155", flag="--lora-dropout", given=options.dropout, expected="0 or more and less than 1")
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
        **_said(options),
    }
    resident = [*_frozen_items(shape, options), *_trainable_items(shape, options, trainable)]
    phases = _phases(shape, options, row, kernels)
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


def _frozen_items(shape: ModelShape, options: TrainingOptions) -> list[Item]:
    """Frozen weights of one GPU. The projector is not frozen; its weights are with what trains."""
    items = [item for item in weight_items(shape, shape.decoder, options.dtype) if item.name != "projector"]
    device = options.device
    if device.shard == "replicate" or device.gpus == 1:
        return items
    layer = (shape.decoder.body_parameters // shape.decoder.layers) * ELEMENT_BYTES[options.dtype]
    parts = [Item(item.name, f"{item.formula} / {device.gpus} GPUs", -(-item.bytes // device.gpus)) for item in items]
    return [*parts, Item("gathered layers", f"{GATHERED_LAYERS} x {layer:,} bytes", GATHERED_LAYERS * layer)]


def _trainable_items(shape: ModelShape, options: TrainingOptions, trainable: int) -> list[Item]:
    device, element = options.device, ELEMENT_BYTES[options.dtype]
    parts = device.gpus if device.shard == "full" else 1
    over = f" / {parts} GPUs" if parts > 1 else ""

    def each(name: str, size: int) -> Item:
        return Item(name, f"{trainable:,} parameters x {size} bytes{over}", -(-trainable * size // parts))

    items = [
        each("what trains: float32 weights", MASTER_BYTES),
        each("what trains: gradients", MASTER_BYTES),
        each("what trains: AdamW's two averages", 2 * MASTER_BYTES),
    ]
    if element != MASTER_BYTES:
        items.append(
            Item(
                f"what trains: {options.dtype} copy", f"{trainable:,} parameters x {element} bytes", trainable * element
            )
        )
    return items


def saved_by_layer(shape: ModelShape, options: TrainingOptions, row: PackedRow, kernels: Kernels) -> Item:
    """What autograd keeps of one decoder layer for its backward pass. Frozen linears keep no input."""
    decoder, element = shape.decoder, kernels.element
    width, feed_forward = decoder.width, decoder.feed_forward
    # Both norms keep their input in float32; in float32 that is the residual stream itself.
    norms = 2 * width * 4 + 2 * 4
    masked = _additive_mask(row, kernels)
    # Query, output, keys, values; an explicit mask makes the attention repeat keys and values for every head.
    keys = decoder.query_width if masked else decoder.key_width
    attention = (2 * decoder.query_width + 2 * keys) * element + decoder.heads * 4
    mlp = 3 * feed_forward * element
    total = row.tokens * (norms + attention + mlp + _lora_values(shape, options, kernels))
    words = f"{row.tokens:,} tokens x (norms {norms:,} + attention {attention:,} + feed-forward {mlp:,}"
    words += f" + LoRA {_lora_values(shape, options, kernels):,}) bytes" if options.rank else ") bytes"
    if masked:
        words += f" + attention mask {masked:,} bytes"
    return Item("one layer", words, total + masked)


def _lora_values(shape: ModelShape, options: TrainingOptions, kernels: Kernels) -> int:
    """Bytes a token that the adapters of a layer keep: inputs (dropped, each with its mask) and inner values."""
    if not options.rank:
        return 0
    linears, element = shape.decoder.linears, kernels.element
    inner = len(linears) * options.rank * element
    if options.dropout == 0:
        # The two normed inputs and the product before down_proj; o_proj's input is the attention's output, kept anyway.
        return inner + (2 * shape.decoder.width + shape.decoder.feed_forward) * element
    mask = element if kernels.cpu else 1
    return inner + sum(inside for inside, _ in linears.values()) * (element + mask)


def _additive_mask(row: PackedRow, kernels: Kernels) -> int:
    """Bytes of the mask in the compute dtype, kept by every layer's attention. The GPU path packs without one."""
    return row.tokens**2 * kernels.element if kernels.cpu and row.samples > 1 else 0


def _phases(shape: ModelShape, options: TrainingOptions, row: PackedRow, kernels: Kernels) -> list[Phase]:
    """Vision tower, forward, loss, backward of the last layer (the fullest moment of it), and the optimizer's step."""
    layer, depth = saved_by_layer(shape, options, row, kernels), shape.decoder.layers
    every = Item("decoder: kept for backward", f"{depth} layers x ({layer.formula})", depth * layer.bytes)
    stream = _rows("decoder: kept inputs of layers", kernels.element, depth, row, shape.decoder.width)
    kept = [stream] if options.checkpointing else [every]
    final = _rows("decoder: last norm's input", 4, 1, row, shape.decoder.width)
    tables = _rows("rotary tables", kernels.element, 2, row, shape.decoder.head_width)
    base = [views_item(shape, row.views), *_projector_saved(shape, row, kernels.element), tables]
    if options.checkpointing:
        # In float32 the layer's first kept tensor is the kept input itself.
        shared = row.tokens * shape.decoder.width * 4 if kernels.element == 4 else 0
        kept_by_one = Item("decoder: layer being recomputed", layer.formula, layer.bytes - shared)
        forward = decoder_pass(shape, row.tokens, row.tokens, kernels).items
        grads = _rows("gradient of the layer's output", kernels.element, 1, row, shape.decoder.width)
        backward = [[*kept, kept_by_one, grads, *moment] for moment in _last_moments(shape, options, row, kernels)]
    else:
        forward = ()
        backward = [[*kept, *moment] for moment in _last_moments(shape, options, row, kernels)]
    features = features_item(shape, row.views, kernels.element)
    norm = _rows("norm's gradients in float32", 4, 5, row, shape.decoder.width)
    phases = [
        worst_of("forward", [[*kept, features, *forward]]),
        worst_of("loss", [[*kept, final, _loss_item(shape, row)]]),
        worst_of("backward", [[*kept, final, norm], *backward]),
    ]
    phases = [phase.plus(*base) for phase in phases]
    if row.views:
        prompt = _rows("decoder: prompt embeddings", kernels.element, 1, row, shape.decoder.width)
        phases.insert(0, vision_phase(shape, row.views, 0, kernels).plus(prompt))
    return [*phases, _optimizer(shape, options)]


def _rows(name: str, element: int, parts: int, row: PackedRow, width: int) -> Item:
    return product(name, element, (parts, ""), (row.tokens, "tokens"), (width, "wide"))


def _last_moments(shape: ModelShape, options: TrainingOptions, row: PackedRow, kernels: Kernels) -> list[list[Item]]:
    """What the last layer's feed-forward holds besides what is kept: at its last linear, and as gradients start."""
    element, width, feed_forward = kernels.element, shape.decoder.width, shape.decoder.feed_forward
    # The normed input, the product, down_proj's result and its adapter's. In low precision the residual stream too,
    # which is kept in float32 only: the residual and, in the first forward pass, layer input and prompt embeddings.
    stream = 0 if element == 4 else 1 if options.checkpointing else 3
    hidden = 1 + (2 if options.rank else 1) + stream
    linear = [
        _rows("decoder: hidden states", element, hidden, row, width),
        _rows("decoder: product before down_proj", element, 1, row, feed_forward),
        features_item(shape, 0 if options.checkpointing else row.views, element),
    ]
    # Gradients of the product and of its two factors; what down_proj's adapter kept is free again by then.
    freed = 0
    if options.rank:
        freed = element if options.dropout == 0 or not kernels.cpu else 2 * element
        freed += 1 if options.dropout > 0 and not kernels.cpu else 0
    gradients = [
        _rows("gradient of hidden states", element, 1, row, width),
        _rows("gradients of the feed-forward, less what they freed", 3 * element - freed, 1, row, feed_forward),
    ]
    return [linear, gradients]


def _projector_saved(shape: ModelShape, row: PackedRow, element: int) -> list[Item]:
    """What autograd keeps of the projector: the tower's output, the normed patches, the first linear around GELU."""
    vision, patches = shape.vision, row.views * shape.vision.patches
    values = row.views * (vision.patches + 1) * vision.width + patches * (vision.width + 2 * shape.decoder.width)
    words = f"{patches:,} patches x (2 x {vision.width:,} + 2 x {shape.decoder.width:,}) x {element} bytes, with CLS"
    return [Item("projector: kept for backward", words, values * element)]


def _loss_item(shape: ModelShape, row: PackedRow) -> Item:
    """Log-probabilities of the supervised tokens, their gradient and that of the logits, all float32."""
    return product(
        "logits and loss", 4, (3, ""), (row.supervised, "supervised tokens"), (shape.decoder.vocabulary, "ids")
    )


def _optimizer(shape: ModelShape, options: TrainingOptions) -> Phase:
    """AdamW's temporaries: one for all that trains on a GPU (it works on lists), two of the largest tensor on a CPU."""
    width, rank = shape.decoder.width, options.rank
    if options.device.kind == "cpu":
        largest = max(
            width * width, width * shape.vision.width, rank * max(max(pair) for pair in shape.decoder.linears.values())
        )
        return Phase("optimizer step", (product("AdamW's temporaries", 4, (2, ""), (largest, "values")),))
    trainable = shape.projector_parameters + shape.decoder.lora_parameters(rank)
    if options.device.shard == "full":
        trainable = -(-trainable // options.device.gpus)
    return Phase("optimizer step", (product("AdamW's temporaries", 4, (trainable, "values")),))


def _said(options: TrainingOptions) -> dict[str, Any]:
    """The options as they were taken, so that no number stands without its settings."""
    said = asdict(options)
    device = said.pop("device")
    return {**said, "images": [f"{width}x{height}" for width, height in options.images], **device}
