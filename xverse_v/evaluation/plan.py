"""From a data file to the rows that are asked: read, limited, checked, and everything left out by name.

Rows hold no image data (images of a TSV stay in it), so a plan weighs a few hundred bytes a row whatever the file's
size. The file knows no model and opens no image.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .contract import BadRow, Benchmark, Profile, Row
from .data_files import DataFile
from .tsv import IMAGELESS, bad_row


@dataclass(frozen=True)
class Task:
    """One benchmark with its data and all that decides which rows are asked, and how."""

    benchmark: Benchmark
    data: DataFile
    profile: Profile
    image_root: Path | None = None
    limit: int | None = None
    max_new_tokens: int | None = None  # in place of the benchmark's own
    custom: str = ""  # the kind of a user's own data set, see custom.py


@dataclass
class Plan:
    """`rows` are asked; `bad` cannot be; `left_out` are not by the data set's own rule. `beyond` the limit, a count."""

    rows: list[Row] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    left_out: list[BadRow] = field(default_factory=list)
    beyond: int = 0

    def bad_codes(self) -> dict[str, int]:
        """How many rows are bad, by error code."""
        return dict(sorted(Counter(row.code for row in self.bad).items()))


def make_plan(task: Task) -> Plan:
    """Read the whole data file. `limit` counts questions, so the passes of a circular question stay together."""
    plan = Plan()
    keys: set[str] = set()
    groups: set[str] = set()
    for place, row in enumerate(task.benchmark.rows(task.data.path, task.profile, task.image_root), start=1):
        if isinstance(row, BadRow):
            (plan.left_out if row.code == IMAGELESS else plan.bad).append(row)
        elif row.key in keys:
            plan.bad.append(bad_row(row.key, place, "E712"))
        else:
            keys.add(row.key)
            group = row.group or row.key
            if task.limit is not None and group not in groups and len(groups) >= task.limit:
                plan.beyond += 1
                continue
            groups.add(group)
            plan.rows.append(row)
    return plan
