"""What is alive at the worst moments of a training step: what autograd keeps, and what the gradients need on top.

As in `plan_activations`, lists and no fits. Shapes and a packed row in, bytes out; what is stored between steps is
`plan_training`'s. The lists follow the trainer: frozen linears keep no input, trained ones keep theirs, adapters keep
theirs with the mask of their dropout, the head runs on supervised tokens only, in pieces that are computed again in the
backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xverse_v.weights.plan_activations import Kernels, decoder_pass, features_item, views_item, vision_phase
from xverse_v.weights.plan_table import Item, Phase, product, worst_of
from xverse_v.weights.shapes import ModelShape

if TYPE_CHECKING:
    from xverse_v.weights.plan_training import TrainingOptions


@dataclass(frozen=True)
class PackedRow:
    """The packed row of a micro-batch."""

    tokens: int
    views: int
    sample_views: tuple[int, ...]
    supervised: int
    samples: int
    packed: bool = True


def saved_by_layer(shape: ModelShape, options: TrainingOptions, row: PackedRow, kernels: Kernels) -> Item:
    """What autograd keeps of one decoder layer for its backward pass."""
    decoder, element = shape.decoder, kernels.element
    width, feed_forward = decoder.width, decoder.feed_forward
    # Both norms keep their input in float32; in float32 that is the residual stream itself.
    norms = 2 * width * 4 + 2 * 4
    masked = _additive_mask(row, kernels)
    # Query, output, keys, values; an explicit mask makes the attention repeat keys and values for every head.
    keys = decoder.query_width if masked else decoder.key_width
    attention = (2 * decoder.query_width + 2 * keys) * element + decoder.heads * 4
    mlp = 3 * feed_forward * element
    inputs = _trained_inputs(shape, options, kernels)
    total = row.tokens * (norms + attention + mlp + inputs + _lora_values(shape, options, kernels))
    words = f"{row.tokens:,} tokens x (norms {norms:,} + attention {attention:,} + feed-forward {mlp:,}"
    words += f" + inputs of what trains {inputs:,}" if inputs else ""
    words += f" + LoRA {_lora_values(shape, options, kernels):,}) bytes" if options.rank else ") bytes"
    if masked:
        words += f" + attention mask {masked:,} bytes"
    return Item("one layer", words, total + masked)


def _trained_inputs(shape: ModelShape, options: TrainingOptions, kernels: Kernels) -> int:
    """Bytes a token that a layer keeps because its own weights train: what both norms scale, the two normed inputs of
    linears, the product before down_proj; o_proj's input is the attention's output, kept anyway."""
    return (4 * shape.decoder.width + shape.decoder.feed_forward) * kernels.element if options.stage == "full" else 0


def _lora_values(shape: ModelShape, options: TrainingOptions, kernels: Kernels) -> int:
    """Bytes a token that the adapters of a layer keep: inputs (dropped, each with its mask) and inner values."""
    if not options.rank:
        return 0
    linears, element = shape.decoder.linears, kernels.element
    inner = len(linears) * options.rank * element
    if options.dropout == 0:
        # The two normed inputs and the product before down_proj; o_proj's input is the attention's output, kept anyway.
        return inner + (2 * shape.decoder.width + shape.decoder.feed_forward) * element
    return inner + sum(inside for inside, _ in linears.values()) * 2 * element


def _additive_mask(row: PackedRow, kernels: Kernels) -> int:
    """Bytes of the mask in the compute dtype, kept by every layer's attention. The GPU path packs without one."""
    return row.tokens**2 * kernels.element if kernels.cpu and row.packed and row.samples > 1 else 0


def step_phases(shape: ModelShape, options: TrainingOptions, row: PackedRow, kernels: Kernels) -> list[Phase]:
    """Vision tower, forward, loss, backward of the last layer (the fullest moment of it), and the optimizer's step."""
    layer, depth = saved_by_layer(shape, options, row, kernels), shape.decoder.layers
    every = Item("decoder: kept for backward", f"{depth} layers x ({layer.formula})", depth * layer.bytes)
    stream = _rows("decoder: kept inputs of layers", kernels.element, depth, row, shape.decoder.width)
    kept = [stream] if options.checkpointing else [every]
    full = options.stage == "full"
    # A norm that trains keeps what it scales as well.
    final = _rows("decoder: last norm's input", 4 + full * kernels.element, 1, row, shape.decoder.width)
    head, table = _table_moments(shape, options, row, kernels)
    tables = _rows("rotary tables", kernels.element, 2, row, shape.decoder.head_width)
    projector = [] if options.claimed == 0 else _projector_saved(shape, row, kernels.element)
    base = [views_item(shape, row.views), *projector, tables]
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
        worst_of("loss", [[*kept, final, *_loss_items(shape, options, row, kernels.element)], [*kept, final, *head]]),
        worst_of("backward", [[*kept, final, norm], *backward, table]),
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
    # What trains keeps the normed input and the product: they are in the layer's own list.
    full = options.stage == "full"
    hidden = (not full) + (2 if options.rank else 1) + stream
    linear = [
        _rows("decoder: hidden states", element, hidden, row, width),
        _rows("decoder: product before down_proj", element, 0 if full else 1, row, feed_forward),
        features_item(shape, 0 if options.checkpointing else row.views, element),
    ]
    # Gradients of the product and of its two factors; what down_proj's adapter kept is free again by then.
    freed = 0 if not (options.rank or full) else element if full or options.dropout == 0 else 2 * element
    gradients = [
        _rows("gradient of hidden states", element, 1, row, width),
        _rows("gradients of the feed-forward, less what they freed", 3 * element - freed, 1, row, feed_forward),
    ]
    weight = [
        _rows("gradient of hidden states", element, 1, row, width),
        _rows("gradient of the feed-forward's product", element, 1, row, feed_forward),
        _made_gradient("down_proj", feed_forward * width, options, element),
    ]
    return [linear, gradients, weight] if full else [linear, gradients]


