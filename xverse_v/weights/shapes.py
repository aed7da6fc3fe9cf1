"""Sizes of the model's three parts, from a configuration alone: parameters, bytes, cache bytes a token.

In: a model folder's `config.json`, a loaded configuration, or one of the published sizes. Out: frozen numbers. Nothing
here opens a weight file, allocates a tensor or knows what a phase of work is.

Letters: E vision width, D decoder width, F feed-forward width, L layers, V views, P patches a view.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xverse_v.errors import error

ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTISED_BITS = {"int8": 8, "int4": 4}
WEIGHT_DTYPES = (*ELEMENT_BYTES, *QUANTISED_BITS)
INT4_GROUP = 128
"""Weights of one row that share a scale when they are stored in four bits."""

WIDTH_UNDER_QUANTISATION = {"cuda": "bfloat16", "cpu": "float32"}
"""What stays unquantised (vision tower, projector, embeddings, norms, activations, cache) is stored in this: on a GPU
as in the engines that quantise, where the head stays too, on a CPU as our own `--quantise` leaves it."""


@dataclass(frozen=True)
class VisionShape:
    """CLIP vision tower; only the layers that run. Released model: 23 layers, E = 1024, 257 positions."""

    width: int
    layers: int
    heads: int
    feed_forward: int
    image_size: int
    patch_size: int
    channels: int = 3
    quick_gelu: bool = True

    @property
    def patches(self) -> int:
        """P: image tokens of one view."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def layer_parameters(self) -> int:
        width, feed_forward = self.width, self.feed_forward
        attention = 4 * (width * width + width)
        mlp = 2 * width * feed_forward + feed_forward + width
        return attention + mlp + 4 * width

    @property
    def parameters(self) -> int:
        """Class vector, patch convolution, positions, first norm, layers. CLIP's last norm is not stored."""
        embeddings = self.width * (1 + self.channels * self.patch_size**2 + self.patches + 1)
        return embeddings + 2 * self.width + self.layers * self.layer_parameters


@dataclass(frozen=True)
class DecoderShape:
    """Llama-style decoder. `query_width` = heads x head width; `key_width` = key/value heads x head width."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    feed_forward: int
    vocabulary: int
    context: int
    tied: bool = False
    biases: int = 0

    @property
    def query_width(self) -> int:
        return self.heads * self.head_width

    @property
    def key_width(self) -> int:
        return self.kv_heads * self.head_width

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Name -> (in, out) of the seven linears of a layer, the ones LoRA adapts and quantisation shrinks."""
        width, query, key, feed_forward = self.width, self.query_width, self.key_width, self.feed_forward
        return {
            "q_proj": (width, query),
            "k_proj": (width, key),
            "v_proj": (width, key),
            "o_proj": (query, width),
            "gate_proj": (width, feed_forward),
            "up_proj": (width, feed_forward),
            "down_proj": (feed_forward, width),
        }

    @property
    def linear_parameters(self) -> int:
        """Weights of all layers' linears, without biases."""
        return self.layers * sum(inside * outside for inside, outside in self.linears.values())

    @property
    def body_parameters(self) -> int:
        """All layers and the last norm, without embeddings and head."""
        return self.linear_parameters + self.layers * (2 * self.width + self.biases) + self.width

    @property
    def head_parameters(self) -> int:
        return self.vocabulary * self.width

    @property
    def embedding_parameters(self) -> int:
        """Input embeddings and, unless it is tied to them, the head."""
        return self.head_parameters * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        return self.body_parameters + self.embedding_parameters

    def cache_bytes(self, tokens: int, element_bytes: int) -> int:
        """Keys and values of `tokens` positions in every layer."""
        return 2 * self.layers * self.key_width * element_bytes * tokens

    def lora_parameters(self, rank: int) -> int:
        """Two matrices a linear, `in x rank` and `rank x out`, on all seven linears of every layer."""
        return self.layers * rank * sum(inside + outside for inside, outside in self.linears.values())


@dataclass(frozen=True)
class ModelShape:
    """The whole model. `note` says where the numbers come from when they are not a folder's own."""

    name: str
    vision: VisionShape
    decoder: DecoderShape
    dtype: str = "bfloat16"
    note: str = ""

    @property
    def projector_parameters(self) -> int:
        """LayerNorm(E), Linear(E, D), Linear(D, D), with biases."""
        vision, width = self.vision.width, self.decoder.width
        return 2 * vision + vision * width + width + width * width + width

    @property
    def parameters(self) -> int:
        return self.vision.parameters + self.projector_parameters + self.decoder.parameters


def linear_bytes(decoder: DecoderShape, dtype: str) -> int:
    """Stored bytes of the decoder's linears. int8: one byte each, a scale a row; int4: half a byte, a scale a group.

    Quantised as an engine on a GPU holds them; on a CPU see `plan_weights`.
    """
    if dtype in ELEMENT_BYTES:
        return decoder.linear_parameters * ELEMENT_BYTES[dtype]
    scale = ELEMENT_BYTES[WIDTH_UNDER_QUANTISATION["cuda"]]
    if dtype == "int8":
        rows = decoder.layers * sum(outside for _, outside in decoder.linears.values())
        return decoder.linear_parameters + rows * scale
    return decoder.linear_parameters // 2 + decoder.linear_parameters // INT4_GROUP * scale


