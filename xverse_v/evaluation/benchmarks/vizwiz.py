"""VizWiz: questions of blind people about their own photographs, ten annotators a question.

Read from VLMEvalKit's TSV (column ``answers``, plural) or the authors' ``val.json`` and ``test.json``, the latter
without answers. How the card's number was prompted is not
established, so every known prompt has its profile: VLMEvalKit asks the bare question, LLaVA (``official``) adds two
lines, and the release has an unused template of its own. "unanswerable" is an answer like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..contract import BadRow, Profile, Prompt, Row
from ..official import Record, read_records
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
    texts,
)

_UNANSWERABLE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."
_RELEASE_PROMPT = (
    "[vqa] The question is '{question}' Based on the image, answer the question with a single word or phrase. "
    "and reply 'unanswerable' when the provided information is insufficient"
)


@dataclass(kw_only=True)
class VizWiz(Annotated):
    """A split in one file."""

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]:
        exactly = ANNOTATORS if profile == "official" else 0
        if is_json(path):
            images = folder_of(path, image_root, "val", "test")
            return record_rows(read_records(path), lambda record: _official_row(record, images, exactly))

        def make(record: TsvRow) -> Row | BadRow:
            row = row_of(record, answers=listed(record.cells["answers"]))
            return annotators_problem(row, record.line, exactly) or row

        needs = ("question", "answers")
        return table_rows(path, make, na=self.na(profile), image_root=image_root, needs=needs)

    def prompt(self, row: Row, profile: Profile) -> Prompt:
        if profile == "release":
            text = _RELEASE_PROMPT.replace("{question}", row.question)
            return prompts.images_then(row, text, prompts.RELEASE_LONGEST_ANSWER)
        suffix = _UNANSWERABLE + prompts.SHORT_ANSWER if profile == "official" else ""
        return prompts.images_then(row, row.question + suffix)


def _official_row(record: Record, images: Path, exactly: int) -> Row | BadRow:
    value = record.value
    if problem := lacking(record, "image", "question"):
        return problem
    # The files number no questions; each image has one, so its name is the key.
    key = str(value["image"])
    given = value.get("answers")
    answers = as_texts(given)
    fields = texts(value, "answer_type", "answerable")
    row = Row(key, str(value["question"]), named_image(images / key), answers, fields=fields)
    return row if given is None else annotators_problem(row, place_of(record), exactly) or row


BENCHMARKS = (
    VizWiz(
        name="VizWiz",
        file="VizWiz.tsv",
        md5="fa4ac4164467563ed2fac6eac6631bd0",
        source=f"VLMEvalKit's data table: {HOST}/VLMEval/; the authors' val.json works as well",
        metric="soft accuracy over ten annotators",
        citation="Gurari et al., VizWiz Grand Challenge, CVPR 2018, arXiv:1802.08218",
    ),
)
