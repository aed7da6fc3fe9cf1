"""Which tensors a model folder holds, and what the release called them.

What crosses: a configuration in, names and shapes out; a name of one of the release's three parts in, our name or
the reason for dropping it out. Literal tables, no tensors, no files. LoRA names are lora.py's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from xverse_v.model.configuration import XverseVConfig

VISION = "model.vision_tower"
PROJECTOR = "model.multi_modal_projector"
DECODER = "model.language_model"
EMBEDDING = f"{DECODER}.embed_tokens.weight"
HEAD = "lm_head.weight"

Shapes = dict[str, tuple[int, ...]]

# The parts of a folder as reports and dtype tables name them.
GROUPS = {VISION: "vision tower", PROJECTOR: "projector", DECODER: "decoder", "lm_head": "decoder"}


@dataclass(frozen=True)
class Dropped:
    """A tensor of the release that has no place here, and why."""

    reason: str


TEXT_TOWER = Dropped("CLIP's text tower and its projections: the model reads no text through CLIP")
POST_LAYERNORM = Dropped("CLIP's last norm: it only touches the pooled vector, which is never read")
LAST_LAYER = Dropped("CLIP's last layer: the features are the output of the layer before it")
BUFFER = Dropped("position_ids and inv_freq: computed from the configuration")

_PROJECTOR_NAMES = {
    "ln_vision.weight": f"{PROJECTOR}.layer_norm.weight",
    "ln_vision.bias": f"{PROJECTOR}.layer_norm.bias",
    "llama_proj.0.weight": f"{PROJECTOR}.linear_1.weight",
    "llama_proj.0.bias": f"{PROJECTOR}.linear_1.bias",
    "llama_proj.2.weight": f"{PROJECTOR}.linear_2.weight",
    "llama_proj.2.bias": f"{PROJECTOR}.linear_2.bias",
}
LAYER_NORM = (f"{PROJECTOR}.layer_norm.weight", f"{PROJECTOR}.layer_norm.bias")


def expected_tensors(config: XverseVConfig) -> Shapes:
    """Every tensor of a folder with this configuration, with its shape, in the order the computation meets them."""
    return {**_vision(config), **_projector(config), **_decoder(config)}


def _vision(config: XverseVConfig) -> Shapes:
    vision = config.vision_config
    width, inner = vision.hidden_size, vision.intermediate_size
    shapes: Shapes = {
        f"{VISION}.embeddings.class_embedding": (width,),
        f"{VISION}.embeddings.patch_embedding.weight": (
            width,
            vision.num_channels,
            vision.patch_size,
            vision.patch_size,
        ),
        f"{VISION}.embeddings.position_embedding.weight": (config.patches_per_view + 1, width),
        f"{VISION}.pre_layrnorm.weight": (width,),
        f"{VISION}.pre_layrnorm.bias": (width,),
    }
    linears = {f"self_attn.{name}_proj": (width, width) for name in ("k", "v", "q", "out")}
    linears |= {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
    for layer in range(vision.num_hidden_layers):
        prefix = f"{VISION}.encoder.layers.{layer}"
        for name, shape in linears.items():
            shapes |= {f"{prefix}.{name}.weight": shape, f"{prefix}.{name}.bias": shape[:1]}
        for name in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{prefix}.{name}.weight": (width,), f"{prefix}.{name}.bias": (width,)}
    return shapes


def _projector(config: XverseVConfig) -> Shapes:
    vision_width, width = config.vision_config.hidden_size, config.text_config.hidden_size
    return {
        LAYER_NORM[0]: (vision_width,),
        LAYER_NORM[1]: (vision_width,),
        f"{PROJECTOR}.linear_1.weight": (width, vision_width),
        f"{PROJECTOR}.linear_1.bias": (width,),
        f"{PROJECTOR}.linear_2.weight": (width, width),
        f"{PROJECTOR}.linear_2.bias": (width,),
    }


def _decoder(config: XverseVConfig) -> Shapes:
    text = config.text_config
    width, rows = text.hidden_size, text.vocab_size
    shapes: Shapes = {EMBEDDING: (rows, width)}
    for layer in range(text.num_hidden_layers):
        prefix = f"{DECODER}.layers.{layer}"
        shapes |= {f"{prefix}.{name}.weight": shape for name, shape in decoder_linears(config).items()}
        shapes |= {f"{prefix}.{name}.weight": (width,) for name in ("input_layernorm", "post_attention_layernorm")}
    return {**shapes, f"{DECODER}.norm.weight": (width,), HEAD: (rows, width)}


def decoder_linears(config: XverseVConfig) -> Shapes:
    """The seven linears of one decoder layer, each (out, in): what LoRA may change."""
    text = config.text_config
    width, inner = text.hidden_size, text.intermediate_size
    head = getattr(text, "head_dim", None) or width // text.num_attention_heads
    queries, keys = text.num_attention_heads * head, text.num_key_value_heads * head
    return {
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }


def clip_target(name: str, stored_layers: int) -> str | Dropped | None:
    """Our name of a tensor of the CLIP folder, why it is dropped, or None if it is unknown."""
    if name.endswith(".position_ids"):
        return BUFFER
    if name.startswith("text_model.") or name in ("text_projection.weight", "visual_projection.weight", "logit_scale"):
        return TEXT_TOWER
    if not name.startswith("vision_model."):
        return None
    rest = name.removeprefix("vision_model.")
    if rest in ("post_layernorm.weight", "post_layernorm.bias"):
        return POST_LAYERNORM
    layer = re.match(r"encoder\.layers\.(\d+)\.", rest)
    if layer and int(layer[1]) == stored_layers:
        return LAST_LAYER
    return f"{VISION}.{rest}"


def decoder_target(name: str) -> str | Dropped | None:
    """Our name of a tensor of the chat folder, why it is dropped, or None if it is unknown."""
    if name.endswith(".rotary_emb.inv_freq"):
        return BUFFER
    if name == HEAD:
        return HEAD
    return f"{DECODER}.{name.removeprefix('model.')}" if name.startswith("model.") else None


def projector_target(name: str) -> str | None:
    """Our name of a tensor of the adapters file that is not LoRA's, or None if it is unknown."""
    return _PROJECTOR_NAMES.get(name)


def group_of(name: str) -> str:
    """The part a tensor of ours belongs to, in the words of reports."""
    for prefix, group in GROUPS.items():
        if name.startswith(prefix + "."):
            return group
    return "unknown"
