"""Our scores and the card's in one table a piece, and what may be compared with what.

What crosses: `Measured` and the card in, plain tables out. Every rule of comparing is here, none of showing:
- a column is one model under one profile; two runs that differ in anything else never share one;
- a number of an incomplete run, or of another data file than the published one, is shown and never the best;
- a number made by other rules than the card's is compared, and marked;
- the best of a row is the highest number that may be compared, several if they are equal as shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .card import SUBJECT, Card, CardRow, CardTable
from .reading import Measured


@dataclass(frozen=True)
class Cell:
    """One number. ``measured`` is None for the card's. ``apart``: why it is not compared; ``differs``: what is other
    than with the card's numbers."""

    value: float
    text: str
    best: bool = False
    measured: Measured | None = None
    apart: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """``name`` as a heading; ``detail`` below it (a profile, "card"). ``ours``: measured here."""

    name: str
    detail: str
    ours: bool
    closed: bool = False


@dataclass(frozen=True)
class TableRow:
    name: str
    cells: tuple[Cell | None, ...]
    card: CardRow


@dataclass(frozen=True)
class Comparison:
    """One table of the card with our columns in front."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class _Subject:
    """What a column of ours stands for."""

    model: str
    profile: str
    weights: str
    number: int  # above 0 where one work folder repeats what another has


def compare(card: Card, measured: Sequence[Measured]) -> list[Comparison]:
    """A comparison for each of the card's tables."""
    subjects = _subjects(measured)
    return [_comparison(card, table, subjects) for table in card.tables]


def outside(card: Card, measured: Sequence[Measured]) -> list[Measured]:
    """Benchmarks that stand in no table of the card."""
    known = {name for table in card.tables for row in table.rows for name in row.measured}
    return [one for one in measured if one.benchmark not in known]


def _subjects(measured: Sequence[Measured]) -> dict[_Subject, dict[str, Measured]]:
    """Column -> benchmark -> run. What a column holds already goes into the next one of the same model."""
    columns: dict[_Subject, dict[str, Measured]] = {}
    for one in measured:
        same = _Subject(one.model, one.profile, one.weights, 0)
        while one.benchmark in columns.setdefault(same, {}):
            same = replace(same, number=same.number + 1)
        columns[same][one.benchmark] = one
    return columns


def _comparison(card: Card, table: CardTable, subjects: dict[_Subject, dict[str, Measured]]) -> Comparison:
    used = [
        (subject, runs)
        for subject, runs in subjects.items()
        if any(name in runs for row in table.rows for name in row.measured)
    ]
    several = {subject.model for subject, _ in used if sum(other.model == subject.model for other, _ in used) > 1}
    ours = [Column(subject.model, _detail(subject, subject.model in several), True) for subject, _ in used]
    theirs = [Column(name, "card", False, name in card.closed) for name in table.models]
    rows = tuple(_row(table, row, [runs for _, runs in used]) for row in table.rows)
    return Comparison(table.title, (*ours, *theirs), rows)


def _detail(subject: _Subject, several: bool) -> str:
    parts = [subject.profile]
    if several and subject.weights:
        parts.append(subject.weights)
    if subject.number:
        parts.append(f"run {subject.number + 1}")
    return ", ".join(parts)


def _row(table: CardTable, row: CardRow, columns: Sequence[dict[str, Measured]]) -> TableRow:
    cells: list[Cell | None] = [_ours(table, row, runs) for runs in columns]
    cells += [Cell(value, row.shown(value)) for value in row.values]
    compared = [round(cell.value, 1) for cell in cells if cell is not None and not cell.apart]
    best = max(compared)
    marked = [
        cell if cell is None or cell.apart or round(cell.value, 1) < best else replace(cell, best=True)
        for cell in cells
    ]
    return TableRow(row.name, tuple(marked), row)


def _ours(table: CardTable, row: CardRow, runs: dict[str, Measured]) -> Cell | None:
    measured = next((runs[name] for name in row.measured if name in runs), None)
    if measured is None:
        return None
    value, unit = measured.headline.value, measured.headline.unit
    apart = list(measured.incomplete)
    if unit == "%" and row.top > 100:
        apart.append("a share, where the card gives points")
    differs = tuple(_differences(table, measured))
    return Cell(value, row.shown(value), measured=measured, apart=tuple(apart), differs=differs)


def _differences(table: CardTable, measured: Measured) -> Iterator[str]:
    if measured.profile not in table.profiles:
        nearest = " or ".join(table.profiles)
        yield f"scored by the rules of profile {measured.profile}; the card's come nearest to {nearest}"
    if measured.headline.matcher == "exact" and measured.headline.unmatched:
        yield "some answers matched no rule and count as wrong; no judge was asked about them"
    if measured.headline.judge:
        yield f"judged by {measured.headline.judge}; the card does not name its judge"


def rivals(comparison: Comparison, row: TableRow) -> list[tuple[Column, Cell]]:
    """The row's numbers with their columns, those that are there."""
    return [(column, cell) for column, cell in zip(comparison.columns, row.cells, strict=True) if cell is not None]


def is_subject(column: Column) -> bool:
    """The card's own column of the released model."""
    return not column.ours and column.name == SUBJECT
