"""Adapters on the decoder's linears, and a dropout that depends on the sample and not on its neighbours.

What crosses: a network and `LoraSettings` in; the same network with peft layers in it out. Adapters start from the
seed and their own name. Dropout masks are a function of (seed, step, sample, layer): a sample gets the same mask in
any micro-batch, on any rank and after any restart. This file knows no optimizer and no files.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import peft
import torch
from torch import nn

from xverse_v.errors import error

from .config import LoraSettings

ADAPTER = "default"
DECODER = "model.language_model."


def key_of(*parts: object) -> int:
    """A 63-bit number from any values; the same on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little") >> 1


@dataclass(frozen=True)
class Span:
    """Tokens `start` to `stop` of a row: one sample, with the key of its masks."""

    row: int
    start: int
    stop: int
    key: int


class SampleDropout(nn.Module):
    """Dropout whose mask on a span of tokens is drawn by a generator of the span's own.

    `spans` is set before a forward pass and holds until its backward pass is over, so that recomputation draws the
    same masks. Tokens outside every span (padding) are dropped whole.
    """

    def __init__(self, p: float, name: str) -> None:
        super().__init__()
        self.p = p
        self.name = name
        self.spans: Sequence[Span] = ()

    def extra_repr(self) -> str:
        return f"p={self.p}"

    @torch.compiler.disable
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float[B, S, I] -> the same, entries zero with probability p and the others divided by 1 - p."""
        if not self.training or self.p == 0:
            return x
        mask = torch.zeros_like(x, requires_grad=False)
        generator = torch.Generator(x.device)
        for span in self.spans:
            generator.manual_seed(key_of(span.key, self.name))
            mask[span.row, span.start : span.stop].bernoulli_(1 - self.p, generator=generator)
        return x * mask.mul_(1 / (1 - self.p))


def add_lora(model: nn.Module, settings: LoraSettings, seed: int) -> list[str]:
    """Wrap the linears that `settings.linears` names in peft layers. Returns their names.

    Everything else of the network is frozen by peft; the stage's rules decide afterwards. Raises E264 if the pattern
    names nothing, or something that is not a linear of the decoder.
    """
    pattern = re.compile(settings.linears)
    matched = {name: module for name, module in model.named_modules() if pattern.fullmatch(name)}
    strangers = [
        name for name, module in matched.items() if not (name.startswith(DECODER) and isinstance(module, nn.Linear))
    ]
    if strangers or not matched:
        raise error(
            "E264",
            linears=settings.linears,
            matched=len(matched),
            strangers=len(strangers),
            example=(strangers or ["-"])[0],
        )
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # peft divides it by r: a fraction is fine
        lora_dropout=settings.dropout,
        target_modules=list(matched),
        bias="none",
    )
    peft.inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    for name in matched:
        layer = model.get_submodule(name)
        _start(layer, name, settings, seed)
    return list(matched)


def _start(layer: nn.Module, name: str, settings: LoraSettings, seed: int) -> None:
    """A uniform as peft draws it but from the seed, in float32; B zero: the network starts as it was."""
    generator = torch.Generator().manual_seed(key_of(seed, "lora", name))
    down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight  # type: ignore[union-attr, index]
    bound = 1 / math.sqrt(down.shape[1])
    first = torch.empty(down.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
    down.data = first.to(down.device)
    up.data = torch.zeros(up.shape, dtype=torch.float32, device=up.device)
    kept = layer.lora_dropout
    assert isinstance(kept, nn.ModuleDict)
    kept[ADAPTER] = SampleDropout(settings.dropout, name)


def dropouts(model: nn.Module) -> list[SampleDropout]:
    """All adapters' dropouts of a network."""
    return [module for module in model.modules() if isinstance(module, SampleDropout)]
