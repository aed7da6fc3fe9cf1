"""The loop of a batch run: pick the rows that have no answer yet, ask them together, put the answers on disk.

A row's bytes depend on the row and the settings alone: no times, no counters, nothing about its neighbours. What answers
questions and what opens images are functions that are handed in, so the file knows neither models nor formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import batched, islice
from typing import Any, Literal

from PIL import Image

from xverse_v.errors import XverseError, error

from .input import InputIndex, Row
from .output import OutputFile

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
    images = _ImageShelf(open_image)
    for chunk in _chunks(rows, batch_size):
        outcomes = _ask(chunk, images, answer)
        written, failed = _until_failure(outcomes) if on_bad_image == "fail" else (outcomes, None)
        output.append(_as_row(row, outcome) for row, outcome in written)
        for row, outcome in written:
            if isinstance(outcome, XverseError):
                report.skipped += 1
                report.skips.append((row.id, outcome.code))
            else:
                report.answered += 1
        progress(report)
        if failed:
            row, problem = failed
            said = {name: problem.parts(language)["fact"] for name, language in (("reason", "en"), ("reason_zh", "zh"))}
            raise error("E825", line=row.line, id=row.id, code=problem.code, answered=report.answered, **said) from problem
    return report


Outcome = tuple[Row, Mapping[str, Any] | XverseError]


def _report_before(index: InputIndex, output: OutputFile) -> BatchReport:
    report = BatchReport(len(index), skips=list(output.skipped))
    changed = []
    for key, asked in output.done.items():
        now = index.fingerprint(key)
        if now is None:
            report.elsewhere += 1
        elif now != asked:
            changed.append(key)
    if changed:
        names = [repr(row.id) for row in islice(index.rows(set(changed).__contains__), 5)]
        raise error("E826", path=output.path, count=len(changed), examples=", ".join(names))
    report.skipped_before = len(output.skipped)
    report.answered_before = len(output.done) - report.elsewhere - report.skipped_before
    return report
