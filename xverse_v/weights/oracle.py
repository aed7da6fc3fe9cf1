"""A second, independent computation of the logits, straight from the release's three parts.

Written as formulas on tensors, with the release's own key names, one tensor in memory at a time: no transformers
module, no name table of layout.py, no merge of lora.py. A wrong merge, a swapped key or a wrong layer count in a
converted folder therefore shows. All arithmetic is float32; weights are first rounded to the dtype they are stored in.

Shapes: V views, P patches a view, S sequence, E vision width, D decoder width, H heads, d head width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from xverse_v.model import XverseVConfig

from .parts import OpenFiles, PartFile
from .writer import blocks

_LORA = "llama_model.base_model.model.model."


class Parts:
    """The three parts as one lookup by the release's names. A context: at most one file of each kind is open at a time.

    `dtype` is what the weights are rounded to; `scale` is LoRA's alpha / rank; with `merged` LoRA is added before
    rounding (one rounding, as in a merged folder), else after it (as peft computes).
    """

    def __init__(
        self,
        clip: Sequence[PartFile],
        llm: Sequence[PartFile],
        adapters: PartFile,
        *,
        dtype: torch.dtype,
        scale: float,
        merged: bool,
    ) -> None:
        parts = (("clip", clip), ("llm", llm), ("adapters", [adapters]))
        self._files = {(part, name): file for part, files in parts for file in files for name in file.tensors}
        self._open = OpenFiles()
        self.dtype, self.scale, self.merged = dtype, scale, merged
        newer = any(name.endswith(".lora_A.default.weight") for name in adapters.tensors)
        self._lora_suffix = ".default.weight" if newer else ".weight"

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *problem: object) -> None:
        self._open.__exit__(*problem)

    def has(self, part: str, name: str) -> bool:
        return (part, name) in self._files

    def shape(self, part: str, name: str) -> tuple[int, ...]:
        return self._files[part, name].tensors[name].shape

    def stored(self, part: str, name: str) -> torch.Tensor:
        """A tensor as it is in its file, memory-mapped."""
        kind = "adapters" if part == "adapters" else "base"
        return self._open.read(kind, self._files[part, name], name)

    def get(self, part: str, name: str) -> torch.Tensor:
        """A tensor in float32, rounded to the stored dtype first."""
        return self.stored(part, name).to(self.dtype).float().clone()

    def rows(self, name: str, wanted: slice | torch.Tensor) -> torch.Tensor:
        """Rows of a decoder weight, LoRA included: float32[n, I]."""
        rows = self.stored("llm", name)[wanted]
        lora = _LORA + name.removeprefix("model.").removesuffix(".weight")
        if not self.has("adapters", f"{lora}.lora_A{self._lora_suffix}"):
            return rows.to(self.dtype).float()
        a = self.stored("adapters", f"{lora}.lora_A{self._lora_suffix}").float()
        b = self.stored("adapters", f"{lora}.lora_B{self._lora_suffix}")[wanted].float()
        change = self.scale * (b @ a)
        return (rows.float() + change).to(self.dtype).float() if self.merged else rows.to(self.dtype).float() + change

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """x W^T for a decoder weight, computed a few rows of W at a time: x float32[..., I] -> float32[..., O]."""
        spans = blocks(self.shape("llm", name), 4)
        return torch.cat([x @ self.rows(name, slice(start, stop)).T for start, stop in spans], dim=-1)


@torch.no_grad()
def last_logits(
    parts: Parts, config: XverseVConfig, input_ids: Sequence[int], pixel_values: torch.Tensor
) -> torch.Tensor:
    """`input_ids` with placeholders, `pixel_values` float[V, 3, T, T] -> the last token's logits, float32[rows].

    The rows are the release's: the placeholder has none unless it took an unused row.
    """
    images = project(parts, config, vision(parts, config, pixel_values))
    ids = torch.tensor(input_ids)
    places = ids == config.image_token_id
    hidden = torch.empty(len(ids), images.shape[-1])
    hidden[~places] = parts.rows("model.embed_tokens.weight", ids[~places])
    hidden[places] = images.flatten(0, 1)
    return decode(parts, config, hidden)


def vision(parts: Parts, config: XverseVConfig, pixels: torch.Tensor) -> torch.Tensor:
    """float[V, 3, T, T] -> float32[V, P, E]: CLIP up to the layer before its last, CLS dropped."""
    settings = config.vision_config
    size, heads, eps = settings.patch_size, settings.num_attention_heads, settings.layer_norm_eps

    def get(name: str) -> torch.Tensor:
        return parts.get("clip", f"vision_model.{name}")

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], get(f"{name}.weight"), get(f"{name}.bias"), eps)

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ get(f"{name}.weight").T + get(f"{name}.bias")

    patches = (
        F.unfold(pixels.float(), size, stride=size).transpose(1, 2)
        @ get("embeddings.patch_embedding.weight").flatten(1).T
    )
    cls = get("embeddings.class_embedding").expand(len(pixels), 1, -1)
    x = torch.cat([cls, patches], dim=1) + get("embeddings.position_embedding.weight")
    x = norm("pre_layrnorm", x)
    for layer in range(settings.num_hidden_layers):
        prefix = f"encoder.layers.{layer}"
        y = norm(f"{prefix}.layer_norm1", x)
        q, k, v = (
            linear(f"{prefix}.self_attn.{name}_proj", y).unflatten(-1, (heads, -1)).transpose(1, 2) for name in "qkv"
        )
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        x = x + linear(f"{prefix}.self_attn.out_proj", (weights @ v).transpose(1, 2).flatten(2))
        y = linear(f"{prefix}.mlp.fc1", norm(f"{prefix}.layer_norm2", x))
        y = y * torch.sigmoid(1.702 * y) if settings.hidden_act == "quick_gelu" else F.gelu(y)
        x = x + linear(f"{prefix}.mlp.fc2", y)
    return x[:, 1:]


def project(parts: Parts, config: XverseVConfig, x: torch.Tensor) -> torch.Tensor:
    """float32[V, P, E] -> float32[V, P, D]: the release's norm (1 and 0 if its file has none) and bridge."""
    given = parts.has("adapters", "ln_vision.weight")
    scale, shift = (parts.get("adapters", f"ln_vision.{n}") if given else None for n in ("weight", "bias"))
    x = F.layer_norm(x, x.shape[-1:], scale, shift, config.projector_layer_norm_eps)
    x = F.gelu(x @ parts.get("adapters", "llama_proj.0.weight").T + parts.get("adapters", "llama_proj.0.bias"))
    return x @ parts.get("adapters", "llama_proj.2.weight").T + parts.get("adapters", "llama_proj.2.bias")


