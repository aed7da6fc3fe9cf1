"""Steps between matrix products on the CPU, piece by piece in its caches and in the memory of what came before.

transformers writes each step (rotate, activate, multiply) as whole tensors, 15 to 45 MB apiece for a prompt with an
image: fresh memory, page by page from the system, read again from the slowest place there is. Here a step runs over
some rows at a time and overwrites its input, which nobody else holds. The same operations on the same numbers in the
same order, so that every bit stays (tests/test_elementwise.py).

In: a module. Out: the same module, whose CLIP and LLaMA layers compute so where there is enough to do; short inputs,
gradients and other devices are left to transformers. Names, weights and what is saved stay as they are.

Shapes: B rows, S tokens, H heads, K head width, W any width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import CLIPMLP
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP, eager_attention_forward

PIECE = 2**18
"""Elements of a piece: 1 MB in float32, which with a temporary of its size stays in the caches of two cores."""


def use_cached_steps(module: nn.Module) -> None:
    """Let the CLIP and LLaMA layers below ``module`` compute as this file does."""
    for layer in module.modules():
        layer.__class__ = _SWAPPED.get(type(layer), type(layer))


class CachedClipMLP(CLIPMLP):
    """float[..., W] -> float[..., W]: linear, activation, linear."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        if not _suits(hidden_states):
            return super().forward(hidden_states)
        inner = self.fc1(hidden_states)
        for (piece,) in _pieces(inner):
            piece.copy_(self.activation_fn(piece))
        return self.fc2(inner)


class CachedLlamaMLP(LlamaMLP):
    """float[..., W] -> float[..., W]: two linears, one of them activated, their product, a linear."""

    def forward(self, x: Tensor) -> Tensor:
        if not _suits(x):
            return super().forward(x)
        gate, up = self.gate_proj(x), self.up_proj(x)
        for some_gate, some_up in _pieces(gate, up):
            torch.mul(self.act_fn(some_gate), some_up, out=some_gate)
        return self.down_proj(gate)


class CachedLlamaAttention(LlamaAttention):
    """float[B, S, W] -> float[B, S, W]; queries and keys are turned where they lie."""

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        if position_embeddings is None or not _suits(hidden_states):
            return super().forward(hidden_states, position_embeddings, attention_mask, past_key_values, **kwargs)
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query, key, value = (made(hidden_states).view(shape) for made in (self.q_proj, self.k_proj, self.v_proj))
        for states in (query, key):
            rotate(states, *position_embeddings)
        states = (query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        if past_key_values is not None:
            states = (states[0], *past_key_values.update(*states[1:], self.layer_idx))
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        found, weights = attend(self, *states, attention_mask, dropout=0.0, scaling=self.scaling, **kwargs)
        return self.o_proj(found.reshape(*hidden_states.shape[:-1], -1)), weights


_SWAPPED: dict[type, type] = {CLIPMLP: CachedClipMLP, LlamaMLP: CachedLlamaMLP, LlamaAttention: CachedLlamaAttention}


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Turn float[B, S, H, K] in place by float[1 or B, S, K] each, the halves of K as (x, y) of a plane: (x cos - y
    sin, y cos + x sin).
    """
    half = states.shape[-1] // 2
    step = max(1, PIECE // max(1, states[:, 0].numel()))
    for start in range(0, states.shape[1], step):
        x, y = states[:, start : start + step].split(half, dim=-1)
        (cos_x, cos_y), (sin_x, sin_y) = (
            part[:, start : start + step, None].split(half, dim=-1) for part in (cos, sin)
        )
        crossed = y * sin_x
        y.mul_(cos_y).add_(x * sin_y)
        x.mul_(cos_x).sub_(crossed)


def _suits(hidden_states: Tensor) -> bool:
    return (
        hidden_states.device.type == "cpu"
        and hidden_states.numel() >= PIECE
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    )


def _pieces(*tensors: Tensor) -> Any:
    """Of float[..., W] each, the same rows at a time, to be overwritten."""
    width = tensors[0].shape[-1]
    return zip(*(tensor.view(-1, width).split(max(1, PIECE // width)) for tensor in tensors), strict=True)
