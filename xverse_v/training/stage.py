"""A stage put on a network: which parameters train, by which rule, and what everything else is told.

What crosses: a network and the rules of a `Stage` in; the network with `requires_grad`, dtypes and train/eval modes
set and the claims out. A parameter is claimed by exactly one rule or it is frozen, and both are said in words. This
file knows no data, no devices and no learning-rate schedule.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from xverse_v.errors import error

from .config import Rule, Stage
from .lora import SampleDropout, key_of


@dataclass(frozen=True)
class Claims:
    """The outcome: rule -> names of its parameters, and the names of the frozen ones with their sizes."""

    rules: Mapping[str, tuple[str, ...]]
    frozen: tuple[str, ...]
    sizes: Mapping[str, int]

    @property
    def trained(self) -> tuple[str, ...]:
        """All trained names, in the order of the rules."""
        return tuple(name for names in self.rules.values() for name in names)

    def count(self, names: Sequence[str]) -> int:
        """Numbers in these parameters."""
        return sum(self.sizes[name] for name in names)


def claim(parameters: Mapping[str, nn.Parameter], rules: Sequence[Rule]) -> Claims:
    """Give every parameter to the rule whose pattern matches its whole name.

    Raises E252 for a pattern that is not one or a rule named twice, E254 for a rule that matches nothing, E255 for a
    parameter claimed twice.
    """
    owners: dict[str, str] = {}
    claimed: dict[str, list[str]] = {}
    for rule in rules:
        try:
            pattern = re.compile(rule.match)
        except re.error as problem:
            raise error("E252", path="stage.rules", key=rule.name, got=repr(rule.match), problem=problem) from None
        if rule.name in claimed:
            raise error("E252", path="stage.rules", key="name", got=repr(rule.name), problem="two rules have this name")
        claimed[rule.name] = [name for name in parameters if pattern.fullmatch(name)]
        if not claimed[rule.name]:
            raise error(
                "E254",
                rule=rule.name,
                match=rule.match,
                count=len(parameters),
                nearest=_nearest(rule.match, parameters),
            )
        for name in claimed[rule.name]:
            if name in owners:
                raise error("E255", name=name, first=owners[name], second=rule.name)
            owners[name] = rule.name
    frozen = tuple(name for name in parameters if name not in owners)
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    return Claims({rule: tuple(names) for rule, names in claimed.items()}, frozen, sizes)


def _nearest(pattern: str, names: Mapping[str, nn.Parameter]) -> str:
    """The parameter whose name looks most like a pattern."""
    plain = re.sub(r"\\(.)|[.*+?()\[\]|^$]+", lambda m: m[1] or "", pattern)
    near = difflib.get_close_matches(plain, list(names), n=1, cutoff=0.0)
    return near[0] if near else "-"


def start_anew(model: nn.Module, pattern: str, seed: int) -> list[str]:
    """Give parameters the values of a new layer, as torch draws them but from the seed and their name. Returns their
    names.

    Raises E254 if the pattern matches nothing.
    """
    parameters = dict(model.named_parameters())
    [names] = claim(parameters, [Rule.model_validate({"name": "fresh", "match": pattern, "lr": 1.0})]).rules.values()
    for name in names:
        parameter = parameters[name]
        value = torch.empty(parameter.shape, dtype=torch.float32)
        if parameter.ndim > 1:
            bound = 1 / math.sqrt(parameter[0].numel())
            value.uniform_(-bound, bound, generator=torch.Generator().manual_seed(key_of(seed, "fresh", name)))
        else:
            value.fill_(0.0 if name.endswith(".bias") else 1.0)
        parameter.data = value.to(parameter.device, parameter.dtype)
    return list(names)


def apply_stage(model: nn.Module, stage: Stage) -> Claims:
    """Freeze what is not claimed and make what is claimed float32; set the modes. Returns the claims.

    A module without a trained parameter of its own or below it is in eval mode; LoRA's dropout is in train mode.
    """
    parameters = dict(model.named_parameters())
    claims = claim(parameters, stage.rules)
    trained = set(claims.trained)
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)
        if name in trained:
            parameter.data = parameter.data.to(torch.float32)
    set_modes(model, training=True)
    return claims


def set_modes(model: nn.Module, *, training: bool) -> None:
    """Train mode for modules that hold trained parameters and for the dropout of adapters, eval mode for the others."""
    for module in model.modules():
        # Set one by one: `train()` would reach every module below and wake the dropout of frozen ones.
        own = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        module.training = training and (own or isinstance(module, SampleDropout))


def in_words(stage: Stage, claims: Claims) -> list[str]:
    """The stage as lines for a person: each rule, then the frozen parts."""
    total = sum(claims.sizes.values())
    trained = claims.count(claims.trained)
    lines = [f"stage {stage.name}: {trained:,} of {total:,} numbers train ({100 * trained / total:.2f} %)"]
    for rule in stage.rules:
        names = claims.rules[rule.name]
        decay = f", weight decay {rule.weight_decay:g}" if rule.weight_decay else ""
        held = f"{claims.count(names):,} in {len(names)} tensors"
        lines.append(f"  {rule.name}: {held}, learning rate {rule.lr:g} to {rule.min_lr:g}{decay}")
    parts: dict[str, list[str]] = {}
    for name in claims.frozen:
        parts.setdefault(".".join(name.split(".")[:2]), []).append(name)
    lines += [f"  frozen: {part}, {claims.count(these):,} in {len(these)} tensors" for part, these in parts.items()]
    return lines
