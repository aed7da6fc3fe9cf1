"""The loop of a run: the rows of a benchmark that have no answer yet go to the model, each answer goes to disk at once.

Rows about one image are asked one after another, so that the model prefills it once. What a line of the predictions
says depends on the row and the model's facts alone: no times, no counters, nothing about its neighbours. So a run may
be killed at any moment, gone on with by any number of processes, and ends in the same bytes. Scoring is another file's.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xverse_v.errors import XverseError, error

from .bundle import RunFolder
from .contract import REFUSED, BadRow, ImageRef, Model, Prediction, Prompt, Row
from .digests import digest
from .plan import Plan, Task, make_plan
from .predictions import Answered, Part, is_written, merge, read_parts
from .sharing import Share, deal, group_by_image, image_name
from .tsv import image_bytes

_PATIENCE = 600.0  # seconds without a sign of life from another process
_GLANCE = 1.0  # seconds between looks at the others' parts


@dataclass
class RunReport:
    """What became of a benchmark's rows. At the end `rows` = answered + answered_before + refused, over all processes.

    `mine` rows are this process's. `refusals` lists rows that the model could not answer.
    """

    task: Task
    folder: Path
    rows: int
    mine: int
    plan: Plan
    answered: int = 0
    answered_before: int = 0
    torn_bytes: int = 0
    merged: bool = False
    refusals: list[BadRow] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Of this process's rows."""
        return self.answered + self.answered_before + len(self.refusals)

    @property
    def bad(self) -> int:
        """Rows without an answer, for whatever defect."""
        return len(self.plan.bad) + len(self.refusals)


Watcher = Callable[[RunReport], None]


def ask(
    task: Task, model: Model, work_dir: Path, *, share: Share | None = None, watch: Watcher | None = None
) -> RunReport:
    """Answer this process's rows of one benchmark. `watch` is called at the start and after every row.

    Raises E719 to E722 for a folder that other settings or another process own, and what the model raises.
    """
    share = share or Share()
    plan = make_plan(task)
    folder = RunFolder.of(work_dir, model.name, task)
    settings = folder.open(task, model, plan, first=share.first)
    answered = read_parts(folder.path, settings)
    groups = deal(group_by_image(plan.rows), share)
    report = RunReport(task, folder.path, len(plan.rows), sum(map(len, groups)), plan)
    report.torn_bytes = answered.torn_bytes
    asker = _Asker(task, report, answered)
    with Part(folder.path, share, settings) as part:
        asker.check_before(plan.rows)
        report.answered_before = sum(row.key in asker.finished for group in groups for row in group)
        if watch:
            watch(report)
        for prediction in model.answers(asker.prompts(groups, part)):
            asker.keep(prediction, part)
            if watch:
                watch(report)
    if asker.waiting:
        raise RuntimeError(f"{len(asker.waiting)} prompts were taken by {model.name} and never answered")
    return report


def finish(report: RunReport, model: Model, *, share: Share | None = None) -> RunReport:
    """Wait for the other processes and put all answers into one file. For the first process only. Raises E723."""
    share = share or Share()
    folder = RunFolder(report.folder)
    settings = folder.settings_digest()
    keys = [row.key for row in report.plan.rows]
    began = time.monotonic()
    while True:
        if any(is_written(report.folder, rank, share.world) for rank in range(1, share.world)):
            began = time.monotonic()
        else:
            answered = read_parts(report.folder, settings)
            missing = sum(key not in answered.at for key in keys)
            if not missing:
                break
            if share.world == 1 or time.monotonic() - began > _PATIENCE:
                raise error("E723", folder=report.folder, missing=missing, rows=len(keys), world=share.world)
        time.sleep(_GLANCE)
    merge(report.folder, answered, keys)
    report.refusals = folder.refusals()
    folder.close(report.plan, report.refusals, model, share.world)
    report.merged = True
    return report


