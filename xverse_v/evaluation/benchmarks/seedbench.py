"""SEEDBench_IMG: the image part of SEED-Bench, nine kinds of questions.

Read from VLMEvalKit's TSV or the authors' ``SEED-Bench.json`` (``data_type`` image alone). Trap: 33 rows have an option
"None" that VLMEvalKit's reader loses, some of them the right one; profile ``vlmevalkit-2024-04`` loses them too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..contract import BadRow, Profile, Row
from ..official import Record, read_document, read_records
from .choice import ChoiceBenchmark
from .described import HOST, folder_of, is_json
from .reading import answer_problem, lacking, named_image, place_of, record_rows, texts


@dataclass(kw_only=True)
class SeedBench(ChoiceBenchmark):
    """The TSV, or the authors' JSON beside their folder of images."""

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]:
        if not is_json(path):
            return super().rows(path, profile, image_root)
        return _official_rows(path, folder_of(path, image_root, "SEED-Bench-image"))


def _official_rows(path: Path, images: Path) -> Iterator[Row | BadRow]:
    document = read_document(path)
    types = document.get("question_type", {}) if isinstance(document, dict) else {}
    names = {str(number): name for name, number in types.items()}

    def make(record: Record) -> Row | BadRow | None:
        value = record.value
        if value.get("data_type", "image") != "image":
            return None
        if problem := lacking(record, "question", "answer", "question_id", "data_id"):
            return problem
        options = {letter: str(value[name]) for letter in "ABCD" if value.get(name := f"choice_{letter.lower()}")}
        fields = texts(value, "data_id", "question_type_id")
        if category := names.get(fields.get("question_type_id", "")):
            fields["category"] = category
        image = named_image(images / str(value["data_id"]))
        key, answer = str(value["question_id"]), str(value["answer"])
        row = Row(key, str(value["question"]), image, (answer,), options, fields=fields)
        return answer_problem(row, place_of(record)) or row

    return record_rows(read_records(path, at="questions"), make)


BENCHMARKS = (
    SeedBench(
        name="SEEDBench_IMG",
        file="SEEDBench_IMG.tsv",
        md5="68017231464752261a2526d6ca3a10c0",
        source=f"VLMEvalKit's data table: {HOST}/benchmarks/SEEDBench/; the authors' SEED-Bench.json works as well",
        metric="accuracy over questions",
        citation="Li et al., SEED-Bench, CVPR 2024, arXiv:2307.16125",
        judge="optional",
    ),
)
