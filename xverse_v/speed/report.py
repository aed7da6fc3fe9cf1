"""A dated report: sections of rows and goals in, Markdown out, every goal with its number beside it.

A `Section` is one measured part. The conditions stand once, as they were when the report began. JSON lines of all rows
end it, so that scripts need no other file. Nothing is measured here and nothing written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xverse_v.speed.ceilings import GB, Ceilings, Rate
from xverse_v.speed.records import (
    Conditions,
    Goal,
    Record,
    conditions_table,
    goals_table,
    json_line,
    number,
    settings_in_words,
    table,
)
from xverse_v.speed.roofline import Work

if TYPE_CHECKING:
    from xverse_v.speed.growth import Curve


@dataclass(frozen=True)
class Section:
    """One part of a report. `words`: Markdown paragraphs and tables beside the rows; `command`: how to run it alone;
    `curves`: what is drawn as cost against size."""

    title: str
    records: Sequence[Record] = ()
    goals: Sequence[Goal] = ()
    words: Sequence[str] = field(default_factory=tuple)
    command: str = ""
    curves: Sequence[Curve] = ()


def markdown(title: str, under: Conditions, sections: Sequence[Section]) -> str:
    """The whole report."""
    goals = [goal for section in sections for goal in section.goals]
    met = sum(goal.met is True for goal in goals)
    missed = sum(goal.met is False for goal in goals)
    lines = [f"# {title}", "", f"Goals: {met} met, {missed} missed, {len(goals) - met - missed} not measured.", ""]
    if under.load > under.cores:
        lines += [
            f"**The machine was busy** (load average {under.load:.1f} on {under.cores} cores): seconds are too long, "
            "percentages of a ceiling measured in another moment too low.",
            "",
        ]
    lines += [*conditions_table(under), "", "## Goals", "", *goals_table(goals), ""]
    for section in sections:
        lines += _section(section)
    lines += ["## For scripts", "", "```json"]
    lines += [json_line(record, under) for section in sections for record in section.records]
    return "\n".join([*lines, "```", ""])


def _section(section: Section) -> list[str]:
    lines = [f"## {section.title}", ""]
    for paragraph in section.words:
        lines += [paragraph, ""]
    if section.records:
        said = settings_in_words(section.records)
        lines += [f"{said}. Median of n; CPU is processor time of all threads.", ""] if said else []
        lines += [*table(section.records), ""]
        notes = {f"{r.who}, {r.what.strip()}: {r.note}" for r in section.records if r.note}
        lines += [f"- {note}" for note in sorted(notes)] + [""]
    if section.command:
        lines += [f"    {section.command}", ""]
    return lines


def ceilings_table(ceilings: Ceilings) -> list[str]:
    """What the machine can do at most."""
    lines = ["| ceiling | best | median | n | how |", "|---|---|---|---|---|"]
    rows = [*ceilings.matrix.values(), *ceilings.reads, ceilings.copy]
    return lines + [_ceiling(rate) for rate in rows]


def _ceiling(rate: Rate) -> str:
    unit = "GFLOP/s" if rate.unit == "FLOP/s" else "GB/s"
    best, middle = number(rate.best / GB), number(rate.median / GB)
    return f"| {rate.name} | {best} {unit} | {middle} | {len(rate.samples)} | {rate.probe} |"


def roofline_table(works: Sequence[Work], ceilings: Ceilings) -> list[str]:
    """Operations, bytes, what bounds, and the least time on this machine."""
    lines = ["| phase | GFLOP | GB | FLOP/byte | bound | least time |", "|---|---|---|---|---|---|"]
    for work in works:
        least = work.on(ceilings.rates(work.dtype if work.flops else next(iter(ceilings.matrix))))
        cells = [work.name, number(work.flops / GB), number(work.bytes / GB), number(work.intensity), least.bound]
        lines.append("| " + " | ".join([*cells, seconds(least.seconds)]) + " |")
    return lines


def seconds(value: float) -> str:
    """With the unit that suits."""
    return f"{number(value)} s" if value >= 1 else f"{number(1000 * value)} ms"
