"""The keys of our GGUF files: sizes, tokenizer, chat template, and whose weights they are.

What crosses: a configuration and a vocabulary in; a list of `Entry`s out, in the order of the file. No library is
needed here; writing them is files.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from xverse_v import __version__
from xverse_v.model import XverseVConfig, XverseVImageProcessor

from .tokenizer import Vocabulary

Kind = Literal["string", "uint32", "int32", "float32", "bool", "strings", "int32s", "float32s"]
Value = str | int | float | bool | Sequence[str] | Sequence[int] | Sequence[float]

WEIGHTS_ID = "xverse_v.weights_id"
VERSION = "xverse_v.version"

# llama-server gives a message with images as one string in which "<__media_...__>" stands for each, without line ends
# around it; our prompt has one behind each image.
_TEMPLATE = """\
{%- macro texts(content) -%}
{%- if content is not string -%}{{ content | map(attribute='text') | join('\\n') }}
{%- elif '<__media' in content -%}{{ content | replace('__>', '__>\\n') }}
{%- else -%}{{ content }}
{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}{{ texts(message['content']) + '\\n' }}
{%- elif message['role'] == 'user' -%}{{ 'Human: ' + texts(message['content']) + '\\n' }}
{%- elif message['role'] == 'assistant' -%}{{ 'Assistant: ' + texts(message['content']) + '@END@' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant: ' }}{%- endif -%}
"""


@dataclass(frozen=True)
class Entry:
    """One key with the type its reader expects."""

    key: str
    kind: Kind
    value: Value


def chat_template(end_token: str) -> str:
    """The prompt form for engines that fill in images themselves; ours breaks up special tokens a user typed, which
    llama.cpp's tokenizer could not put together again.
    """
    return _TEMPLATE.replace("@END@", end_token)


def general(name: str, weights_id: str, file_type: int) -> list[Entry]:
    """Whose file this is. ``file_type`` is llama.cpp's number of the type most weights have."""
    return [
        Entry("general.name", "string", name),
        Entry("general.file_type", "uint32", file_type),
        Entry("general.quantization_version", "uint32", 2),
        Entry(WEIGHTS_ID, "string", weights_id),
        Entry(VERSION, "string", __version__),
    ]


def decoder(config: XverseVConfig) -> list[Entry]:
    """Sizes of the decoder, as architecture `llama`."""
    text = config.text_config
    sizes: dict[str, int] = {
        "context_length": text.max_position_embeddings,
        "embedding_length": text.hidden_size,
        "block_count": text.num_hidden_layers,
        "feed_forward_length": text.intermediate_size,
        "attention.head_count": text.num_attention_heads,
        "attention.head_count_kv": text.num_key_value_heads,
        "attention.key_length": text.head_dim,
        "attention.value_length": text.head_dim,
        "rope.dimension_count": text.head_dim,
        "vocab_size": text.vocab_size,
    }
    theta = float((text.rope_parameters or {}).get("rope_theta", 10000.0))
    return [
        *[Entry(f"llama.{key}", "uint32", int(value)) for key, value in sizes.items()],
        Entry("llama.attention.layer_norm_rms_epsilon", "float32", float(text.rms_norm_eps)),
        Entry("llama.rope.freq_base", "float32", theta),
    ]


def tokenizer(vocabulary: Vocabulary, end_token: str) -> list[Entry]:
    """Vocabulary and prompt form."""
    numbers = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    return [
        Entry("tokenizer.ggml.model", "string", "llama"),
        Entry("tokenizer.ggml.tokens", "strings", vocabulary.tokens),
        Entry("tokenizer.ggml.scores", "float32s", vocabulary.scores),
        Entry("tokenizer.ggml.token_type", "int32s", vocabulary.kinds),
        *[
            Entry(f"tokenizer.ggml.{theirs}_token_id", "uint32", place)
            for ours, theirs in numbers.items()
            if (place := vocabulary.ids.get(ours)) is not None
        ],
        Entry("tokenizer.ggml.add_bos_token", "bool", vocabulary.adds_start),
        Entry("tokenizer.ggml.add_eos_token", "bool", False),
        Entry("tokenizer.ggml.add_space_prefix", "bool", vocabulary.adds_space),
        Entry("tokenizer.chat_template", "string", chat_template(end_token)),
    ]


def vision(config: XverseVConfig, images: XverseVImageProcessor) -> list[Entry]:
    """Sizes of vision tower and projector. One layer more than we have: llama.cpp leaves the last one out. Neither
    `use_gelu` nor `use_silu` means the quick GELU of CLIP.
    """
    tower = config.vision_config
    sizes: dict[str, int] = {
        "image_size": tower.image_size,
        "patch_size": tower.patch_size,
        "embedding_length": tower.hidden_size,
        "feed_forward_length": tower.intermediate_size,
        "block_count": tower.num_hidden_layers + 1,
        "attention.head_count": tower.num_attention_heads,
        "projection_dim": config.text_config.hidden_size,
    }
    return [
        Entry("general.type", "string", "mmproj"),
        Entry("clip.has_vision_encoder", "bool", True),
        Entry("clip.projector_type", "string", "mlp"),
        *[Entry(f"clip.vision.{key}", "uint32", int(value)) for key, value in sizes.items()],
        Entry("clip.vision.attention.layer_norm_epsilon", "float32", float(tower.layer_norm_eps)),
        Entry("clip.vision.image_mean", "float32s", tuple(float(value) for value in images.image_mean)),
        Entry("clip.vision.image_std", "float32s", tuple(float(value) for value in images.image_std)),
    ]
