"""Bar, line and pie charts in varied styles, drawn by matplotlib.

What crosses: `make_chart(seed)` -> `Chart`, which draws itself and knows its marks. Values are whole numbers from 1
to 9 on an axis from 0 to 10, in a pie tenths of the whole. What an item is called is its colour. Marks lie in the
global view: at the top of a bar, at the end of a line, in the middle of a slice. This file refuses to know about
questions.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from PIL import Image

from xverse_v.errors import error
from xverse_v.nano.concepts import COLOURS, Mark, global_patch, text_meanings
from xverse_v.nano.world import paint

KINDS = ("bar", "line", "pie")
ITEM = {"bar": "bar", "line": "line", "pie": "slice"}
SIZES = ((448, 336), (480, 360), (400, 400), (640, 480), (320, 240), (224, 224), (448, 448))
SIZE_WEIGHTS = (5, 5, 3, 2, 4, 4, 3)
TITLES = ("", "", "Sales", "Visitors per day", "Rainfall", "Results", "Survey", "Energy", "Plan", "Traffic", "Stock")
TOP = 10


@dataclass(frozen=True)
class Item:
    """A bar, a line or a slice. `values`: of a line at every point, else one. `x`, `y`: its mark, 0..1 from top
    left."""

    colour: str
    paint: tuple[float, float, float]
    values: tuple[int, ...]
    x: float
    y: float

    @property
    def value(self) -> int:
        """What it is worth; of a line, at its end."""
        return self.values[-1]


@dataclass(frozen=True)
class Style:
    """What varies and means nothing. `axes`: left, bottom, width, height of the plot, 0..1 of the image."""

    title: str
    grid: bool
    frame: bool
    paper: float
    bar_width: float
    line_width: float
    marker: str
    edge: bool
    start: float
    ticks: int
    axes: tuple[float, float, float, float]


@dataclass(frozen=True)
class Chart:
    """A chart before it is drawn; `items` from left to right, of lines from top to bottom, of slices around."""

    seed: int
    kind: str
    width: int
    height: int
    items: tuple[Item, ...]
    style: Style

    def ranked(self, item: Item) -> tuple[str, ...]:
        """ "rank largest" or "rank smallest", where no other item shares it."""
        values = [other.value for other in self.items]
        found: list[str] = []
        for name, best in (("largest", max(values)), ("smallest", min(values))):
            if item.value == best and values.count(best) == 1 and max(values) > min(values):
                found.append(f"rank {name}")
        return tuple(found)

    def marks(self) -> list[Mark]:
        """One mark an item, in the global view."""
        marks = []
        for item in self.items:
            text = str(item.value) if self.kind != "pie" else f"{item.value}0"
            meanings = (f"kind {ITEM[self.kind]}", f"colour {item.colour}", *self.ranked(item), *text_meanings(text))
            marks.append(
                Mark(meanings, global_patch(item.x * self.width, item.y * self.height, self.width, self.height))
            )
        return marks

    def draw(self) -> Image.Image:
        """RGB, width x height."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as missing:
            raise error("E900", package="matplotlib") from missing
        dots = 100 * self.width / 640
        figure = Figure(figsize=(self.width / dots, self.height / dots), dpi=dots, facecolor=(self.style.paper,) * 3)
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes(self.style.axes)
        _PLOTS[self.kind](axes, self)
        if self.style.title:
            axes.set_title(self.style.title, fontsize=15)
        canvas.draw()
        return Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba().tobytes()).convert("RGB")


def _frame(axes: Any, style: Style) -> None:
    axes.set_ylim(0, TOP)
    axes.set_yticks(range(0, TOP + 1, style.ticks))
    axes.set_facecolor((min(1.0, style.paper + 0.02),) * 3)
    if style.grid:
        axes.grid(axis="y", color="0.8", linewidth=0.8)
        axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(style.frame)


def _plot_bars(axes: Any, chart: Chart) -> None:
    style, count = chart.style, len(chart.items)
    axes.bar(
        range(count),
        [item.value for item in chart.items],
        width=style.bar_width,
        color=[item.paint for item in chart.items],
        edgecolor="black" if style.edge else None,
    )
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_xticks([])
    _frame(axes, style)


def _plot_lines(axes: Any, chart: Chart) -> None:
    style, points = chart.style, len(chart.items[0].values)
    for item in chart.items:
        axes.plot(
            range(1, points + 1), item.values, color=item.paint, linewidth=style.line_width, marker=style.marker,
            markersize=7,
        )  # fmt: skip
    axes.set_xlim(1, points + 0.08 * points)
    axes.set_xticks(range(1, points + 1))
    _frame(axes, style)