class _Asker:
    """Rows into prompts and predictions into lines."""

    def __init__(self, task: Task, report: RunReport, answered: Answered) -> None:
        self.task, self.report = task, report
        self.finished = {key for key in answered.at if key not in answered.refused}
        self.waiting: dict[str, dict[str, Any]] = {}
        self._asked_before = answered.asked
        self._images: dict[str, tuple[ImageRef, str]] = {}

    def check_before(self, rows: list[Row]) -> None:
        """Rows that are answered must ask the same now. Raises E722."""
        changed = [
            row.key
            for row in rows
            if row.key in self.finished and self._asked_before[row.key] != asked_digest(self._prompt(row))
        ]
        if changed:
            raise error("E722", folder=self.report.folder, count=len(changed), examples=", ".join(changed[:5]))

    def _prompt(self, row: Row) -> Prompt:
        prompt = self.task.benchmark.prompt(row, self.task.profile)
        limit = self.task.max_new_tokens
        return prompt if limit is None else replace(prompt, max_new_tokens=limit)

    def prompts(self, groups: list[list[Row]], part: Part) -> Iterator[tuple[str, Prompt]]:
        """What is still open, image by image; a row whose image cannot be read is refused here."""
        for group in groups:
            self._images.clear()
            for row in group:
                if row.key in self.finished:
                    continue
                prompt = self._prompt(row)
                line: dict[str, Any] = {"asked": asked_digest(prompt), "images": []}
                try:
                    read = [self._read(part) if isinstance(part, ImageRef) else (part, "") for part in prompt.parts]
                except XverseError as problem:
                    self.waiting[row.key] = line | {"prompt": described(prompt)}
                    self.keep(_refused(row.key, problem), part)
                    continue
                line["images"] = [name for _, name in read if name]
                self.waiting[row.key] = line | {"prompt": described(prompt)}
                yield row.key, replace(prompt, parts=tuple(piece for piece, _ in read))

    def _read(self, image: ImageRef) -> tuple[ImageRef, str]:
        """The image as a model takes it, the same object for all rows of a group, and the sha256 of its file."""
        name = f"{image_name(image)} {image.place}"
        if name not in self._images:
            data = image_bytes(image)
            # A file of its own stays a path: a profile may treat images of data files differently.
            shown = image if image.path is not None and image.offset < 0 else ImageRef(data=data, digest=image.digest)
            self._images[name] = (shown, hashlib.sha256(data).hexdigest())
        return self._images[name]

    def keep(self, prediction: Prediction, part: Part) -> None:
        """One prediction to disk and into the report."""
        line = self.waiting.pop(prediction.key)
        refused = prediction.finish_reason == REFUSED
        part.append(
            {
                "key": prediction.key,
                **line,
                "text": prediction.text,
                "finish_reason": prediction.finish_reason,
                "facts": dict(prediction.facts),
            }
        )
        if refused:
            self.report.refusals.append(refusal_of(prediction.key, prediction.facts))
        else:
            self.report.answered += 1


def described(prompt: Prompt) -> dict[str, Any]:
    """A prompt for a file: texts as they are, images as null; the line's `images` names them in order."""
    parts = [part if isinstance(part, str) else None for part in prompt.parts]
    return {"parts": parts, "system": prompt.system, "max_new_tokens": prompt.max_new_tokens}


def asked_digest(prompt: Prompt) -> str:
    """16 hex digits for all of a prompt but its images, whose data file's digest is one of the run's settings."""
    return digest(described(prompt))[:16]


def refusal_of(key: str, facts: Mapping[str, Any]) -> BadRow:
    """A refused prediction as a bad row. Its line in the data is not known any more."""
    problem = facts.get("error") or {}
    return BadRow(key, 0, str(problem.get("code", "")), str(problem.get("fact", "")))


def _refused(key: str, problem: XverseError) -> Prediction:
    shown = {"code": problem.code, "name": problem.name, **problem.parts("en")}
    return Prediction(key, "", REFUSED, {"error": shown})
