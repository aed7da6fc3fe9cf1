"""Several processes training one module: each takes its own rows, gradients are averaged before every update.

What crosses: the environment of `torchrun` (RANK, WORLD_SIZE, ...) in, a `Crew` out; alone if there is none. The
seeds of rows depend on the crew's size, so a run is repeated exactly only by a crew of the same size.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class Crew:
    """`rank` of `size` processes."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def join() -> Crew:
        """The crew that this process was started in."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size > 1 and not distributed.is_initialized():
            distributed.init_process_group("gloo")
        return Crew(int(os.environ.get("RANK", "0")), size)

    def start(self, step: int, count: int) -> int:
        """Number of this process's first row in a step in which each process takes `count` rows."""
        return (step * self.size + self.rank) * count

    def average(self, module: nn.Module) -> None:
        """Replaces every gradient by its mean over the crew. A missing gradient counts as zero."""
        if self.size == 1:
            return
        wanted = [p for p in module.parameters() if p.requires_grad]
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in wanted])
        distributed.all_reduce(flat)
        flat /= self.size
        for parameter, part in zip(wanted, flat.split([p.numel() for p in wanted]), strict=True):
            parameter.grad = part.view_as(parameter)

    @property
    def leads(self) -> bool:
        """One process of the crew writes and reports."""
        return self.rank == 0
