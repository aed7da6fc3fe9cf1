"""Predict the memory of answering, from a configuration alone: what is stored, what is alive at the worst moment.

In: a `ModelShape` and the options of a run. Out: a `Plan`, a list of items with the formula of each in words. No weight
file is opened, no tensor made. The activation lists follow the code as it runs (see `plan_activations`), they are not
fitted. Training is in `plan_training`, what would fit in `plan_fit`, seconds in `plan_time`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from xverse_v.errors import error
from xverse_v.model.tiling import MAX_TILES, choose_grid
from xverse_v.weights.plan_activations import (
    Kernels,
    cutting_phase,
    decoder_pass,
    features_item,
    logits_item,
    vision_phase,
)
from xverse_v.weights.plan_table import Device, Item, Phase, Plan, product
from xverse_v.weights.plan_weights import weight_items
from xverse_v.weights.shapes import (
    ELEMENT_BYTES,
    WEIGHT_DTYPES,
    DecoderShape,
    ModelShape,
    compute_dtype,
)

EXPECTED_ANSWER = 256
COLUMN_BLOCK = 64
PREFIX_BYTES = 2**30
FEATURE_BYTES = 2**28
"""How the engine sizes its working cache and bounds what it keeps for reuse (prefixes: this or a full context, the
larger of the two); a test holds them to the engine's own."""


HERE = Device()


@dataclass(frozen=True)
class InferenceOptions:
    """One question, or a conversation, about some images; every row of a batch has this size.

    images: (width, height) in pixels, each of one row. question_tokens: of one turn, with the template's own words.
    turns: earlier turns stay in the context with their answers. batch: rows answered together, on each GPU when the
    shard is `replicate`. requests: how many different ones the run serves; what is kept for reuse grows with them, up
    to its bound. prefix_bytes, feature_bytes: those bounds; 0 keeps nothing.
    """

    images: tuple[tuple[int, int], ...] = ()
    question_tokens: int = 64
    new_tokens: int = 512
    turns: int = 1
    batch: int = 1
    requests: int = 1
    dtype: str = "bfloat16"
    max_tiles: int = MAX_TILES
    device: Device = HERE
    prefix_bytes: int | None = None
    feature_bytes: int = FEATURE_BYTES


def views_of(images: Sequence[tuple[int, int]], max_tiles: int, tile_size: int = 224) -> list[int]:
    """Views of each image, by the tiler itself; both orientations give the same count. Raises E153 for a bad size."""
    counts = []
    for width, height in images:
        try:
            counts.append(
                choose_grid(width, height, orientation="upright", max_tiles=max_tiles, tile_size=tile_size).views
            )
        except ValueError as problem:
            raise error("E153", given=f"{width}x{height}", problem=problem) from problem
    return counts


def plan_inference(shape: ModelShape, options: InferenceOptions) -> Plan:
    """The memory of one device while the engine answers: rows prefilled one by one, then decoded together.

    Raises E156 when prompt and answer do not fit the context, E157 when the heads cannot be split over the GPUs, E159
    for an unknown dtype, E153 and E155 for sizes and counts that cannot be.
    """
    check_choice("dtype", options.dtype, WEIGHT_DTYPES)
    check_counts(
        {
            "--question-tokens": options.question_tokens,
            "--new-tokens": options.new_tokens,
            "--turns": options.turns,
            "--batch": options.batch,
            "--requests": options.requests,
            "--gpus": options.device.gpus,
        }
    )
    device, views = options.device, views_of(options.images, options.max_tiles, shape.vision.image_size)
    image_tokens = sum(views) * shape.vision.patches
    prompt = image_tokens + options.turns * options.question_tokens + (options.turns - 1) * options.new_tokens
    check_context(shape, prompt, options.new_tokens, image_tokens)
    decoder = split_decoder(shape.decoder, device)
    kernels = Kernels(ELEMENT_BYTES[compute_dtype(options.dtype, device.kind)], device.kind == "cpu", device.threads)
    facts = {
        "views": views,
        "image_tokens_per_view": shape.vision.patches,
        "image_tokens": image_tokens,
        "prompt_tokens": prompt,
        "context_tokens": prompt + options.new_tokens,
        "context_limit": shape.decoder.context,
        "cache_bytes_per_token": shape.decoder.cache_bytes(1, kernels.element),
        "parameters": shape.parameters,
        **_said(options),
    }
    phases = _phases(replace(shape, decoder=decoder), options, views, prompt, kernels)
    resident = weight_items(shape, decoder, options.dtype, device.kind)
    return Plan("infer", shape.name, shape.note, facts, tuple(resident), tuple(phases), device.kind)


