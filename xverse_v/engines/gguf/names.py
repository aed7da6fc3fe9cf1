"""Which of our tensors goes where in a GGUF file, under what name, with which rows in which order.

What crosses: a configuration in, a list of `Stored` out, in the order of the file. Literal tables; no tensors are read
and no file is opened. Sources: the loaders of llama.cpp (architectures `llama` and `clip`).

llama.cpp turns neighbouring values of a head in its rotary embedding, transformers turns value i with value i + half a
head; so the rows of the query and key projections are stored in llama.cpp's order (`rotary_order`).
"""

from __future__ import annotations

from dataclasses import dataclass

from xverse_v.errors import error
from xverse_v.model import XverseVConfig
from xverse_v.weights.layout import DECODER, EMBEDDING, HEAD, PROJECTOR, VISION, expected_tensors

_DECODER_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_VISION_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}
_VISION = {
    f"{VISION}.embeddings.class_embedding": "v.class_embd",
    f"{VISION}.embeddings.patch_embedding.weight": "v.patch_embd.weight",
    f"{VISION}.embeddings.position_embedding.weight": "v.position_embd.weight",
    f"{VISION}.pre_layrnorm.weight": "v.pre_ln.weight",
    f"{VISION}.pre_layrnorm.bias": "v.pre_ln.bias",
    # The `mlp` graph applies v.post_ln to the features in front of the projector: the place of our LayerNorm.
    f"{PROJECTOR}.layer_norm.weight": "v.post_ln.weight",
    f"{PROJECTOR}.layer_norm.bias": "v.post_ln.bias",
    f"{PROJECTOR}.linear_1.weight": "mm.0.weight",
    f"{PROJECTOR}.linear_1.bias": "mm.0.bias",
    f"{PROJECTOR}.linear_2.weight": "mm.2.weight",
    f"{PROJECTOR}.linear_2.bias": "mm.2.bias",
}
# Read row by row or added, never multiplied: llama.cpp wants plain float32 for these.
_FLOAT32 = ("v.class_embd", "v.position_embd.weight")


@dataclass(frozen=True)
class Stored:
    """One tensor of a GGUF file.

    ``source`` is our name; None for a tensor that is only there because the loader asks for it, zeros. ``heads``: above
    0 its rows are stored in `rotary_order`. ``wide``: always float32, whatever the type of the file.
    """

    name: str
    source: str | None
    shape: tuple[int, ...]
    heads: int = 0
    wide: bool = False


def decoder_tensors(config: XverseVConfig) -> list[Stored]:
    """The decoder as architecture `llama`. Raises E832 if the decoder has something llama.cpp's graph has not."""
    check_decoder(config)
    text, shapes = config.text_config, expected_tensors(config)
    heads = {"attn_q": text.num_attention_heads, "attn_k": text.num_key_value_heads}
    found = [Stored("token_embd.weight", EMBEDDING, shapes[EMBEDDING])]
    for layer in range(text.num_hidden_layers):
        for ours, theirs in _DECODER_LAYER.items():
            source = f"{DECODER}.layers.{layer}.{ours}.weight"
            shape = shapes[source]
            name = f"blk.{layer}.{theirs}.weight"
            found.append(Stored(name, source, shape, heads.get(theirs, 0), len(shape) == 1))
    norm = f"{DECODER}.norm.weight"
    found.append(Stored("output_norm.weight", norm, shapes[norm], wide=True))
    return [*found, Stored("output.weight", HEAD, shapes[HEAD])]


def vision_tensors(config: XverseVConfig) -> list[Stored]:
    """Vision tower and projector as projector type `mlp`.

    llama.cpp leaves out the last layer it finds. Ours is gone already, so one of zeros stands in for it. Raises E832.
    """
    check_vision(config)
    shapes = expected_tensors(config)
    found = [_vision_tensor(name, source, shapes[source]) for source, name in _VISION.items()]
    layers = config.vision_config.num_hidden_layers
    for layer in range(layers + 1):
        for ours, theirs in _VISION_LAYER.items():
            for kind in ("weight", "bias"):
                like = f"{VISION}.encoder.layers.{min(layer, layers - 1)}.{ours}.{kind}"
                source = like if layer < layers else None
                found.append(_vision_tensor(f"v.blk.{layer}.{theirs}.{kind}", source, shapes[like]))
    return found


def _vision_tensor(name: str, source: str | None, shape: tuple[int, ...]) -> Stored:
    return Stored(name, source, shape, wide=len(shape) == 1 or name in _FLOAT32)


def rotary_order(rows: int, heads: int) -> list[int]:
    """Row i of the stored tensor is row ``rotary_order[i]`` of ours: of each head, first and second half in turn."""
    half = rows // heads // 2
    pairs = ((head, i, second) for head in range(heads) for i in range(half) for second in (0, 1))
    return [(2 * head + second) * half + i for head, i, second in pairs]


def check_decoder(config: XverseVConfig) -> None:
    """Raises E832 for a decoder that llama.cpp would compute differently."""
    text = config.text_config
    rope = getattr(text, "rope_parameters", None) or {}
    facts = {
        "rope_type": (rope.get("rope_type", "default"), "default"),
        "hidden_act": (text.hidden_act, "silu"),
        "attention_bias": (bool(text.attention_bias), False),
        "mlp_bias": (bool(text.mlp_bias), False),
        "tie_word_embeddings": (bool(config.tie_word_embeddings), False),
    }
    _refuse(facts)


def check_vision(config: XverseVConfig) -> None:
    """Raises E832 for a vision tower or projector that llama.cpp would compute differently."""
    vision = config.vision_config
    _refuse(
        {
            "vision hidden_act": (vision.hidden_act, "quick_gelu"),
            "projector_hidden_act": (config.projector_hidden_act, "gelu"),
            # llama.cpp has one epsilon for all norms of a vision file.
            "projector_layer_norm_eps": (config.projector_layer_norm_eps, vision.layer_norm_eps),
        }
    )


def _refuse(facts: dict[str, tuple[object, object]]) -> None:
    for name, (found, expected) in facts.items():
        if found != expected:
            raise error("E832", name=name, found=found, expected=expected)
