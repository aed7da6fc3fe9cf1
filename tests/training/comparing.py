"""Two runs compared: losses, gradient norms and weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.training.conftest import lines
from xverse_v.training.checkpoint import read_weights

SAME = 1e-6


def weights_hash(run: Path, step: int) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(read_weights(run, step).items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def numbers(run: Path, name: str = "loss") -> list[float]:
    """The last value of each step."""
    return list({line["step"]: line[name] for line in lines(run) if name in line}.values())


def assert_same(one: Path, two: Path, step: int) -> None:
    """Losses and gradient norms to 1e-6; weights by the norm of the difference, as AdamW turns a gradient of nearly
    nothing into a step of either sign."""
    for name in ("loss", "gradient_norm"):
        assert numbers(one, name) == pytest.approx(numbers(two, name), abs=SAME, rel=0)
    first, second = read_weights(one, step), read_weights(two, step)
    assert first.keys() == second.keys()
    for name in first:
        assert (first[name] - second[name]).norm() <= 1e-4 * second[name].norm(), name
