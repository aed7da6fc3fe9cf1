"""What is alive at the worst moments of answering, listed as the code holds it. Shapes in, bytes out.

A list names every tensor that lives at one moment: the arguments that calling frames still hold as well as what the
line at work makes. Nothing here is fitted; a list that stops matching the code is caught by the test that measures it.
Of devices only the attention kernel matters here; options, files and training (`plan_training`) are not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xverse_v.weights.plan_table import Item, Phase, product, worst_of
from xverse_v.weights.shapes import ModelShape

PIXEL_BYTES = 4
"""`pixel_values` arrive in float32 whatever the model computes in."""


@dataclass(frozen=True)
class Kernels:
    """What decides the size of temporaries: bytes an element, and which attention kernel runs on how many threads."""

    element: int
    cpu: bool
    threads: int = 1

    def attention_workspace(self, queries: int, keys: int, head_width: int) -> int:
        """Scratch of torch's CPU flash kernel: a block of scores, maxima, sums and output a thread, in float32."""
        if not self.cpu:
            return 0
        block = 256 if queries >= 768 else 64 if queries >= 192 else min(32, queries)
        columns = min(keys, 512)
        low_precision = block * columns * self.element if self.element < 4 else 0
        return self.threads * (block * (columns + 2 + head_width) * 4 + low_precision)


def views_item(shape: ModelShape, views: int) -> Item:
    """`pixel_values` float32[V, 3, T, T]."""
    side, channels = shape.vision.image_size, shape.vision.channels
    return product("views", PIXEL_BYTES, (views, "views"), (channels, ""), (side, ""), (side, "pixels"))


def features_item(shape: ModelShape, views: int, element: int, name: str = "image features") -> Item:
    """Image tokens after the projector, float[V, P, D]."""
    return product(name, element, (views * shape.vision.patches, "image tokens"), (shape.decoder.width, "wide"))


def cutting_phase(shape: ModelShape, views: Sequence[int], element: int) -> Phase:
    """Cutting the last image on the host: float32 views, the bytes of one; the image before is still held.

    Arrays, not tensors: a tracker of tensors does not see them, the process does.
    """
    last, before = views[-1], views[-2] if len(views) > 1 else 0
    side = shape.vision.image_size
    raw = product("a view, as bytes", 1, (shape.vision.channels, ""), (side, ""), (side, "pixels"))
    done = features_item(shape, sum(views) - last, element)
    return Phase("cutting the views", (views_item(shape, last + before), raw, done))


def vision_phase(shape: ModelShape, views: int, before: int, kernels: Kernels) -> Phase:
    """Vision tower and projector on an image of `views`, without gradients; `before` are views of those before."""
    vision, width, element = shape.vision, shape.decoder.width, kernels.element
    positions, patches = views * (vision.patches + 1), views * vision.patches
    pixels, done = views_item(shape, views), features_item(shape, before, element)
    side = vision.image_size
    cast = product("views in the compute dtype", element, (views * vision.channels * side * side, "pixels"))
    inputs = [pixels, done] if element == PIXEL_BYTES else [pixels, done, cast]
    # In a layer's MLP: the encoder's and the layer's input, the residual, the normed input; and the fc1 output with
    # quick_gelu's sigmoid and product (one result fewer for a GELU made by a single kernel).
    held, inner = min(4, 2 + vision.layers), 3 if vision.quick_gelu else 2
    tower = [
        *inputs,
        product("vision tower: hidden states", element, (held, ""), (positions, "positions"), (vision.width, "wide")),
        product(
            "vision tower: feed-forward", element, (inner, ""), (positions, "positions"), (vision.feed_forward, "wide")
        ),
    ]
    # The patch convolution; on the CPU its weights are also held in the kernel's own layout, as its output always is.
    layout = vision.channels * vision.patch_size**2 * vision.width if kernels.cpu else 0
    patching = [
        *inputs,
        Item(
            "vision tower: patches",
            "output twice, and the kernel's copy of its weights",
            (2 * patches * vision.width + layout) * element,
        ),
    ]
    between = max(vision.width + width, 2 * width)
    projector = [
        pixels,
        done,
        product("vision tower: output", element, (positions, "positions"), (vision.width, "wide")),
        product("projector", element, (patches, "patches"), (between, "wide")),
    ]
    joining = [pixels, features_item(shape, 2 * (before + views), element, "image features, joined to one block")]
    return worst_of("vision", [tower, patching, projector, joining])


def decoder_pass(
    shape: ModelShape, tokens: int, columns: int, kernels: Kernels, *, rows: int = 1, name: str = "prefill"
) -> Phase:
    """One pass of `rows` x `tokens` through the decoder over a cache of `columns`; the cache itself is not in it.

    A pass that continues a cache, or has rows of different length, carries an explicit mask.
    """
    decoder, element = shape.decoder, kernels.element
    width, query, key = decoder.width, decoder.query_width, decoder.key_width
    count = rows * tokens
    masked = (tokens > 1 and columns > tokens) or rows > 1
    mask = product("attention mask", 1, (rows * masked, "rows"), (tokens, "tokens"), (columns, "columns"))
    turns = product("rotary tables", element, (2, ""), (tokens, "tokens"), (decoder.head_width, "wide"))
    additive = product(
        "attention mask, additive", element, (rows * masked, "rows"), (tokens, "tokens"), (columns, "columns")
    )

    def hidden(parts: int, size: int = element) -> Item:
        return product("decoder: hidden states", size, (parts, ""), (count, "tokens"), (width, "wide"))

    # MLP: prompt embeddings, layer input, residual, normed input; gate after SiLU, up, their product.
    inner = product("decoder: feed-forward", element, (3, ""), (count, "tokens"), (decoder.feed_forward, "wide"))
    mlp = [hidden(4), inner, turns, mask]
    # Rotary: prompt embeddings, layer input, normed input; the three projections, and turning a query or a key.
    turning = query + 2 * key + max(3 * query, query + 3 * key)
    rotary = [hidden(3), product("decoder: rotary", element, (count, "tokens"), (turning, "wide")), turns, mask]
    # The kernel: query, output, its log-sums, scratch. Keys and values are the cache's, unless they must be repeated.
    repeated = rows * columns * 2 * query * element if masked and key < query else 0
    scratch = count * decoder.heads * 4 + kernels.attention_workspace(tokens, columns, decoder.head_width)
    attention = [
        hidden(3),
        product("decoder: attention", element, (2, ""), (count, "tokens"), (query, "wide")),
        Item("decoder: attention kernel", "log-sums, blocks of scores, repeated keys and values", scratch + repeated),
        turns,
        mask,
        additive,
    ]
    # RMSNorm in low precision: its input and its square or product in float32.
    norm = [
        hidden(3),
        product("decoder: norm", 4, (2 if element < 4 else 0, ""), (count, "tokens"), (width, "wide")),
        turns,
        mask,
    ]
    return worst_of(name, [[item for item in moment if item.bytes] for moment in (mlp, rotary, attention, norm)])


def logits_item(shape: ModelShape, rows: int, element: int) -> Item:
    """Logits of one position a row and, in low precision, their float32 copy."""
    each = element if element == 4 else element + 4
    return product("logits", each, (rows, "rows"), (shape.decoder.vocabulary, "ids"))
