"""ScienceQA, the questions with an image, validation or test split.

Read from VLMEvalKit's TSV or the authors' ``problems.json`` (with ``pid_splits.json`` beside it, else the member
``split``). The hint becomes the ``Hint:`` line; lecture and solution are never shown. Which split the card's number is
of is not established; the image rows of the test split are the convention.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contract import BadRow, Judge, Prediction, Profile, Prompt, Row, Score, Verdict
from ..official import Record, read_document, read_records
from ..scoring.science_qa import read_letter
from . import prompts
from .choice import ChoiceBenchmark, Reading, score_each
from .described import HOST, folder_of, is_json
from .reading import (
    LETTERS,
    answer_problem,
    as_texts,
    imageless,
    lacking,
    named_image,
    place_of,
    record_rows,
    scorable,
    texts,
)


@dataclass(kw_only=True)
class ScienceQA(ChoiceBenchmark):
    """One split, `part` being its name in the authors' files."""

    metric: str = "accuracy over the questions with an image"
    citation: str = "Lu et al., Learn to Explain (ScienceQA), NeurIPS 2022, arXiv:2209.09513"
    source: str = f"VLMEvalKit's data table: {HOST}/benchmarks/ScienceQA/; the authors' problems.json works as well"
    part: str

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]:
        if not is_json(path):
            return super().rows(path, profile, image_root)
        return _official_rows(path, self.part, folder_of(path, image_root, "images"))

    def prompt(self, row: Row, profile: Profile) -> Prompt:
        """Profile ``official``: context, question, options, in LLaVA's order and with its closing line."""
        if profile != "official":
            return super().prompt(row, profile)
        hint = row.fields.get("hint", "")
        text = (f"Context: {hint}\n" if hint else "") + f"{row.question}\n" + prompts.letters_and_options(row)
        return prompts.images_then(row, text.removesuffix("\n") + prompts.LETTER_ANSWER)

    def score(
        self, rows: Iterable[tuple[Row, Prediction]], profile: Profile, judge: Judge | None
    ) -> tuple[list[Verdict], list[Score]]:
        pairs, skipped = scorable(rows, self.name)
        if profile != "official":
            return score_each(pairs, skipped, profile, judge)
        return score_each(pairs, skipped, profile, None, read=_read_officially, note="LLaVA's reading of letters")


def _read_officially(
    pairs: Sequence[tuple[Row, Prediction]], profile: Profile, judge: Judge | None
) -> dict[str, Reading]:
    found = {row.key: read_letter(prediction.text, row.options) for row, prediction in pairs}
    return {key: Reading(letter or "", letter is not None) for key, letter in found.items()}


def _official_rows(path: Path, part: str, images: Path) -> Iterator[Row | BadRow]:
    splits = path.with_name("pid_splits.json")
    chosen: set[str] | None = set(as_texts(read_document(splits).get(part))) if splits.exists() else None

    def make(record: Record) -> Row | BadRow | None:
        value = record.value
        if record.key not in chosen if chosen is not None else value.get("split") != part:
            return None
        if problem := lacking(record, "question", "choices", "answer"):
            return problem
        if not value.get("image"):
            return imageless(record.key, record)
        return _official_row(record, value, part, images)

    return record_rows(read_records(path), make)


def _official_row(record: Record, value: dict[str, Any], part: str, images: Path) -> Row | BadRow:
    options = {LETTERS[place]: choice for place, choice in enumerate(as_texts(value["choices"]))}
    answer = LETTERS[value["answer"]] if value["answer"] in range(len(options)) else str(value["answer"])
    # The authors keep a folder a split, LLaVA's copy one for all.
    folders = [images / part / record.key, images / record.key]
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    fields = texts(value, "hint", "subject", "topic", "category", "skill", "grade", "task")
    image = named_image(folder / str(value["image"]))
    row = Row(record.key, str(value["question"]), image, (answer,), options, fields=fields)
    return answer_problem(row, place_of(record)) or row


def _file(name: str, md5: str, part: str) -> ScienceQA:
    return ScienceQA(name=name, file=f"{name}.tsv", md5=md5, judge="optional", part=part)


BENCHMARKS = (
    _file("ScienceQA_VAL", "96320d05e142e585e7204e72affd29f3", "val"),
    _file("ScienceQA_TEST", "e42e9e00f9c59a80d8a5db35bc32b71f", "test"),
)
