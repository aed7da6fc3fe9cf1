"""One measured number with everything it depends on: a line of JSON for scripts, a row of a table for people.

A `Record` is what was measured, on whom, every sample, and the least that physics allows; its percent of the ceiling
follows. `Conditions` (machine, versions, threads, load, date) stand in every JSON line and once above a table. A `Goal`
is a wanted number with the found one beside it. Nothing here measures, prints or writes files.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

import torch

from xverse_v import __version__
from xverse_v.speed.ceilings import device_name

LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "pillow", "numpy")


@dataclass(frozen=True)
class Conditions:
    """What a number was measured under. `load` is the load average of the last minute as the measurement began: above
    the number of cores somebody else was computing, too."""

    date: str
    machine: str
    cores: int
    memory_bytes: int
    threads: int
    load: float
    device: str
    versions: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Sample:
    """One timed run: wall seconds, and seconds of processor time of the whole process (all its threads)."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Record:
    """One row. `samples` are in `unit`; the row's value is their median.

    what: the thing measured ("first token"). who: "xverse-v", or a peer's name. settings: sizes it depends on (model,
    views, dtype, batch, ...). floor: the least value physics allows, in the same unit, from ceilings measured in the
    same run; None where there is none. bound: which ceiling that is. cpu: processor time of each sample, in the same
    unit. higher: the unit is a rate, so more is better.
    """

    what: str
    who: str
    unit: str
    samples: tuple[float, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    floor: float | None = None
    bound: str = ""
    cpu: tuple[float, ...] = ()
    higher: bool = False
    note: str = ""

    @property
    def value(self) -> float:
        """Median of the samples."""
        return median(self.samples)

    @property
    def n(self) -> int:
        return len(self.samples)

    @property
    def percent(self) -> float | None:
        """Percent of the ceiling: 100 is as fast as physics allows."""
        if self.floor is None or not self.value or not self.floor:
            return None
        return 100 * (self.value / self.floor if self.higher else self.floor / self.value)

    def as_dict(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "who": self.who,
            "value": self.value,
            "unit": self.unit,
            "n": self.n,
            "samples": list(self.samples),
            "cpu": median(self.cpu) if self.cpu else None,
            "floor": self.floor,
            "bound": self.bound or None,
            "percent_of_ceiling": self.percent,
            "settings": dict(self.settings),
            "note": self.note or None,
        }


@dataclass(frozen=True)
class Goal:
    """A wanted number and the found one. `met` is None when it was not measured; `why` says so, or why it is missed."""

    name: str
    wanted: str
    found: str
    met: bool | None
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def conditions(device: str = "cpu") -> Conditions:
    """The present ones."""
    versions = {"xverse-v": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # not a dependency of ours: its absence is a condition, too
            versions[name] = "not installed"
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Conditions(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=device_name("cpu"),
        cores=os.cpu_count() or 0,
        memory_bytes=pages,
        threads=torch.get_num_threads(),
        load=os.getloadavg()[0],
        device=device_name(device),
        versions=versions,
    )


def timed(work: Callable[[], object], device: str = "cpu") -> Sample:
    """One run of `work`, waiting for the device."""
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if cuda:
        torch.cuda.synchronize(device)
    return Sample(time.perf_counter() - wall, time.process_time() - cpu)


def json_line(record: Record, under: Conditions) -> str:
    """The row with its conditions as one line of JSON."""
    return json.dumps({**record.as_dict(), "conditions": under.as_dict()}, ensure_ascii=False)


def conditions_table(under: Conditions) -> list[str]:
    """The conditions as a Markdown table."""
    versions = ", ".join(f"{name} {number}" for name, number in under.versions.items())
    machine = under.machine if under.device == under.machine else f"{under.machine}; {under.device}"
    return [
        "| | |",
        "|---|---|",
        f"| date | {under.date} |",
        f"| machine | {machine}, {under.memory_bytes / 2**30:.0f} GiB |",
        f"| threads | {under.threads} of {under.cores} cores, load average {under.load:.1f} as it began |",
        f"| software | {versions} |",
    ]


def table(records: Sequence[Record]) -> list[str]:
    """The rows as a Markdown table, settings that differ between them included."""
    varying = [key for key in _keys(records) if len({str(r.settings.get(key, "")) for r in records}) > 1]
    head = ["what", "who", *varying, "median", "unit", "n", "spread", "CPU", "least possible", "of ceiling"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for record in records:
        shares = "" if record.percent is None else f"{record.percent:.0f} %"
        cells = [
            record.what,
            record.who,
            *(str(record.settings.get(key, "")) for key in varying),
            number(record.value),
            record.unit,
            str(record.n),
            f"{number(min(record.samples))} to {number(max(record.samples))}" if record.n > 1 else "",
            number(median(record.cpu)) if record.cpu else "",
            f"{number(record.floor)} ({record.bound})" if record.floor is not None else "",
            shares,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def settings_in_words(records: Sequence[Record]) -> str:
    """The settings that are the same for all rows, which the table leaves out."""
    same = [key for key in _keys(records) if len({str(r.settings.get(key, "")) for r in records}) == 1]
    return ", ".join(f"{key} {records[0].settings[key]}" for key in same)


def goals_table(goals: Sequence[Goal]) -> list[str]:
    """Every goal with its number beside it."""
    lines = ["| goal | wanted | found | met | why |", "|---|---|---|---|---|"]
    words = {True: "yes", False: "**no**", None: "not measured"}
    return lines + [f"| {g.name} | {g.wanted} | {g.found} | {words[g.met]} | {g.why} |" for g in goals]


def number(value: float) -> str:
    """Three digits that matter."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _keys(records: Sequence[Record]) -> list[str]:
    found: dict[str, None] = {}
    for record in records:
        found |= dict.fromkeys(record.settings)
    return list(found)
