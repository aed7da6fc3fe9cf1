"""Pictures of a report: percent of the ceiling as bars, cost against size beside its roofline.

In: rows, curves, a file's path. Out: PNG files of the same bytes for the same numbers. Drawn with matplotlib's own
classes, never its global state; it comes with the `charts` extra. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xverse_v.errors import error
from xverse_v.speed.growth import SLACK, Curve, slope
from xverse_v.speed.peers import OURS
from xverse_v.speed.records import Record, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xverse_v.speed.report import Section

OURS_COLOUR, OTHER_COLOUR, WARN, INK, FAINT, GRID = "#1b4f8a", "#c3cad3", "#d9480f", "#1f2933", "#6b7785", "#e4e8ed"
_BAR = 0.3  # inches of height of each
_DPI = 150


def available() -> bool:
    """Whether pictures can be drawn here."""
    return find_spec("matplotlib") is not None


@contextmanager
def _style() -> Iterator[None]:
    """Raises E760 without matplotlib."""
    if not available():
        raise error("E760", package="matplotlib", extra="charts")
    import matplotlib

    settings: Any = {"font.size": 9, "text.parse_math": False, "axes.edgecolor": FAINT, "text.color": INK}
    with matplotlib.rc_context(settings):
        yield


def illustrate(report: Path, sections: Sequence[Section]) -> list[Section]:
    """The same sections with their pictures, which are written beside the report and named after it: bars where rows
    have a ceiling, curves where cost grows. Raises E760."""
    found = []
    for place, section in enumerate(sections, start=1):
        name = f"{report.stem}-{place}.png"
        if section.curves:
            growth(section.curves, report.with_name(name), section.title)
        elif any(record.percent is not None for record in section.records):
            bars(section.records, report.with_name(name), section.title)
        else:
            found.append(section)
            continue
        found.append(replace(section, words=(*section.words, f"![{section.title}]({name})")))
    return found


def bars(records: Sequence[Record], path: Path, title: str) -> None:
    """One bar a row that has a ceiling: its percent of it. Ours dark, other ways light."""
    shown = [record for record in records if record.percent is not None]
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.0, 1.2 + _BAR * len(shown)), layout="constrained")
        axes: Any = figure.add_subplot()
        varying = [key for key in _keys(shown) if len({str(r.settings.get(key)) for r in shown}) > 1]
        for place, record in enumerate(shown):
            share = record.percent or 0.0
            ours = record.who.startswith(OURS)
            axes.barh(place, share, color=OURS_COLOUR if ours else OTHER_COLOUR, height=0.7)
            words = f"{share:.0f} %  ({number(record.value)} {record.unit}, possible {number(record.floor or 0)})"
            behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # else the dashed line goes through it
            axes.text(share + 1.5, place, words, va="center", fontsize=8, bbox=behind)
        axes.axvline(100, color=WARN, linewidth=1, linestyle="--")
        axes.set_yticks(range(len(shown)), [_label(record, varying) for record in shown])
        axes.invert_yaxis()
        axes.set_xlim(0, max(165.0, 1.6 * max((r.percent or 0.0 for r in shown), default=100)))
        axes.set_xticks(range(0, 101, 20))
        axes.set_xlabel("percent of what this machine could do at most (dashed: all of it)")
        _plain(axes, "x")
        axes.set_title(title, loc="left")
        _save(figure, path)


def growth(curves: Sequence[Curve], path: Path, title: str) -> None:
    """A panel for each curve's time and memory, both axes logarithmic, the roofline dashed, slopes in the legend."""
    kinds = [(curve, kind) for curve in curves for kind in ("time", "memory")]
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.0 * len(curves), 6.4), layout="constrained")
        grid: Any = figure.subplots(2, len(curves), squeeze=False)
        for place, (curve, kind) in enumerate(kinds):
            _panel(grid[place % 2][place // 2], curve, kind)
        figure.suptitle(title, x=0.01, ha="left")
        _save(figure, path)


def _panel(axes: Any, curve: Curve, kind: str) -> None:
    xs, ys, least = curve.time() if kind == "time" else curve.memory()
    axes.set_title(f"{curve.what} against {curve.against}", loc="left", fontsize=9)
    axes.set_xlabel(curve.against)
    axes.set_ylabel("seconds" if kind == "time" else "MB at the peak, without weights")
    if len(set(xs)) < 2:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "not measured here", ha="center", va="center", transform=axes.transAxes, color=FAINT)
        return
    factor = 1.0 if kind == "time" else 1e-6
    ours, physics = slope(xs, ys), slope(xs, least)
    colour = OURS_COLOUR if ours <= physics + SLACK else WARN
    axes.plot(xs, [factor * y for y in ys], "o-", color=colour, label=f"measured, slope {ours:.2f}")
    words = "roofline" if kind == "time" else "must be held"
    axes.plot(xs, [factor * y for y in least], "s--", color=FAINT, label=f"{words}, slope {physics:.2f}", markersize=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(xs, [f"{x:,.0f}" for x in xs])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(_digits([*ys, *least]))
    axes.yaxis.set_major_formatter(lambda y, place: number(y))
    axes.legend(frameon=False, fontsize=8)
    _plain(axes, "both")


def _digits(values: Sequence[float]) -> Any:
    """1, 2 and 5 of each decade; all digits where the curves stay within one."""
    from matplotlib.ticker import LogLocator

    wide = max(values) / max(min(values), 1e-12) > 10
    return LogLocator(subs=(1.0, 2.0, 5.0) if wide else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0))


def _plain(axes: Any, lines: str) -> None:
    axes.grid(axis=lines, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _label(record: Record, varying: Sequence[str]) -> str:
    shown = [f"{key} {record.settings[key]}" for key in varying if key in record.settings]
    name = f"{record.what.strip()}: {record.who}"
    return name + (f"\n{', '.join(shown)}" if shown else "")


def _keys(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(key for record in records for key in record.settings))


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