def decode(parts: Parts, config: XverseVConfig, x: torch.Tensor) -> torch.Tensor:
    """float32[S, D] -> the logits after the last position."""
    text = config.text_config
    heads, keys = text.num_attention_heads, text.num_key_value_heads
    d = parts.shape("llm", "model.layers.0.self_attn.q_proj.weight")[0] // heads
    turn = _rotation(len(x), d, text.rope_parameters)
    future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)

    def norm(name: str, y: torch.Tensor) -> torch.Tensor:
        return y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + text.rms_norm_eps) * parts.get("llm", f"{name}.weight")

    for layer in range(text.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        y = norm(f"{prefix}.input_layernorm", x)
        q, k, v = (
            parts.linear(f"{prefix}.self_attn.{name}_proj.weight", y).unflatten(-1, (-1, d)).transpose(0, 1)
            for name in "qkv"
        )
        q, k, v = (
            _rotate(q, turn),
            _rotate(k, turn).repeat_interleave(heads // keys, 0),
            v.repeat_interleave(heads // keys, 0),
        )
        weights = (q @ k.transpose(-1, -2) / d**0.5).masked_fill(future, float("-inf")).softmax(-1)
        x = x + parts.linear(f"{prefix}.self_attn.o_proj.weight", (weights @ v).transpose(0, 1).flatten(1))
        y = norm(f"{prefix}.post_attention_layernorm", x)
        y = F.silu(parts.linear(f"{prefix}.mlp.gate_proj.weight", y)) * parts.linear(f"{prefix}.mlp.up_proj.weight", y)
        x = x + parts.linear(f"{prefix}.mlp.down_proj.weight", y)
    return parts.linear("lm_head.weight", norm("model.norm", x[-1:]))[0]


def _rotation(length: int, d: int, rope: Mapping[str, object]) -> torch.Tensor:
    """Angles float32[S, d/2] of the half-split rotary embedding, positions scaled linearly if `rope` has a factor."""
    step = torch.arange(length).float() / float(str(rope.get("factor", 1.0)))
    frequencies = float(str(rope["rope_theta"])) ** (-torch.arange(0, d, 2).float() / d)
    return step[:, None] * frequencies


def _rotate(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def row(parts: Parts, name: str, index: int) -> torch.Tensor:
    """A row, flat float32, that a folder of ours should hold under `name`, found by the release's name for it."""
    wanted = slice(index, index + 1)
    if name.startswith("model.vision_tower."):
        release = "vision_model." + name[len("model.vision_tower.") :]
        return parts.get("clip", release)[wanted].flatten()
    if name.startswith("model.multi_modal_projector.layer_norm."):
        which = name.rsplit(".", 1)[1]
        if not parts.has("adapters", f"ln_vision.{which}"):
            return torch.tensor([1.0 if which == "weight" else 0.0])
        return parts.get("adapters", f"ln_vision.{which}")[wanted].flatten()
    if name.startswith("model.multi_modal_projector.linear_"):
        number, which = name[len("model.multi_modal_projector.linear_") :].split(".")
        return parts.get("adapters", f"llama_proj.{2 * int(number) - 2}.{which}")[wanted].flatten()
    release = name if name == "lm_head.weight" else "model." + name[len("model.language_model.") :]
    if index >= parts.shape("llm", release)[0]:
        return torch.zeros(parts.shape("llm", release)[1])
    return parts.rows(release, wanted).flatten()