def _plot_pie(axes: Any, chart: Chart) -> None:
    axes.pie(
        [item.value for item in chart.items],
        colors=[item.paint for item in chart.items],
        startangle=chart.style.start,
        counterclock=False,
        radius=1.0,
        wedgeprops={"linewidth": 1.5 if chart.style.edge else 0, "edgecolor": "white"},
    )
    axes.set_xlim(-1.05, 1.05)
    axes.set_ylim(-1.05, 1.05)
    axes.set_aspect("equal", adjustable="box")


_PLOTS = {"bar": _plot_bars, "line": _plot_lines, "pie": _plot_pie}


def _style(rng: random.Random, kind: str) -> Style:
    title = rng.choice(TITLES)
    top = 0.87 if title else 0.94
    left, bottom = rng.uniform(0.1, 0.14), rng.uniform(0.08, 0.12)
    axes = (left, bottom, 0.95 - left, top - bottom)
    return Style(
        title, rng.random() < 0.5, rng.random() < 0.5, rng.choice((1.0, 1.0, 0.97, 0.94)), rng.uniform(0.5, 0.9),
        rng.uniform(2.0, 3.5), rng.choice(("o", "o", "", "s")), rng.random() < 0.3, rng.uniform(0, 360),
        rng.choice((1, 2, 2, 5)), axes if kind != "pie" else (0.05, 0.04, 0.9, top - 0.04),
    )  # fmt: skip


def _bar_items(rng: random.Random, colours: list[str], style: Style) -> list[Item]:
    left, bottom, width, height = style.axes
    items = []
    for index, colour in enumerate(colours):
        value = rng.randint(1, 9)
        x, y = left + width * (index + 0.5) / len(colours), 1 - bottom - height * (value - 0.45) / TOP
        items.append(Item(colour, _unit(paint(rng, colour)), (value,), x, y))
    return items


def _line_items(rng: random.Random, colours: list[str], style: Style) -> list[Item]:
    """Lines whose ends lie at least two apart, so that no two end in one patch."""
    left, bottom, width, height = style.axes
    points = rng.randint(3, 6)
    while True:
        ends = sorted(rng.sample(range(1, 10), len(colours)), reverse=True)
        if all(high - low >= 2 for high, low in pairwise(ends)):
            break
    reach = (points - 1) / (points + 0.08 * points - 1)
    items = []
    for colour, end in zip(colours, ends, strict=True):
        values = (*(rng.randint(1, 9) for _ in range(points - 1)), end)
        x, y = left + width * reach, 1 - bottom - height * end / TOP
        items.append(Item(colour, _unit(paint(rng, colour)), values, x, y))
    return items


def _slice_items(rng: random.Random, colours: list[str], style: Style, size: tuple[int, int]) -> list[Item]:
    left, bottom, width, height = style.axes
    cuts = sorted(rng.sample(range(1, TOP), len(colours) - 1))
    shares = [high - low for low, high in zip([0, *cuts], [*cuts, TOP], strict=True)]
    radius = min(width * size[0], height * size[1]) / 2 / 1.05
    angle = math.radians(style.start)
    items = []
    for colour, share in zip(colours, shares, strict=True):
        middle = angle - math.pi * share / TOP
        angle -= 2 * math.pi * share / TOP
        x = left + width / 2 + 0.66 * radius * math.cos(middle) / size[0]
        y = 1 - bottom - height / 2 - 0.66 * radius * math.sin(middle) / size[1]
        items.append(Item(colour, _unit(paint(rng, colour)), (share,), x, y))
    return items


def _unit(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    return rgb[0] / 255, rgb[1] / 255, rgb[2] / 255


def make_chart(seed: int) -> Chart:
    """The chart of `seed`: two to five bars, two or three lines, or two to four slices, of different colours."""
    rng = random.Random(seed)
    while True:
        kind = rng.choices(KINDS, (5, 3, 3))[0]
        size = rng.choices(SIZES, SIZE_WEIGHTS)[0]
        style = _style(rng, kind)
        colours = rng.sample(COLOURS, rng.randint(2, {"bar": 5, "line": 3, "pie": 4}[kind]))
        if kind == "bar":
            items = _bar_items(rng, colours, style)
        elif kind == "line":
            items = _line_items(rng, colours, style)
        else:
            items = _slice_items(rng, colours, style, size)
        chart = Chart(seed, kind, *size, tuple(items), style)
        if len({mark.patch for mark in chart.marks()}) == len(items):
            return chart
