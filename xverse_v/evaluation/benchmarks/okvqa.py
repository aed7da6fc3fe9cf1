"""OKVQA (v1.1): questions that need knowledge beyond the image, by the official VQA evaluation, as the release does.

A folder with the official pair of files, or with the release's three (a plain list or lines of questions, and both
files as "_clean"); one of the question files may be named instead. Image and answers are found by question id. Traps:
answers come in equal pairs, so one worker is worth 0.6; only ``answer`` counts, not ``raw_answer``; normalisation
happens only where annotators disagree; a file's heading members (info, license ...) may be missing. VLMEvalKit has no
OKVQA, so every profile asks and scores as the release does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xverse_v.errors import error

from ..contract import BadRow, Judge, Prediction, Profile, Prompt, Row, Score, Verdict
from ..official import Record, read_records
from ..tsv import bad_row
from . import prompts
from .annotated import soft_scores
from .described import Described, first_line, folder_of
from .reading import annotators_problem, as_texts, lacking, log, named_image, place_of, record_rows, scorable

QUESTION_FILES = (
    "okvqa_test_split.json",
    "OpenEnded_mscoco_val2014_questions_clean.json",
    "OpenEnded_mscoco_val2014_questions.json",
)
ANNOTATION_FILES = ("mscoco_val2014_annotations_clean.json", "mscoco_val2014_annotations.json")
_PROMPT = "Answer the question with a single word or a short phrase simply. Question: {question}"


@dataclass(kw_only=True)
class OkVqa(Described):
    """The test split: questions and annotations beside each other."""

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]:
        """`path`: the folder, or its question file. Raises E742 if questions or annotations are not there."""
        folder = path if path.is_dir() else path.parent
        questions = _first(folder, QUESTION_FILES, path) if path.is_dir() else path
        annotations = _answers(_first(folder, ANNOTATION_FILES, path))
        images = folder_of(questions, image_root, "val2014")
        used: set[str] = set()

        def make(record: Record) -> Row | BadRow:
            row = _row(record, annotations, images)
            used.add(row.key)
            return row

        yield from record_rows(_questions(questions), make)
        if left := len(annotations.keys() - used):
            log.warning("%s: %d annotated question(s) are not among the questions of %s", folder, left, questions.name)

    def prompt(self, row: Row, profile: Profile) -> Prompt:
        text = _PROMPT.replace("{question}", row.question)
        return prompts.images_then(row, text, prompts.RELEASE_LONGEST_ANSWER)

    def score(
        self, rows: Iterable[tuple[Row, Prediction]], profile: Profile, judge: Judge | None
    ) -> tuple[list[Verdict], list[Score]]:
        """No judge is asked."""
        pairs, skipped = scorable(rows, self.name)
        return soft_scores(pairs, skipped, profile, "official")


def _first(folder: Path, names: Iterable[str], path: Path) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise error("E742", path=path, companion=" / ".join(names), folder=folder)


def _questions(path: Path) -> Iterator[Record]:
    """The release's list or lines of questions, or the member `questions` of the official dict."""
    start = first_line(path)
    try:
        lines = "question_id" in json.loads(start)
    except ValueError:
        lines = False
    return read_records(path, at="" if lines or start.startswith("[") else "questions")


def _answers(path: Path) -> dict[str, tuple[str, ...]]:
    """Question id -> its answers in order, told apart by place: `answer_id` is not needed."""
    found: dict[str, tuple[str, ...]] = {}
    for record in read_records(path, at="annotations"):
        value: dict[str, Any] = record.value
        found[str(value.get("question_id"))] = as_texts(value.get("answers"))
    return found


def _row(record: Record, annotations: dict[str, tuple[str, ...]], images: Path) -> Row | BadRow:
    value = record.value
    if problem := lacking(record, "question_id", "question", "image_id"):
        return problem
    key = str(value["question_id"])
    if key not in annotations:
        return bad_row(key, place_of(record), "E743", line=place_of(record), key=key)
    # The release's list gives the file's name where the official questions give a number.
    named = str(value["image_id"])
    name = f"COCO_val2014_{int(named):012d}.jpg" if named.isdigit() else named
    row = Row(key, str(value["question"]), named_image(images / name), annotations[key])
    return annotators_problem(row, place_of(record)) or row


BENCHMARKS = (
    OkVqa(
        name="OKVQA",
        file="OKVQA",
        source="the authors' site (okvqa.allenai.org): questions and annotations of the test split, v1.1, unpacked "
        "into one folder, images of COCO val2014 below it",
        metric="soft accuracy of the official VQA evaluation",
        citation="Marino et al., OK-VQA, CVPR 2019, arXiv:1906.00067",
    ),
)
