"""The evidence page: goals and scores side by side, every kind of question, and the learning curves.

    python -m xverse_v.nano.evidence models/nano-scores.json --work runs [--ablations runs/ablate/table.md]

What crosses: what `evaluate` wrote and the logs of the runs -> `docs/evidence.md` and `docs/images/nano-curves.png`.
This file measures nothing and judges nothing but "reached" and "not reached".
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xverse_v.nano.card import ROWS, percent, score_table

CURVES = {
    "tower: patches read right": ("nano/tower/scores.jsonl", ("scene all", "digit all", "tag all", "chart all")),
    "decoder: answers right, images as words": (
        "nano/words/scores.jsonl",
        ("scene", "board", "chart", "written", "pair"),
    ),
    "stage 1: loss": ("nano-pretrain/log.jsonl", ("loss",)),
    "stage 2: loss": ("nano-finetune/log.jsonl", ("loss",)),
}


@dataclass(frozen=True)
class Goal:
    """What was set out: a row of the scores must be at least `least` or at most `most`, as shares."""

    row: str
    least: float | None = None
    most: float | None = None

    def words(self) -> str:
        """The goal in words."""
        return (
            f"at least {100 * self.least:.0f} %"
            if self.least is not None
            else f"at most {100 * (self.most or 0):.0f} %"
        )

    def reached(self, share: float) -> bool:
        """Is it met?"""
        return share >= self.least if self.least is not None else share <= (self.most or 0)


GOALS = (
    Goal("scenes", least=0.95),
    Goal("small text", least=0.90),
    Goal("small text, global view only", most=0.30),
    Goal("charts", least=0.85),
    Goal("handwritten digits", least=0.90),
    Goal("follow-up and two images", least=0.85),
    Goal("refusals", least=0.90),
    Goal("wrong refusals", most=0.03),
)
LANGUAGE_POINTS = 0.02


def goal_table(scores: Mapping[str, Any]) -> list[str]:
    """Every goal with its number and what became of it."""
    lines = ["| measure | goal | measured | 95 % interval | |", "|---|---|---|---|---|"]
    for goal in GOALS:
        row = scores[goal.row]
        low, high = (percent(value) for value in row["interval"])
        verdict = "reached" if goal.reached(row["share"]) else "**not reached**"
        lines.append(
            f"| {goal.row} | {goal.words()} | {percent(row['share'])} of {row['asked']} | {low} to {high} | {verdict} |"
        )
    gap = abs(scores["Chinese"]["share"] - scores["English"]["share"])
    verdict = "reached" if gap <= LANGUAGE_POINTS else "**not reached**"
    shares = f"{percent(scores['Chinese']['share'])} against {percent(scores['English']['share'])}"
    lines.append(f"| Chinese against English | within {100 * LANGUAGE_POINTS:.0f} points | {shares} | | {verdict} |")
    return lines


def page(measured: Mapping[str, Any], ablations: str) -> str:
    """The whole page, Markdown."""
    scores, settings = measured["scores"], measured["settings"]
    command = f"python -m xverse_v.nano.evaluate nano --questions {settings['questions']} --start {settings['start']}"
    kinds = tuple(name for name in scores if " / " in name)
    rows = tuple(row for row in (*ROWS, "follow-up", "two images") if row in scores)
    lines = [
        "# Evidence: what the built-in model shows", "",
        "Made images and questions of seeds that no step of training saw, handwriting and nouns kept apart; a question",
        "counts only if the whole answer equals the truth. Greedy decoding, float32, one thread. Wilson intervals.", "",
        f"    {command}", "",
        *goal_table(scores), "",
        "## Learning curves", "", "![Learning curves of the four steps](images/nano-curves.png)", "",
        "Upper row: the two stand-ins, scored on unseen pictures while learning. Lower row: loss of the stages.", "",
        "## Ablations", "", ablations.strip() or "Not run yet for these weights: `python -m xverse_v.nano.ablate`.", "",
        "## Every row", "", *score_table(scores, rows), "",
        "## Every kind of question", "", *score_table(scores, kinds),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _points(path: Path, name: str) -> tuple[list[int], list[float]]:
    found: dict[int, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if name in record and record[name] is not None:
            found[record["step"]] = record[name]
    return sorted(found), [found[step] for step in sorted(found)]


def draw_curves(work: Path, out: Path) -> None:
    """One PNG of four panels; a run that is not there leaves its panel out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.4), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, (path, names)) in zip(figure.subplots(2, 2).flat, CURVES.items(), strict=True):
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("step")
        axes.grid(color="0.9")
        for name in names if (work / path).exists() else ():
            axes.plot(*_points(work / path, name), label=name.removesuffix(" all"), linewidth=1.6)
        if len(names) > 1:
            axes.set_ylim(0, 1)
            axes.legend(fontsize=8, loc="lower right")
        else:
            axes.set_ylim(bottom=0)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write the evidence page.")
    parser.add_argument("scores", type=Path, help="what `python -m xverse_v.nano.evaluate --out` wrote")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="where the runs' logs are")
    parser.add_argument("--ablations", type=Path, help="the table that `python -m xverse_v.nano.ablate --out` wrote")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    given = parser.parse_args()
    ablations = given.ablations.read_text(encoding="utf-8") if given.ablations else ""
    measured = json.loads(given.scores.read_text(encoding="utf-8"))
    draw_curves(given.work, given.docs / "images" / "nano-curves.png")
    (given.docs / "evidence.md").write_text(page(measured, ablations), encoding="utf-8")


if __name__ == "__main__":
    main()
