"""The folder of one run, which is also its bundle: everything that a number rests on, and a hash over it.

    run.json             benchmark, profile, data digests, the model's facts: what was measured
    rows.jsonl           the rows asked, without images: questions, answers, options
    bad_rows.jsonl       every row that was not asked or not answered, and why
    predictions.jsonl    prompts, image hashes, answers, token ids, tiles: one line a row, in the file's order
    verdicts.jsonl, scores.json, judge.jsonl    made by scoring, from the files above
    bundle.json          the hash of the first four files, and on what machine and versions they were made
    parts/               the processes' own files, for going on; not part of the bundle

The bundle hash covers the first four files. In float32 it is the same for any batch size, number of processes, order
and number of interruptions; library versions, threads and processes are recorded beside it. No path of this machine is
in it. The file computes nothing about models or scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xverse_v.errors import error

from .contract import REFUSED, SURROUNDINGS, BadRow, Model, Prediction, Row
from .digests import canonical, digest, file_digest, pretty, read_json, read_lines, write_whole
from .plan import Plan, Task
from .predictions import MERGED, read_merged, unwritable
from .run_settings import FORMAT, describe_run, machine, refuse_other, settings_digest

RUN, ROWS, BAD, BUNDLE = "run.json", "rows.jsonl", "bad_rows.jsonl", "bundle.json"
HASHED = (RUN, ROWS, BAD, MERGED)
_UNSAFE = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True)
class RunFolder:
    """One benchmark, one model, one profile: `WORK_DIR/MODEL/BENCHMARK/PROFILE`."""

    path: Path

    @classmethod
    def of(cls, work_dir: Path, model: str, task: Task) -> RunFolder:
        """Where a run of these belongs."""
        return cls(work_dir / safe_name(model) / safe_name(task.benchmark.name) / task.profile)

    @classmethod
    def below(cls, folders: Iterable[Path]) -> list[RunFolder]:
        """All run folders in or below some folders. Raises E724 for a folder without any."""
        found: list[RunFolder] = []
        for folder in folders:
            inside = sorted(path.parent for path in folder.rglob(RUN)) if folder.is_dir() else []
            if not inside:
                raise error("E724", folder=folder)
            found += [cls(path) for path in inside]
        return found

    def open(self, task: Task, model: Model, plan: Plan, *, first: bool = True) -> str:
        """Make the folder, or check that it belongs to the same run. Returns the settings digest. Raises E720, E721.

        Another limit is no other run: answers are kept, only the bundle is made anew. So the first process takes an
        old one away; every process writes the same bytes into the other files.
        """
        document = describe_run(task, model)
        path = self.path / RUN
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if path.exists():
                refuse_other(path, document)
            if first:
                (self.path / BUNDLE).unlink(missing_ok=True)
            write_whole(path, pretty(document))
            write_whole(self.path / ROWS, "".join(canonical(row_document(row)) + "\n" for row in plan.rows))
        except OSError as reason:
            raise unwritable(path, reason) from reason
        return settings_digest(document)

    def document(self) -> dict[str, Any]:
        """run.json. Raises E716, E718."""
        return read_json(self.path / RUN)

    def settings_digest(self) -> str:
        """What the lines of the parts are keyed by."""
        return settings_digest(self.document())

    def close(self, plan: Plan, refusals: list[BadRow], model: Model, processes: int) -> str:
        """Write what belongs to a finished run and return the bundle hash. Raises E721."""
        bad = [*plan.bad, *refusals, *plan.left_out]
        surroundings = {name: value for name, value in model.facts.items() if name in SURROUNDINGS}
        try:
            write_whole(self.path / BAD, "".join(canonical(asdict(row)) + "\n" for row in bad))
            document = {
                "format": FORMAT,
                "bundle": self.hash(),
                "files": {name: file_digest(self.path / name) for name in HASHED},
                "rows": len(plan.rows),
                "beyond_limit": plan.beyond,
                "bad_rows": len(plan.bad) + len(refusals),
                "left_out_rows": len(plan.left_out),
                "made_on": {**machine(processes), "model": surroundings},
            }
            write_whole(self.path / BUNDLE, pretty(document))
        except OSError as reason:
            raise unwritable(self.path, reason) from reason
        return str(document["bundle"])

    def hash(self) -> str:
        """sha256 over the names and digests of the files that hold what was asked and answered. Raises E716."""
        try:
            return digest({name: file_digest(self.path / name) for name in HASHED})
        except OSError as reason:
            raise error("E716", path=reason.filename, reason=reason.strerror or str(reason)) from reason

    @property
    def finished(self) -> bool:
        """All rows are answered or refused, and put together."""
        return (self.path / BUNDLE).exists()

    def rows(self) -> Iterator[Row]:
        """The rows asked, in order, without their images."""
        for document in read_lines(self.path / ROWS):
            yield Row(
                key=document["key"],
                question=document["question"],
                answers=tuple(document["answers"]),
                options=document["options"],
                group=document["group"],
                fields=document["fields"],
            )

    def predictions(self) -> Iterator[dict[str, Any]]:
        """The lines of predictions.jsonl, in the order of `rows`."""
        return read_merged(self.path / MERGED)

    def asked(self) -> Iterator[tuple[Row, Prediction]]:
        """Every row that was asked, with its answer or refusal. Raises E718 if the two files do not go together."""
        lines = self.predictions()
        for row in self.rows():
            line = next(lines, None)
            if line is None or row.key != line["key"]:
                found = "the end" if line is None else line["key"]
                raise error("E718", path=self.path / MERGED, line="?", reason=f"{found} where {row.key} belongs")
            yield row, Prediction(row.key, line["text"], line["finish_reason"], line["facts"])

    def answered(self) -> Iterator[tuple[Row, Prediction]]:
        """As `asked`, without the refused ones."""
        return ((row, prediction) for row, prediction in self.asked() if prediction.finish_reason != REFUSED)

    def refusals(self) -> list[BadRow]:
        """The rows that the model could not answer."""
        problems = ((line["key"], line["facts"]["error"]) for line in self.predictions() if _is_refused(line))
        return [BadRow(key, 0, problem["code"], problem["fact"]) for key, problem in problems]

    def bad_rows(self) -> list[BadRow]:
        """Everything that was not asked or not answered."""
        return [BadRow(**document) for document in read_lines(self.path / BAD)]


def row_document(row: Row) -> dict[str, Any]:
    """A row for a file; of its images only their number, for their hashes stand beside the prediction."""
    return {
        "key": row.key,
        "question": row.question,
        "images": len(row.images),
        "answers": list(row.answers),
        "options": dict(row.options),
        "group": row.group,
        "fields": dict(row.fields),
    }


def safe_name(name: str) -> str:
    """A name as a folder: letters, digits and . + - _ alone."""
    return _UNSAFE.sub("_", name).strip(".") or "_"


def _is_refused(line: Mapping[str, Any]) -> bool:
    return bool(line["finish_reason"] == REFUSED)
