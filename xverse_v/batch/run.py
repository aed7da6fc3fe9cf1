"""The loop of a batch run: pick the rows that have no answer yet, ask them together, put the answers on disk.

A row's bytes depend on the row and the settings alone: no times, no counters, nothing about its neighbours. What answers
questions and what opens images are functions that are handed in, so the file knows neither models nor formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from PIL import Image

from xverse_v.errors import XverseError, error

from .input import InputIndex, Row
from .output import OutputFile, row_key

OnBadImage = Literal["fail", "skip"]


@dataclass(frozen=True)
class Question:
    """What an answering function gets: decoded images in order, the question, and the system text of the line, if any."""

    id: str | int
    images: tuple[Image.Image, ...]
    text: str
    system: str | None


Answerer = Callable[[Sequence[Question]], Sequence[Mapping[str, Any]]]
"""Questions in, one mapping each out, in their order: the fields of the row, such as {"answer": ...}."""


@dataclass
class BatchReport:
    """What became of the rows. rows = answered + skipped + answered_before + skipped_before once a run has finished."""

    rows: int
    answered_before: int = 0
    skipped_before: int = 0
    answered: int = 0
    skipped: int = 0
    elsewhere: int = 0
    """Rows of the output that the input does not ask about."""
    skips: list[tuple[str | int, str]] = field(default_factory=list)
    """(id, error code) of every row given up, in this run and before."""

    @property
    def done(self) -> int:
        return self.answered + self.skipped + self.answered_before + self.skipped_before


def run_batch(
    index: InputIndex,
    output: OutputFile,
    *,
    answer: Answerer,
    open_image: Callable[[str], Image.Image],
    batch_size: int,
    on_bad_image: OnBadImage = "fail",
    progress: Callable[[BatchReport], None] = lambda report: None,
) -> BatchReport:
    """Answer every row of `index` that `output` (entered) does not hold yet; `progress` is called after every append.

    Raises E826 when an answered id now asks something else, E825 (with `on_bad_image="fail"`) for a row whose image cannot
    be read or which the model refuses, E828 when the disk is full. Whatever it raises, rows written before are kept.
    """
    report = _report_before(index, output)
    progress(report)
    rows = index.rows(lambda key: key not in output.done)
    shelf = _ImageShelf(open_image)
    while chunk := list(islice(rows, batch_size)):
        outcomes = _ask(chunk, shelf, answer)
        failed = next(((row, o) for row, o in outcomes if isinstance(o, XverseError)), None)
        if failed and on_bad_image == "fail":
            outcomes = [(row, o) for row, o in outcomes if not isinstance(o, XverseError)]
        output.append(_as_row(row, outcome) for row, outcome in outcomes)
        _count(report, outcomes)
        progress(report)
        if failed and on_bad_image == "fail":
            raise _row_failed(*failed, answered=report.answered)
    return report


Outcome = Mapping[str, Any] | XverseError


def _ask(rows: Sequence[Row], shelf: _ImageShelf, answer: Answerer) -> list[tuple[Row, Outcome]]:
    """One outcome a row, in the order of `rows`. A row that cannot be asked costs its neighbours nothing but time."""
    outcomes: dict[int, Outcome] = {}
    questions: dict[int, Question] = {}
    for place, row in enumerate(rows):
        try:
            questions[place] = Question(row.id, shelf.take(row.images), row.question, row.system)
        except XverseError as problem:
            outcomes[place] = problem
    try:
        outcomes.update(zip(questions, answer(list(questions.values())) if questions else [], strict=True))
    except XverseError:
        # One of them was refused, and the answering function does not say which: ask them one by one.
        for place, question in questions.items():
            try:
                outcomes[place] = answer([question])[0]
            except XverseError as problem:
                outcomes[place] = problem
    return [(row, outcomes[place]) for place, row in enumerate(rows)]


class _ImageShelf:
    """The images of the last row. Rows about the same images come one after another, so this is all that is ever reused."""

    def __init__(self, open_image: Callable[[str], Image.Image]) -> None:
        self._open = open_image
        self._held: tuple[tuple[str, ...], tuple[Image.Image, ...]] = ((), ())

    def take(self, names: tuple[str, ...]) -> tuple[Image.Image, ...]:
        if names != self._held[0]:
            self._held = (names, tuple(self._open(name) for name in names))
        return self._held[1]


def _as_row(row: Row, outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, XverseError):
        # Always in English: a row must not depend on who started the run.
        fields: Mapping[str, Any] = {
            "error": {"code": outcome.code, "name": outcome.name, "message": outcome.parts("en")["fact"]}
        }
    else:
        fields = outcome
    return {"id": row.id, **fields, "input": row.fingerprint}


def _count(report: BatchReport, outcomes: Sequence[tuple[Row, Outcome]]) -> None:
    for row, outcome in outcomes:
        if isinstance(outcome, XverseError):
            report.skipped += 1
            report.skips.append((row.id, outcome.code))
        else:
            report.answered += 1


def _row_failed(row: Row, problem: Outcome, *, answered: int) -> XverseError:
    assert isinstance(problem, XverseError)
    said, said_zh = problem.parts("en")["fact"], problem.parts("zh")["fact"]
    failure = error(
        "E825", line=row.line, id=row.id, inner=problem.code, reason=said, reason_zh=said_zh, answered=answered
    )
    failure.__cause__ = problem
    return failure


def _report_before(index: InputIndex, output: OutputFile) -> BatchReport:
    report = BatchReport(len(index), skips=list(output.skipped))
    changed = set()
    for key, asked in output.done.items():
        now = index.fingerprint(key)
        report.elsewhere += now is None
        if now not in (None, asked):
            changed.add(key)
    if changed:
        names = [repr(row.id) for row in islice(index.rows(changed.__contains__), 5)]
        raise error("E826", path=output.path, count=len(changed), examples=", ".join(names))
    report.skipped_before = sum(index.fingerprint(row_key(identity)) is not None for identity, _ in output.skipped)
    report.answered_before = len(output.done) - report.elsewhere - report.skipped_before
    return report
