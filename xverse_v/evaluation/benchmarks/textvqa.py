"""TextVQA, validation split: short answers about text in images, ten annotators a question.

Read from VLMEvalKit's TSV (``answer`` is a list literal of ten) or the authors' ``TextVQA_0.5.1_val.json``. The prompt
of April 2024 ended differently, in a line end and a lone period. No OCR tokens are ever added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..contract import BadRow, Profile, Prompt, Row
from ..official import Record, read_records
from ..scoring.harness import of_april_2024
from ..scoring.vqa import ANNOTATORS
from ..tsv import TsvRow
from . import prompts
from .annotated import Annotated
from .described import HOST, folder_of, is_json
from .reading import (
    annotators_problem,
    as_texts,
    lacking,
    listed,
    named_image,
    place_of,
    record_rows,
    row_of,
    table_rows,
)


@dataclass(kw_only=True)
class TextVqa(Annotated):
    """The split in one file."""

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]:
        exactly = ANNOTATORS if profile == "official" else 0
        if is_json(path):
            images = folder_of(path, image_root, "train_images")
            return record_rows(read_records(path, at="data"), lambda record: _official_row(record, images, exactly))

        def make(record: TsvRow) -> Row | BadRow:
            row = row_of(record, answers=listed(record.cells["answer"]))
            return annotators_problem(row, record.line, exactly) or row

        needs = ("question", "answer")
        return table_rows(path, make, na=self.na(profile), image_root=image_root, needs=needs)

    def prompt(self, row: Row, profile: Profile) -> Prompt:
        suffix = prompts.SHORT_ANSWER_2024 if of_april_2024(profile) else prompts.SHORT_ANSWER
        return prompts.images_then(row, row.question + suffix)


def _official_row(record: Record, images: Path, exactly: int) -> Row | BadRow:
    value = record.value
    if problem := lacking(record, "question", "question_id", "image_id", "answers"):
        return problem
    image = named_image(images / f"{value['image_id']}.jpg")
    row = Row(str(value["question_id"]), str(value["question"]), image, as_texts(value["answers"]))
    return annotators_problem(row, place_of(record), exactly) or row


BENCHMARKS = (
    TextVqa(
        name="TextVQA_VAL",
        file="TextVQA_VAL.tsv",
        md5="b233b31f551bbf4056f2f955da3a92cd",
        source=f"VLMEvalKit's data table: {HOST}/VLMEval/; the authors' TextVQA_0.5.1_val.json works as well",
        metric="soft accuracy over ten annotators",
        citation="Singh et al., Towards VQA Models That Can Read, CVPR 2019, arXiv:1904.08920",
    ),
)
