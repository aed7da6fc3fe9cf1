"""What the tests of benchmarks do again and again: read a file's rows, and score answers given by row key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from xverse_v.evaluation.benchmarks import find
from xverse_v.evaluation.contract import BadRow, Judge, Prediction, Profile, Row, Score, Verdict


def rows_of(name: str, path: Path, profile: Profile = "vlmevalkit") -> list[Row]:
    return [row for row in find(name).rows(path, profile, None) if isinstance(row, Row)]


def bad_rows_of(name: str, path: Path, profile: Profile = "vlmevalkit") -> list[BadRow]:
    return [row for row in find(name).rows(path, profile, None) if isinstance(row, BadRow)]


def scored(
    name: str,
    rows: list[Row],
    answers: Mapping[str, str] | Callable[[Row], str],
    profile: Profile = "vlmevalkit",
    judge: Judge | None = None,
) -> tuple[dict[str, Verdict], dict[str, Score]]:
    """Verdicts by key and scores by name, in order."""
    said = answers if callable(answers) else lambda row: answers[row.key]
    verdicts, scores = find(name).score([(row, Prediction(row.key, said(row))) for row in rows], profile, judge)
    assert len({score.name for score in scores}) == len(scores), "a report looks scores up by name"
    return {verdict.key: verdict for verdict in verdicts}, {score.name: score for score in scores}


def first(scores: Mapping[str, Score]) -> Score:
    return next(iter(scores.values()))
