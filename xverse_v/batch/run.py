"""The loop of a batch run: pick the rows that have no answer yet, ask them, put each answer on disk as it comes.

A row's bytes depend on the row and the settings alone: no times, no counters, nothing about its neighbours. What
answers questions and what opens images are functions that are handed in, so the file knows neither models nor formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
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
    """What an answering function gets: decoded images in order, the question, and the line's system text, if any."""

    id: str | int
    images: tuple[Image.Image, ...]
    text: str
    system: str | None


Outcome = Mapping[str, Any] | XverseError
Answerer = Callable[[Iterable[Question]], Iterable[tuple[int, Outcome]]]
"""Questions in; out, in any order, the place of each with the fields of its row, such as {"answer": ...}, or why it is
refused. It takes questions when it has room for them, so only those at work are in memory."""


@dataclass
class BatchReport:
    """What became of the rows. At the end, rows = answered + skipped + answered_before + skipped_before."""

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
    on_bad_image: OnBadImage = "fail",
    progress: Callable[[BatchReport], None] = lambda report: None,
) -> BatchReport:
    """Answer every row of `index` that `output` (entered) does not hold yet; `progress` is called after every append.

    With `on_bad_image="fail"` the first row whose image cannot be read, or which the model refuses, stops the run: what
    is being answered is finished and kept, then E825 is raised. With "skip" such a row is written with its error.
    Raises E826 when an answered id now asks something else, E828 when the disk is full.
    """
    run = _Run(index, output, open_image, on_bad_image, progress)
    for place, outcome in answer(run.questions()):
        run.finish(run.asked.pop(place), outcome)
    run.close()
    return run.report


class _Run:
    """The state of one run: which rows are being answered, and the first that failed."""

    def __init__(
        self,
        index: InputIndex,
        output: OutputFile,
        open_image: Callable[[str], Image.Image],
        on_bad_image: OnBadImage,
        progress: Callable[[BatchReport], None],
    ) -> None:
        self.index, self.output, self.on_bad_image, self.progress = index, output, on_bad_image, progress
        self.report = _report_before(index, output)
        self.asked: dict[int, Row] = {}
        self.failed: tuple[Row, XverseError] | None = None
        self._open = open_image
        # Rows about the same images come one after another, so the last ones are all that is ever used again.
        self._held: tuple[tuple[str, ...], tuple[Image.Image, ...]] = ((), ())
        progress(self.report)

    def questions(self) -> Iterator[Question]:
        """The rows that are still open, in groups of the same images; none any more once the run has to stop."""
        place = 0
        for row in self.index.rows(lambda key: key not in self.output.done):
            try:
                images = self._images(row.images)
            except XverseError as problem:
                self.finish(row, problem)
                images = None
            if self.failed:
                return
            if images is not None:
                self.asked[place] = row
                place += 1
                yield Question(row.id, images, row.question, row.system)

    def _images(self, names: tuple[str, ...]) -> tuple[Image.Image, ...]:
        if names != self._held[0]:
            self._held = (names, tuple(self._open(name) for name in names))
        return self._held[1]

    def finish(self, row: Row, outcome: Outcome) -> None:
        """Put one row on disk, or remember that the run has to stop."""
        if isinstance(outcome, XverseError):
            if self.on_bad_image == "fail":
                self.failed = self.failed or (row, outcome)
                return
            self.report.skipped += 1
            self.report.skips.append((row.id, outcome.code))
            # Always in English: a row must not depend on who started the run.
            shown = {"code": outcome.code, "name": outcome.name, "message": outcome.parts("en")["fact"]}
            fields: Mapping[str, Any] = {"error": shown}
        else:
            self.report.answered += 1
            fields = outcome
        self.output.append([{"id": row.id, **fields, "input": row.fingerprint}])
        self.progress(self.report)

    def close(self) -> None:
        """Raises E825 if a row failed."""
        if self.failed:
            row, problem = self.failed
            raise error(
                "E825",
                line=row.line,
                id=row.id,
                inner=problem.code,
                reason=problem.parts("en")["fact"],
                reason_zh=problem.parts("zh")["fact"],
                answered=self.report.answered,
            ) from problem
        if self.asked:
            raise RuntimeError(f"{len(self.asked)} questions were taken and never answered")


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