def compute_dtype(dtype: str, device: str = "cuda") -> str:
    """The dtype of activations and cache: the weights' own; under quantised linears what such a device leaves."""
    return dtype if dtype in ELEMENT_BYTES else WIDTH_UNDER_QUANTISATION[device]


RELEASED_VISION = VisionShape(width=1024, layers=23, heads=16, feed_forward=4096, image_size=224, patch_size=14)
"""CLIP ViT-L/14 at 224 pixels up to its penultimate layer."""


def _published(
    name: str, width: int, layers: int, heads: int, feed_forward: int, vocabulary: int, context: int
) -> ModelShape:
    # One row more than the chat decoder's vocabulary: the placeholder token's own.
    decoder = DecoderShape(width, layers, heads, heads, width // heads, feed_forward, vocabulary + 1, context)
    return ModelShape(name, RELEASED_VISION, decoder, note="published shape, not loaded here")


PUBLISHED = {
    "7b": _published("7b", 4096, 32, 32, 11008, 100_278, 8192),
    "13b": _published("13b", 5120, 40, 40, 13824, 100_278, 8192),
    "65b": _published("65b", 8192, 80, 64, 22016, 100_534, 16384),
}
"""XVERSE-7B, -13B and -65B chat decoders under the released vision tower; only the 13B was released with images."""


def shape_from_config(config: Any, *, name: str) -> ModelShape:
    """Read a loaded `XverseVConfig`."""
    vision, text = config.vision_config, config.text_config
    heads, kv_heads = text.num_attention_heads, text.num_key_value_heads or text.num_attention_heads
    head_width = getattr(text, "head_dim", None) or text.hidden_size // heads
    attention_biases = (heads + 2 * kv_heads) * head_width + text.hidden_size if text.attention_bias else 0
    mlp_biases = 2 * text.intermediate_size + text.hidden_size if text.mlp_bias else 0
    return ModelShape(
        name=name,
        vision=VisionShape(
            width=vision.hidden_size,
            layers=vision.num_hidden_layers,
            heads=vision.num_attention_heads,
            feed_forward=vision.intermediate_size,
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            channels=vision.num_channels,
            quick_gelu=vision.hidden_act == "quick_gelu",
        ),
        decoder=DecoderShape(
            width=text.hidden_size,
            layers=text.num_hidden_layers,
            heads=heads,
            kv_heads=kv_heads,
            head_width=head_width,
            feed_forward=text.intermediate_size,
            vocabulary=text.vocab_size,
            context=text.max_position_embeddings,
            tied=bool(config.tie_word_embeddings),
            biases=attention_biases + mlp_biases,
        ),
        dtype=_dtype_name(config),
    )


def config_from_shape(shape: ModelShape) -> Any:
    """The `XverseVConfig` of a shape without biases, as the published ones are: names and sizes, for a network on the
    meta device."""
    from transformers import CLIPVisionConfig, LlamaConfig

    from xverse_v.model.configuration import XverseVConfig

    vision, decoder = shape.vision, shape.decoder
    return XverseVConfig(
        CLIPVisionConfig(
            hidden_size=vision.width,
            intermediate_size=vision.feed_forward,
            num_hidden_layers=vision.layers,
            num_attention_heads=vision.heads,
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            num_channels=vision.channels,
            hidden_act="quick_gelu" if vision.quick_gelu else "gelu",
        ),
        LlamaConfig(
            hidden_size=decoder.width,
            intermediate_size=decoder.feed_forward,
            num_hidden_layers=decoder.layers,
            num_attention_heads=decoder.heads,
            num_key_value_heads=decoder.kv_heads,
            head_dim=decoder.head_width,
            vocab_size=decoder.vocabulary,
            max_position_embeddings=decoder.context,
        ),
        tie_word_embeddings=decoder.tied,
    )


def shape_from_folder(folder: Path, *, name: str | None = None) -> ModelShape:
    """Read a converted folder's `config.json` and nothing else.

    Raises E151 when the file is missing or not JSON, E152 when it describes another kind of model.
    """
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise error("E151", path=path, problem=f"{type(problem).__name__}: {problem}") from problem
    from xverse_v.model.configuration import XverseVConfig

    if not isinstance(found, dict) or found.get("model_type") != XverseVConfig.model_type:
        kind = found.get("model_type") if isinstance(found, dict) else type(found).__name__
        raise error("E152", path=path, found=kind, expected=XverseVConfig.model_type)
    try:
        config = XverseVConfig.from_dict(found)
        return shape_from_config(config, name=name or str(folder))
    except (TypeError, ValueError, AttributeError) as problem:
        raise error("E151", path=path, problem=f"{type(problem).__name__}: {problem}") from problem


def _dtype_name(config: Any) -> str:
    """The stored dtype a configuration names; float32 when it names none, as the library itself assumes."""
    found = str(config.dtype or config.text_config.dtype or "float32").removeprefix("torch.")
    return found if found in ELEMENT_BYTES else "float32"
