"""The report as text for a terminal, as Markdown and as CSV. Knows no HTML and no pictures."""

from __future__ import annotations

import csv
import io
import re
import textwrap
import unicodedata
from collections.abc import Sequence

from .card import Card
from .reading import Measured
from .tables import Cell, Column, Comparison, rivals
from .words import HEADINGS, LEGEND, clean, conditions, left_open, notes, short

_NARROW = 11  # a heading is broken at its hyphens into lines of about this width
_WIDE = 110
_LONGEST_HEADING = 40
_SHOWN_SCORES = 4  # of one run in the text; the other formats have all
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_text(card: Card, comparisons: Sequence[Comparison], measured: Sequence[Measured]) -> str:
    """For a terminal. The best of a row has a star."""
    parts = []
    for comparison in comparisons:
        heads = [[""]] + [_heading(column) for column in comparison.columns]
        rows = [[row.name, *(_plain(cell) for cell in row.cells)] for row in comparison.rows]
        parts.append(f"{comparison.title}\n\n{_grid(heads, rows)}")
    parts.append("\n".join(("* best of its row.", *LEGEND[1:])))
    lines = [list(conditions(one, score)) for one in measured for score in one.scores[:_SHOWN_SCORES]]
    parts.append(f"How each number was made\n\n{_grid([[heading] for heading in HEADINGS], lines, left=3)}")
    more = sum(max(0, len(one.scores) - _SHOWN_SCORES) for one in measured)
    if more:
        parts.append(f"{more} more scores (categories, splits) are in the other formats.")
    if found := notes(comparisons, measured):
        parts.append("Notes\n\n" + "\n".join(_wrapped(f"- {note}") for note in found))
    if found := left_open(comparisons):
        parts.append("What the card leaves open\n\n" + "\n".join(_wrapped(f"- {line}") for line in found))
    parts.append(_wrapped(f"Card: {card.source}. {card.origin}"))
    return "\n\n".join(parts) + "\n"


def as_markdown(card: Card, comparisons: Sequence[Comparison], measured: Sequence[Measured]) -> str:
    """Tables that GitHub shows; the best of a row in bold."""
    parts = ["# Scores"]
    for comparison in comparisons:
        heads = ["", *(_inline(_title(column)) for column in comparison.columns)]
        rows = [[_inline(row.name), *(_marked(cell) for cell in row.cells)] for row in comparison.rows]
        parts += [f"## {comparison.title}", _pipes(heads, rows)]
    parts.append("**Bold**: best of its row. " + _inline(" ".join(LEGEND[1:])))
    lines = [[_inline(cell) for cell in conditions(one, score)] for one in measured for score in one.scores]
    parts += ["## How each number was made", _pipes(list(HEADINGS), lines)]
    if found := notes(comparisons, measured):
        parts += ["## Notes", "\n".join(f"- {_inline(note)}" for note in found)]
    said = [f"{card.source}. {card.origin}", *(f"- {line}" for line in left_open(comparisons))]
    parts += ["## The card", "\n\n".join(_inline(line).replace("\\- ", "- ", 1) for line in said)]
    return "\n\n".join(parts) + "\n"


def as_csv(card: Card, comparisons: Sequence[Comparison], measured: Sequence[Measured]) -> str:
    """One line a number, the card's included. Text that would be a formula in a spreadsheet gets a quote in front."""
    names = ["table", "benchmark", "model", "origin", "score", "value", "low", "high", "unit", "rows", "skipped"]
    names += ["unmatched", "rules", "matcher", "judge", "compared", "best", "notes", "bundle"]
    lines: list[list[object]] = []
    best = {id(c.measured): c for comparison in comparisons for row in comparison.rows for c in row.cells if c}
    for comparison in comparisons:
        for row in comparison.rows:
            for column, cell in rivals(comparison, row):
                if cell.measured is None:
                    card_line = [
                        comparison.title,
                        row.name,
                        column.name,
                        "card",
                        "",
                        cell.value,
                        "",
                        "",
                        _unit(row.card.top),
                    ]
                    lines.append([*card_line, "", "", "", "", "", "", "yes", _yes(cell.best), "", ""])
    for one in measured:
        found = best.get(id(one))
        reasons = "; ".join((*found.apart, *found.differs) if found else one.incomplete)
        for place, score in enumerate(one.scores):
            compared = found is not None and not found.apart and place == 0
            line: list[object] = [
                "",
                one.benchmark,
                one.model,
                "measured",
                score.name,
                score.value,
                score.low,
                score.high,
            ]
            line += [score.unit, score.rows, score.skipped, score.unmatched, score.profile, score.matcher, score.judge]
            line += [_yes(compared), _yes(compared and found is not None and found.best)]
            lines.append([*line, "; ".join(filter(None, (reasons, score.note))), one.bundle])
    packed = io.StringIO()
    writer = csv.writer(packed, lineterminator="\n")
    writer.writerows([names, *([_safe(value) for value in line] for line in lines)])
    return packed.getvalue()


def _heading(column: Column) -> list[str]:
    """A column's name in short lines, the detail of ours below."""
    name = short(column.name, _LONGEST_HEADING) + ("°" if column.closed else "")
    return _short_lines(name) + (_short_lines(f"[{clean(column.detail)}]") if column.ours else [])


def _title(column: Column) -> str:
    """The same on one line."""
    return clean(column.name) + ("°" if column.closed else "") + (f" [{clean(column.detail)}]" if column.ours else "")


def _short_lines(text: str) -> list[str]:
    lines: list[str] = []
    for piece in re.split(r"(?<=[- ])", text):
        if lines and len(lines[-1]) + len(piece) <= _NARROW:
            lines[-1] += piece
        else:
            lines.append(piece)
    return [line.strip() for line in lines]


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDE, subsequent_indent="  " if text.startswith("- ") else "")


def _plain(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    text = f"({cell.text})" if cell.apart else cell.text
    return text + ("≠" if cell.differs and not cell.apart else " ") + ("*" if cell.best else " ")


def _marked(cell: Cell | None) -> str:
    if cell is None:
        return ""
    text = f"({cell.text})" if cell.apart else cell.text
    return (f"**{text}**" if cell.best else text) + (" ≠" if cell.differs and not cell.apart else "")


def _grid(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns of equal width; the first ``left`` begin at the left, numbers end at the right."""
    tall = max(len(head) for head in heads)
    lines = [
        [head[place - tall + len(head)] if place >= tall - len(head) else "" for head in heads] for place in range(tall)
    ]
    widths = [max(_width(line[place]) for line in [*lines, *rows]) for place in range(len(heads))]
    rule = ["─" * width for width in widths]
    shown = [
        "  ".join(
            _padded(cell, width, place < left) for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in [*lines, rule, *rows]
    ]
    return "\n".join(line.rstrip() for line in shown)


def _padded(text: str, width: int, left: bool) -> str:
    space = " " * (width - _width(text))
    return text + space if left else space + text


def _width(text: str) -> int:
    """Columns in a terminal: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pipes(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _inline(text: str) -> str:
    """Text that Markdown shows as it is: nothing of it becomes a tag, a link or emphasis."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)


def _unit(top: float) -> str:
    return "%" if top <= 100 else "points"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _safe(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if text.startswith(_FORMULA) or value.startswith(_FORMULA) else text
