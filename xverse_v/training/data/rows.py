"""Every row of a file for `data check`, broken ones too, whatever the file is.

What crosses: a file in, `RawRow`s out: the record or None, and what reading it found. Nothing is raised for a bad row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .formats import Origin
from .scanner import BOM, scan
from .sources import Kind
from .tar import TarDamaged, samples
from .tar_record import tar_record

Problems = tuple[tuple[str, dict[str, Any]], ...]


@dataclass(frozen=True)
class RawRow:
    """`file` numbers the file. `counts`: 1 if it is a row, 0 if it is something around rows (a blank line, an open
    array)."""

    origin: Origin
    value: Any
    problems: Problems = ()
    file: int = 0
    counts: int = 1


_AROUND_ROWS = ("D103", "D104", "D105", "D106", "D702")


def rows_of(
    path: Path, kind: Kind, number: int, image_root: Path | None, questions: tuple[str, ...] = ("",)
) -> Iterator[RawRow]:
    """Rows in the order of the file. Lines count from 1; in tar and parquet files they are the sample's number."""
    root = image_root or path.parent
    if kind == "webdataset":
        yield from _tar_rows(path, number, questions)
    elif kind == "parquet":
        from .parquet import rows

        for line, record in enumerate(rows(path), 1):
            yield RawRow(Origin(path.name, line, root, questions=questions), record, (), number)
    else:
        with path.open("rb") as file:
            if file.read(len(BOM)) == BOM:
                yield RawRow(Origin(path.name, 1, root), None, (("D103", {}),), number, counts=0)
        for row in scan(path, kind):
            problems: Problems = ((row.problem, row.facts),) if row.problem else ()
            problems += tuple(("D108", {"key": key}) for key in row.repeated)
            origin = Origin(path.name, row.line, root, questions=questions)
            value = row.value if row.problem is None else None
            if row.problem is None and value is None:
                problems += (("D110", {"found": "null"}),)
            yield RawRow(origin, value, problems, number, counts=int(row.problem not in _AROUND_ROWS))


def _tar_rows(path: Path, number: int, questions: tuple[str, ...]) -> Iterator[RawRow]:
    line = 0
    try:
        with path.open("rb") as file:
            for group in samples(file):
                line += 1
                found: list[tuple[str, dict[str, Any]]] = []
                contents = []
                for member in group:
                    file.seek(member.data)
                    contents.append((member, file.read(member.size)))
                record = tar_record(contents, lambda code, **facts: found.append((code, facts)))  # noqa: B023
                origin = Origin(path.name, line, None, f"{path.name}:{group[0].key}", questions)
                yield RawRow(origin, record, tuple(found), number)
    except TarDamaged as damage:
        facts = {"offset": damage.offset, "reason": str(damage)}
        yield RawRow(Origin(path.name, line + 1, None), None, (("D702", facts),), number, counts=0)