def _phases(
    shape: ModelShape, options: InferenceOptions, views: list[int], prompt: int, kernels: Kernels
) -> list[Phase]:
    """In the order of the run, for the last row of the last batch: all that came before it is still held."""
    element, rows, others = kernels.element, options.batch, max(options.batch, options.requests) - 1
    columns, outgrown = cache_columns(prompt, options.new_tokens)
    kv = cache_item(shape, "KV cache", columns, element, rows)
    image_tokens, several = sum(views) * shape.vision.patches, options.turns > 1
    # A later turn is prefilled behind what its conversation left in the prefix cache: the answer before, its own text.
    text = options.question_tokens + (options.new_tokens if several else 0)
    shared = prompt if several else image_tokens
    earlier = prompt - text if several else image_tokens
    prefixes = [_prefix_item(shape, options, shared, others, own, element) for own in (0, earlier, shared)]
    copied = (text if several else image_tokens) if options.prefix_bytes != 0 else 0
    copy = cache_item(shape, "copy for the prefix cache", copied, element)
    features = features_item(shape, sum(views), element)
    kept = [_kept(features, count, options.feature_bytes) for count in (others, others + 1)]
    phases = []
    if views:
        held, largest = [*([kv] if others else []), prefixes[0], kept[0]], max(views)
        images = decoder_pass(shape, image_tokens, image_tokens, kernels, name="prefill of the images")
        phases = [
            *([cutting_phase(shape, views, element).plus(*held)] if kernels.cpu else []),
            vision_phase(shape, largest, sum(views) - largest, kernels).plus(*held),
            images.plus(kv, prefixes[0], kept[1], features),
        ]
    step = decoder_pass(shape, 1, columns, kernels, rows=rows, name="decode")
    growth = cache_item(shape, "KV cache before it grew, one layer", outgrown, element, rows, layers=1)
    return [
        *phases,
        decoder_pass(shape, text, prompt, kernels, name="prefill of the text").plus(kv, prefixes[1], kept[1]),
        Phase("keeping the prefix", (copy,)).plus(kv, prefixes[1 if several else 0], kept[1], features),
        step.plus(kv, prefixes[2], kept[1], logits_item(shape, rows, element), growth),
    ]


def cache_columns(prompt: int, new_tokens: int) -> tuple[int, int]:
    """Columns of the working cache when the answer ends, and those it had before it last grew (0 if it never did).

    The engine reserves the prompt and `EXPECTED_ANSWER` tokens, in blocks; a longer answer makes it grow by half.
    """
    before, columns = 0, _blocks(prompt + min(new_tokens, EXPECTED_ANSWER))
    while columns < prompt + new_tokens - 1:
        before, columns = columns, _blocks(columns + columns // 2)
    return columns, before


def _blocks(columns: int) -> int:
    return -(-columns // COLUMN_BLOCK) * COLUMN_BLOCK


def cache_item(
    shape: ModelShape, name: str, tokens: int, element: int, rows: int = 1, *, layers: int | None = None
) -> Item:
    """Keys and values of `rows` x `tokens` in all layers, or in some."""
    decoder = shape.decoder
    depth = decoder.layers if layers is None else layers
    return product(
        name, element, (2, ""), (depth, "layers"), (rows, "rows"), (tokens, "tokens"), (decoder.key_width, "wide")
    )


def _prefix_item(
    shape: ModelShape, options: InferenceOptions, shared: int, others: int, own: int, element: int
) -> Item:
    """What the prefix cache holds: `shared` tokens of each other request, `own` of this one, up to its bound."""
    each = shape.decoder.cache_bytes(1, element)
    bound = options.prefix_bytes
    if bound is None:
        bound = max(PREFIX_BYTES, each * shape.decoder.context)
    room = bound // each
    mine = own if own <= room else 0
    tokens = mine + (min(others, (room - mine) // shared) * shared if shared else 0)
    return Item("prefix cache", f"{tokens:,} tokens x {each:,} bytes kept for reuse, at most {bound:,}", tokens * each)


def _kept(features: Item, count: int, bound: int) -> Item:
    """What the feature cache holds after `count` requests; one above the bound is never kept."""
    fits = min(count, bound // features.bytes) if features.bytes else 0
    words = f"{fits} x {features.bytes:,} bytes kept for reuse, at most {bound:,}"
    return Item("feature cache", words, fits * features.bytes)


def _said(options: InferenceOptions) -> dict[str, Any]:
    """The options as they were taken, so that no number stands without its settings."""
    said = asdict(options)
    device = said.pop("device")
    return {**said, "images": [f"{width}x{height}" for width, height in options.images], **device}


def check_choice(name: str, given: str, known: Sequence[str]) -> None:
    """Raises E159 for a value that is not one of `known`."""
    if given not in known:
        raise error("E159", name=name, given=given, known=", ".join(known))


def check_counts(given: Mapping[str, int]) -> None:
    """Raises E155 for the first flag below 1."""
    for flag, value in given.items():
        if value < 1:
            raise error("E155", flag=flag, given=value, expected="1 or more")


def check_context(shape: ModelShape, prompt: int, new_tokens: int, image_tokens: int) -> None:
    """Raises E156 when the model could not hold this conversation at all."""
    limit = shape.decoder.context
    if prompt + new_tokens > limit:
        raise error(
            "E156",
            needed=prompt + new_tokens,
            limit=limit,
            image_tokens=image_tokens,
            new_tokens=new_tokens,
            over=prompt + new_tokens - limit,
        )


def split_decoder(decoder: DecoderShape, device: Device) -> DecoderShape:
    """One GPU's part under tensor parallelism (`full`): heads and feed-forward divided, hidden states whole.

    Raises E157 when the GPUs do not divide them.
    """
    count = device.gpus if device.shard == "full" else 1
    if decoder.heads % count or decoder.kv_heads % count or decoder.feed_forward % count:
        raise error(
            "E157", gpus=count, heads=decoder.heads, kv_heads=decoder.kv_heads, feed_forward=decoder.feed_forward
        )
    return replace(
        decoder,
        heads=decoder.heads // count,
        kv_heads=decoder.kv_heads // count,
        feed_forward=decoder.feed_forward // count,
    )
