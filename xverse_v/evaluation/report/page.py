"""The report as one HTML file: no script, no network, every name and note escaped.

What crosses: comparisons and measurements in, the page's text out. Pictures come from charts.py; the frame and the
style are page.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from xverse_v import __version__

from ..contract import Score
from .card import Card
from .charts import OTHERS, bars, colours, radar
from .reading import Measured
from .tables import Cell, Column, Comparison, is_subject
from .words import HEADINGS, LEGEND, clean, conditions, left_open, notes, short

_FEWEST_AXES = 3
_LONGEST_HEADING = 40
_BREAKS = re.compile(r"(?<=-)|(?<=[a-z])(?=[A-Z])")  # where a long name may go on in the next line


def as_html(card: Card, comparisons: Sequence[Comparison], measured: Sequence[Measured]) -> str:
    """The whole page. Raises E760 if matplotlib is not there."""
    sections = [_comparison(comparison, f"t{place}") for place, comparison in enumerate(comparisons)]
    body = "\n".join([_head(comparisons, measured), *sections, _conditions(measured), _notes(comparisons, measured)])
    foot = f"<footer>{_text(card.source)}. {_text(card.origin)}<br>Made by xverse-v {_text(__version__)}.</footer>"
    frame = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return frame.replace("@BODY@", f"{body}\n{foot}")


def _head(comparisons: Sequence[Comparison], measured: Sequence[Measured]) -> str:
    models = list(dict.fromkeys(one.model for one in measured))
    benchmarks = {one.benchmark for one in measured}
    apart = sum(bool(one.incomplete) for one in measured)
    said = (
        f"{_count(len(models), 'model')} on {_count(len(benchmarks), 'benchmark')}, beside the model card's two tables."
    )
    if apart:
        said += f" {apart} of {_count(len(measured), 'run')} are not of the whole published data set and not compared."
    return f"<h1>Scores</h1>\n<p class=soft>{_text(', '.join(models))}: {said}</p>"


def _comparison(comparison: Comparison, prefix: str) -> str:
    parts = [f"<section><h2>{_text(comparison.title)}</h2>", _table(comparison), _legend(comparison)]
    parts.append("<div class=pictures>")
    if len(comparison.rows) >= _FEWEST_AXES:
        caption = "Each benchmark as a share of its highest possible value. Open dots are not compared."
        parts.append(
            f"<figure class=radar>{radar(comparison, prefix + 'r')}<figcaption>{caption}</figcaption></figure>"
        )
    caption = "Dark lines: 95 % intervals of what was measured here. Unfilled bars are not compared."
    parts.append(f"<figure class=bars>{bars(comparison, prefix + 'b')}<figcaption>{caption}</figcaption></figure>")
    return "\n".join([*parts, "</div></section>"])


def _table(comparison: Comparison) -> str:
    heads = "".join(_heading(column) for column in comparison.columns)
    lines = [
        f"<tr><th scope=row>{_text(row.name)}</th>"
        + "".join(_cell(column, cell) for column, cell in zip(comparison.columns, row.cells, strict=True))
        + "</tr>"
        for row in comparison.rows
    ]
    body = "".join(lines)
    return f"<div class=wide><table><thead><tr><th></th>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>"


def _heading(column: Column) -> str:
    name = _BREAKS.sub("<wbr>", _text(short(column.name, _LONGEST_HEADING)))
    mark = "°" if column.closed else ""
    small = f"<small>{_text(column.detail)}</small>" if column.ours or is_subject(column) else ""
    return f'<th scope=col title="{_text(column.name)}">{name}{mark}{small}</th>'


def _cell(column: Column, cell: Cell | None) -> str:
    kinds = ["ours"] if column.ours else []
    if cell is None:
        return f'<td class="{" ".join(kinds)}">–</td>'
    kinds += [kind for kind, holds in (("best", cell.best), ("apart", cell.apart)) if holds]
    text = f"({cell.text})" if cell.apart else cell.text
    title = escape(clean("; ".join((*cell.apart, *cell.differs))), quote=True)
    mark = "<sup>≠</sup>" if cell.differs and not cell.apart else ""
    return f'<td class="{" ".join(kinds)}" title="{title}">{text}{mark}</td>'


def _legend(comparison: Comparison) -> str:
    tints = dict(zip(comparison.columns, colours(comparison), strict=True))
    named = [
        (tint, f"{column.name} · {column.detail}")
        for column, tint in tints.items()
        if column.ours or is_subject(column)
    ]
    named.append((OTHERS, "the card's other models"))
    items = "".join(f'<li><i style="background:{tint}"></i>{_text(name)}</li>' for tint, name in named)
    return f"<ul class=key>{items}</ul>\n<p class=soft style='margin-top:10px'>{_text(' '.join(LEGEND))}</p>"


def _conditions(measured: Sequence[Measured]) -> str:
    heads = "".join(
        f"<th scope=col{' class=name' * (n < 3)}>{_text(h)}</th>" for n, h in enumerate((*HEADINGS, "note"))
    )
    lines = "\n".join(_condition_lines(one) for one in measured)
    return (
        "<section><h2>How each number was made</h2>\n<div class=wide><table>"
        f"<thead><tr>{heads}</tr></thead>\n<tbody>{lines}</tbody></table></div></section>"
    )


def _condition_lines(measured: Measured) -> str:
    return "\n".join(_condition(measured, score, first=place == 0) for place, score in enumerate(measured.scores))


def _condition(measured: Measured, score: Score, *, first: bool) -> str:
    cells = conditions(measured, score)
    model, benchmark = cells[:2] if first else ("", "")  # said once, in front of all scores of a run
    shown = [f"<td class=name>{_text(text)}</td>" for text in (model, benchmark, cells[2])]
    shown += [f"<td>{_text(text)}</td>" for text in cells[3:]]
    return f'<tr class="{"first" if first else "sub"}">{"".join(shown)}<td class=wrap>{_text(score.note)}</td></tr>'


def _notes(comparisons: Sequence[Comparison], measured: Sequence[Measured]) -> str:
    found = notes(comparisons, measured)
    bundles = [f"{one.model}, {one.benchmark}, {one.profile}: bundle {one.bundle[:16]}" for one in measured]
    listed = _list(found) if found else "<p>Nothing to remark.</p>"
    opened = left_open(comparisons)
    said = f"<section><h2>What the card leaves open</h2>\n{_list(opened)}</section>\n" if opened else ""
    return (
        f"<section><h2>Notes</h2>\n{listed}</section>\n{said}"
        f"<section><h2>Bundles</h2>\n<p class=soft>What each run's files hash to; the numbers can be made again from "
        f"them with <code>xverse-v eval verify</code>.</p>{_list(bundles)}</section>"
    )


def _list(lines: Iterable[str]) -> str:
    return f"<ul class=notes>{''.join(f'<li>{_text(line)}</li>' for line in lines)}</ul>"


def _text(text: str) -> str:
    return escape(clean(text), quote=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
