"""How a number, a name and a set of conditions are said, the same in every format. Pure functions on text."""

from __future__ import annotations

from collections.abc import Sequence

from ..contract import Score
from .reading import Measured
from .tables import Comparison

LEGEND = (
    "Best of a row: the highest number that may be compared.",
    "( ) not compared: the run is incomplete, or its data is not the published file.",
    "≠ compared, but made under other conditions than the card's numbers; the notes say which.",
    "° closed model.",
)
HEADINGS = ("model", "benchmark", "score", "value", "95 % interval", "rows", "skipped", "unmatched", "rules", "matcher")


def clean(text: str) -> str:
    """A name or note from a file, fit for one line: what cannot be printed becomes a space."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def short(name: str, longest: int) -> str:
    """A name of at most so many characters; what is left out shows as an ellipsis."""
    name = clean(name)
    return name if len(name) <= longest else name[: longest - 1] + "…"


def number(value: float, unit: str) -> str:
    """``71.43 %``, ``489 points``: two decimals for percent, so that parity can be read off."""
    return f"{value:.2f} %" if unit == "%" else f"{value:.6g} {unit}".rstrip()


def interval(score: Score) -> str:
    return f"{score.low:.2f} to {score.high:.2f}" if score.unit == "%" else f"{score.low:.6g} to {score.high:.6g}"


def unmatched(score: Score) -> str:
    """``12 (0.8 %)``: of the rows that count."""
    share = 100 * score.unmatched / score.rows if score.rows else 0.0
    return f"{score.unmatched} ({share:.1f} %)" if score.unmatched else "0"


def matcher(score: Score) -> str:
    return f"judge {clean(score.judge)}" if score.matcher == "judge" else "exact"


def conditions(measured: Measured, score: Score) -> tuple[str, ...]:
    """The cells under `HEADINGS`: a number with everything that it depends on."""
    return (
        clean(measured.model),
        clean(measured.benchmark),
        clean(score.name),
        number(score.value, score.unit),
        interval(score),
        str(score.rows),
        str(score.skipped),
        unmatched(score),
        score.profile,
        matcher(score),
    )


def notes(comparisons: Sequence[Comparison], measured: Sequence[Measured]) -> list[str]:
    """What has to be said of our numbers: one line a model, profile and reason, with the benchmarks it holds for."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    cells = {
        id(cell.measured): cell for comparison in comparisons for row in comparison.rows for cell in row.cells if cell
    }
    for one in measured:
        cell = cells.get(id(one))
        for reason in (*cell.apart, *cell.differs) if cell else one.incomplete:
            reasons.setdefault((one.model, one.profile, reason), []).append(one.benchmark)
    return [
        clean(f"{model}, {profile}: {reason} ({', '.join(benchmarks)})")
        for (model, profile, reason), benchmarks in reasons.items()
    ]


def left_open(comparisons: Sequence[Comparison]) -> list[str]:
    """What the card does not say about numbers that ours stand beside."""
    rows = [row for comparison in comparisons for row in comparison.rows]
    return [
        f"{row.name}: {row.card.open}"
        for row in rows
        if row.card.open and any(cell is not None and cell.measured is not None for cell in row.cells)
    ]