def _made_gradient(name: str, numbers: int, options: TrainingOptions, element: int) -> Item:
    """A weight's gradient of this micro-batch beside the sum that is stored; under `full` sharding it is resident."""
    size = 0 if options.stage != "full" or options.device.shard == "full" else element if element == 4 else element + 4
    return product(f"gradient of {name}, before it is added", size, (numbers, "parameters"))


def _table_moments(
    shape: ModelShape, options: TrainingOptions, row: PackedRow, kernels: Kernels
) -> tuple[list[Item], list[Item]]:
    """What `full` holds as the gradients of the head and, behind all layers, of the embeddings are made."""
    if options.stage != "full":
        return [], []
    element, decoder = kernels.element, shape.decoder
    piece, kept = min(row.supervised, options.loss_chunk), _head_input(shape, row, element)
    logits = product("gradient of logits", element, (piece, "supervised tokens"), (decoder.vocabulary, "ids"))
    head = [kept, logits, _made_gradient("the head", decoder.head_parameters, options, element)]
    if piece < row.supervised:
        # autograd adds up the pieces' gradients before it hands them over: the sum waits while the next piece runs,
        # then sum, new gradient and new sum exist at once. Under `full` sharding one of them is resident.
        own = 1 if options.device.shard == "full" else 0

        def sums(count: int) -> Item:
            numbers = (decoder.head_parameters, "parameters")
            return product("gradients of the head, of several pieces", element, (count - own, ""), numbers)

        made = [kept, _made_gradient("the head", decoder.head_parameters, options, element)]
        moments = [[*_loss_items(shape, options, row, element), sums(1)], [kept, sums(3)], made]
        head = list(worst_of("head", moments).items)
    # The two tables are sent last of all, in float32.
    sent = 4 if options.device.shard == "full" and element < 4 else 0
    whole = decoder.embedding_parameters + shape.projector_parameters
    table = [
        _rows("gradient of prompt embeddings", element, 2, row, decoder.width),
        _made_gradient("the embeddings", decoder.head_parameters, options, element),
        product("gradients of embeddings, head, projector, as they are sent", sent, (whole, "parameters")),
    ]
    return head, table


def _head_input(shape: ModelShape, row: PackedRow, element: int) -> Item:
    tokens = (row.supervised, "tokens")
    return product("supervised tokens, kept for the head", element, tokens, (shape.decoder.width, "wide"))


def _projector_saved(shape: ModelShape, row: PackedRow, element: int) -> list[Item]:
    """What autograd keeps of the projector: the tower's output, the normed patches, the first linear around GELU."""
    vision, patches = shape.vision, row.views * shape.vision.patches
    values = row.views * (vision.patches + 1) * vision.width + patches * (vision.width + 2 * shape.decoder.width)
    words = f"{patches:,} patches x (2 x {vision.width:,} + 2 x {shape.decoder.width:,}) x {element} bytes, with CLS"
    return [Item("projector: kept for backward", words, values * element)]


def _loss_items(shape: ModelShape, options: TrainingOptions, row: PackedRow, element: int) -> list[Item]:
    """Log-probabilities, their gradient and that of the logits, float32, for one piece of the supervised tokens."""
    piece = min(row.supervised, options.loss_chunk)
    logits = product("logits and loss", 4, (3, ""), (piece, "supervised tokens"), (shape.decoder.vocabulary, "ids"))
    if piece == row.supervised and options.stage != "full":
        return [logits]
    return [logits, _head_input(shape, row, element)]


def _optimizer(shape: ModelShape, options: TrainingOptions) -> Phase:
    """AdamW's temporaries: two of the largest tensor on the CPU; its fused kernel on a GPU needs none."""
    width, rank = shape.decoder.width, options.rank
    largest = max(
        width * max(width, shape.vision.width), rank * max(max(pair) for pair in shape.decoder.linears.values())
    )
    if options.stage == "full":
        largest = max(largest, shape.decoder.head_parameters, width * shape.decoder.feed_forward)
    count = 2 if options.device.kind == "cpu" else 0
    return Phase("optimizer step", (product("AdamW's temporaries", 4, (count, ""), (largest, "values")),))
