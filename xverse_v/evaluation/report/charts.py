"""Two pictures of a comparison, as SVG text to stand inside a page: a radar of all benchmarks, and bars of each.

What crosses: a `Comparison` in, SVG out. Drawn with matplotlib's own classes, never its global state; the same
comparison gives the same bytes. Names are drawn as text and never read as formulas.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xverse_v.errors import error

from .tables import Cell, Column, Comparison, is_subject, rivals
from .words import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS = ("#d9480f", "#0c8599", "#862e9c", "#2b8a3e", "#c2255c", "#5f3dc4")
SUBJECT, OTHERS, INK, FAINT, GRID = "#1b4f8a", "#c3cad3", "#1f2933", "#6b7785", "#e4e8ed"
_LONGEST_NAME = 26
_PANELS = 3  # side by side


def colours(comparison: Comparison) -> list[str]:
    """One for each column: a strong one for each of ours, another for the released model, grey for its rivals."""
    found, ours = [], 0
    for column in comparison.columns:
        found.append(OURS[ours % len(OURS)] if column.ours else SUBJECT if is_subject(column) else OTHERS)
        ours += column.ours
    return found


def radar(comparison: Comparison, prefix: str) -> str:
    """All benchmarks of a table around a circle, each as a share of its highest possible value.

    A line joins neighbouring benchmarks that were both measured; an open dot is a number that is not compared.
    """
    with _style(prefix):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.0, 4.8))
        axes: Any = figure.add_axes((0.2, 0.06, 0.6, 0.875), projection="polar")
        count = len(comparison.rows)
        angles = [2 * math.pi * place / count for place in range(count)]
        _draw_rings(axes, comparison, angles)
        order = sorted(range(len(comparison.columns)), key=lambda c: _importance(comparison.columns[c]))
        for place in order:
            cells = [row.cells[place] for row in comparison.rows]
            shares = [
                None if cell is None else 100 * cell.value / row.card.top
                for cell, row in zip(cells, comparison.rows, strict=True)
            ]
            _draw_line(axes, comparison.columns[place], cells, shares, angles, colours(comparison)[place])
        return _svg(figure, prefix)


def bars(comparison: Comparison, prefix: str) -> str:
    """A panel for each benchmark: every model with its number, the highest on top; a line through ours is the 95 %
    interval, an unfilled bar a number that is not compared."""
    with _style(prefix):
        from matplotlib.figure import Figure

        rows = math.ceil(len(comparison.rows) / _PANELS)
        tall = max(len(rivals(comparison, row)) for row in comparison.rows)
        panel, gap = 0.2 * tall, 0.45  # inches
        height = rows * (panel + gap)
        figure = Figure(figsize=(11.4, height))
        # By hand: names are no longer than _LONGEST_NAME, and an automatic layout takes as long as the picture itself.
        figure.subplots_adjust(0.165, 0.1 / height, 0.985, 1 - (gap - 0.1) / height, wspace=0.95, hspace=gap / panel)
        panels: Any = figure.subplots(rows, _PANELS, squeeze=False)
        tints = dict(zip(comparison.columns, colours(comparison), strict=True))
        names = {column: _short(column, comparison.columns) for column in comparison.columns}
        for place, axes in enumerate(panels.flat):
            if place >= len(comparison.rows):
                axes.set_axis_off()
                continue
            row = comparison.rows[place]
            found = sorted(rivals(comparison, row), key=lambda rival: (-rival[1].value, rival[0].name))
            _draw_panel(axes, row.name, found, row.card.top, tall, tints)
            axes.set_yticklabels([names[column] for column, _ in found], fontsize=7.5, color=INK)
            for label, (column, _) in zip(axes.get_yticklabels(), found, strict=True):
                label.set_fontweight("bold" if column.ours or is_subject(column) else "normal")
        return _svg(figure, prefix)


def _draw_rings(axes: Any, comparison: Comparison, angles: list[float]) -> None:
    axes.set_theta_offset(math.pi / 2)
    axes.set_theta_direction(-1)
    axes.set_ylim(0, 100)
    axes.set_yticks([20, 40, 60, 80, 100])
    axes.set_yticklabels(["20", "40", "60", "80", ""], color=FAINT, fontsize=7)
    axes.set_rlabel_position(math.degrees(angles[1]) / 2 if len(angles) > 1 else 0)
    axes.set_xticks(angles)
    axes.set_xticklabels([])
    axes.grid(color=GRID, linewidth=0.8)
    axes.spines["polar"].set_color(GRID)
    for row, angle in zip(comparison.rows, angles, strict=True):
        side = math.sin(angle)
        align = "center" if abs(side) < 0.2 else "left" if side > 0 else "right"
        axes.text(angle, 107, row.name, ha=align, va="center", fontsize=9, color=INK)


def _draw_line(
    axes: Any, column: Column, cells: list[Cell | None], shares: list[float | None], angles: list[float], tint: str
) -> None:
    strong = column.ours or is_subject(column)
    count = len(angles)
    wide, layer = (2.0, 3) if strong else (0.8, 1)
    for place in range(count):
        here, there = shares[place], shares[(place + 1) % count]
        if here is not None and there is not None:
            end = angles[place] + 2 * math.pi / count
            axes.plot([angles[place], end], [here, there], color=tint, linewidth=wide, zorder=layer)
    if strong and all(share is not None for share in shares):
        axes.fill(angles, shares, color=tint, alpha=0.08, zorder=2)
    for cell, share, angle in zip(cells, shares, angles, strict=True):
        if strong and cell is not None:
            fill = "white" if cell.apart else tint
            axes.plot([angle], [share], "o", markersize=5, color=tint, markerfacecolor=fill, zorder=4, clip_on=False)


def _draw_panel(
    panel: Any, title: str, found: list[tuple[Column, Cell]], top: float, tall: int, tints: dict[Column, str]
) -> None:
    panel.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    for place, (column, cell) in enumerate(found):
        tint, strong = tints[column], column.ours or is_subject(column)
        fill = "white" if cell.apart else tint
        panel.barh(place, cell.value, height=0.72, color=fill, edgecolor=tint, linewidth=1.0)
        end = cell.value
        if cell.measured is not None:
            low, high = cell.measured.headline.low, cell.measured.headline.high
            panel.plot([low, high], [place, place], color=INK, linewidth=1.2, solid_capstyle="butt")
            end = max(end, high)
        weight = "bold" if strong else "normal"
        text = cell.text + (" ≠" if cell.differs and not cell.apart else "")
        panel.text(end + top * 0.015, place, text, va="center", fontsize=7.5, color=INK, fontweight=weight)
    panel.set_yticks(range(len(found)))
    highest = max([cell.value for _, cell in found] + [c.measured.headline.high for _, c in found if c.measured])
    panel.set_xlim(0, highest * 1.18 or 1)
    panel.set_ylim(tall - 0.4, -0.6)  # the same height of a bar in every panel
    panel.set_xticks([])
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "bottom"]].set_visible(False)
    panel.spines["left"].set_color(GRID)
    panel.spines["left"].set_bounds(-0.5, len(found) - 0.5)


def _short(column: Column, columns: Sequence[Column]) -> str:
    """A name that fits beside a bar, with what tells it from columns of the same name."""
    alike = [other for other in columns if other.ours and other.name == column.name]
    return short(f"{column.name} [{column.detail}]" if len(alike) > 1 and column.ours else column.name, _LONGEST_NAME)


def _importance(column: Column) -> int:
    """Drawn last is on top: rivals, the released model, ours."""
    return 2 if column.ours else int(is_subject(column))


@contextmanager
def _style(prefix: str) -> Iterator[None]:
    """Raises E760 without matplotlib. Letters stay letters, and ids depend on the picture alone."""
    try:
        import matplotlib
    except ImportError as reason:
        raise error("E760", package="matplotlib", extra="charts") from reason
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": prefix, "text.parse_math": False, "font.size": 9}
    with matplotlib.rc_context(settings):
        yield


def _svg(figure: Figure, prefix: str) -> str:
    """The svg element alone. Its ids get a prefix, so that two pictures can stand in one page."""
    packed = io.StringIO()
    with warnings.catch_warnings():
        # Letters are drawn by the browser, with its fonts: that ours lack some does not matter.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(packed, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = packed.getvalue()
    svg = svg[svg.index("<svg") :]
    # Only inside tags: in the text between them every < and > is escaped.
    return re.sub(r"<[^>]*>", lambda tag: re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", tag[0]), svg)
