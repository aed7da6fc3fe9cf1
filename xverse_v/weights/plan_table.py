"""A prediction: items with their formula in words, phases of what is alive together, the plan of one device.

Data and addition only. What an allocator and a runtime take on top of the tensors is stated here, in lines of thown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Shard = Literal["replicate", "full"]
Stage = Literal["infer", "pretrain", "finetune", "full"]

ALLOCATOR_MARGIN = 0.05
"""Of everything that comes and goes (not of the weights): rounding, fragmentation, kernel workspaces."""

RUNTIME_BYTES = {"cpu": 600_000_000, "cuda": 700_000_000}
"""Python, torch and the libraries in memory (cpu); a CUDA context with its kernels (cuda), an estimate."""


@dataclass(frozen=True)
class Item:
    """One line of the table: what it is, how its size follows from the configuration, in words, and the bytes."""

    name: str
    formula: str
    bytes: int


@dataclass(frozen=True)
class Phase:
    """A moment of the run and everything alive in it besides the resident items."""

    name: str
    items: tuple[Item, ...]

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)

    def plus(self, *items: Item) -> Phase:
        """The same moment with more alive in it; empty items are left out."""
        return Phase(self.name, (*(item for item in items if item.bytes), *self.items))


def worst_of(name: str, moments: Sequence[Sequence[Item]]) -> Phase:
    """The phase at its worst moment."""
    return max((Phase(name, tuple(moment)) for moment in moments), key=lambda phase: phase.bytes)


def product(name: str, element: int, *factors: tuple[int, str]) -> Item:
    """An item whose bytes are the product of its factors and the bytes an element; the formula is written from them."""
    size, words = element, []
    for count, what in factors:
        size *= count
        words.append(f"{count:,} {what}".strip())
    return Item(name, " x ".join([*words, f"{element} bytes"]), size)


@dataclass(frozen=True)
class Device:
    """Where a run happens. `kind` decides which kernels allocate what; `threads` size the CPU attention workspace."""

    kind: Literal["cpu", "cuda"] = "cpu"
    gpus: int = 1
    shard: Shard = "replicate"
    threads: int = 1


@dataclass(frozen=True)
class Plan:
    """The prediction for one device: what stays, what each phase adds, and the worst phase of all."""

    stage: Stage
    model: str
    note: str
    facts: dict[str, Any]
    resident: tuple[Item, ...]
    phases: tuple[Phase, ...]
    device: str = "cpu"

    @property
    def resident_bytes(self) -> int:
        return sum(item.bytes for item in self.resident)

    @property
    def worst(self) -> Phase:
        """The phase with the most bytes alive."""
        return max(self.phases, key=lambda phase: phase.bytes)

    @property
    def tensor_bytes(self) -> int:
        """Peak of live tensors: what a tracker of tensor storage would measure."""
        return self.resident_bytes + self.worst.bytes

    @property
    def margin(self) -> Item:
        share = f"{ALLOCATOR_MARGIN:.0%} of what comes and goes"
        return Item("allocator margin", share, int(self.worst.bytes * ALLOCATOR_MARGIN))

    @property
    def runtime(self) -> Item:
        what = "Python, torch, libraries" if self.device == "cpu" else "CUDA context and kernels, an estimate"
        return Item("runtime", what, RUNTIME_BYTES[self.device])

    @property
    def total_bytes(self) -> int:
        """What the device needs free: tensors, allocator margin and runtime."""
        return self.tensor_bytes + self.margin.bytes + self.runtime.bytes

    def rows(self) -> list[Item]:
        """The table for people, top to bottom; adds up to `total_bytes`."""
        return [*self.resident, *self.worst.items, self.margin, self.runtime]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "stage": self.stage,
            "model": self.model,
            "note": self.note,
            "device": self.device,
            "facts": self.facts,
            "items": [asdict(item) for item in self.rows()],
            "phases": {phase.name: self.resident_bytes + phase.bytes for phase in self.phases},
            "worst_phase": self.worst.name,
            "tensor_bytes": self.tensor_bytes,
            "total_bytes": self.total_bytes,
        }
