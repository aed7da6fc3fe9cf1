"""OCRBench: 1,000 questions about text in images, one point each.

Read from VLMEvalKit's TSV or the authors' JSON list. Traps: the gold is a list literal; category names are exact keys;
formulas keep their case; an empty gold would stand in every answer and is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..contract import BadRow, Judge, Prediction, Profile, Prompt, Row, Score, Verdict
from ..official import Record, read_records
from ..scoring import intervals, ocrbench
from ..tsv import TsvRow, bad_row
from . import prompts
from .described import HOST, Described, folder_of, is_json
from .reading import as_texts, lacking, listed, named_image, place_of, record_rows, row_of, scorable, table_rows
from .scores import Conditions, conditions

FULL = sum(ocrbench.QUESTIONS.values())


@dataclass(kw_only=True)
class OcrBench(Described):
    """The whole benchmark in one file."""

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]:
        if is_json(path):
            images = folder_of(path, image_root, "OCRBench_Images")
            return record_rows(read_records(path), lambda record: _official_row(record, images))
        needs = ("question", "answer", "category")
        return table_rows(path, _table_row, na=self.na(profile), image_root=image_root, needs=needs)

    def prompt(self, row: Row, profile: Profile) -> Prompt:
        return prompts.images_then(row, row.question)

    def score(
        self, rows: Iterable[tuple[Row, Prediction]], profile: Profile, judge: Judge | None
    ) -> tuple[list[Verdict], list[Score]]:
        """Points: the sum, its tenth, each group, each category. No judge is asked."""
        pairs, skipped = scorable(rows, self.name)
        facts = conditions(profile, None, skipped)
        verdicts, groups, categories = [], dict[str, list[bool]](), dict[str, list[bool]]()
        for row, prediction in pairs:
            category = row.fields["category"]
            point = ocrbench.point(prediction.text, row.answers, category)
            verdicts.append(Verdict(row.key, float(point), prediction.text[:80]))
            groups.setdefault(ocrbench.CATEGORIES[category], []).append(point)
            categories.setdefault(category, []).append(point)
        every = [point for points in groups.values() for point in points]
        scores = [_points("Final Score", every, facts, f"of {FULL}" if len(every) == FULL else _cut(len(every)))]
        tenth = "Final Score / 10" if len(every) == FULL else f"Share of {len(every)} questions"
        scores.append(facts.mean(tenth, [float(point) for point in every]))
        scores += [_points(name, groups[name], facts) for name in ocrbench.QUESTIONS if name in groups]
        parts = {name: found for name, found in categories.items() if name not in groups}
        scores += [_points(name, parts[name], facts) for name in ocrbench.CATEGORIES if name in parts]
        return verdicts, scores


def _cut(questions: int) -> str:
    return f"of {questions} questions: not comparable with the {FULL} of the whole benchmark"


def _points(name: str, points: Sequence[bool], facts: Conditions, note: str = "") -> Score:
    low, high = intervals.wilson(sum(points), len(points))
    interval = (low * len(points), high * len(points))
    note = note or f"of {len(points)}"
    return facts.score(name, sum(points), interval, rows=len(points), unit="points", note=note)


def _table_row(record: TsvRow) -> Row | BadRow:
    return _checked(row_of(record, answers=listed(record.cells["answer"])), record.line)


def _official_row(record: Record, images: Path) -> Row | BadRow:
    value = record.value
    if problem := lacking(record, "question", "answers", "type", "image_path"):
        return problem
    golds = as_texts(value["answers"])
    fields = {"category": str(value["type"]), "dataset_name": str(value.get("dataset_name", ""))}
    # `id` counts within each source data set, so the two together name a question.
    key = f"{fields['dataset_name']}-{value['id']}" if "id" in value else str(record.place)
    image = named_image(images / str(value["image_path"]))
    return _checked(Row(key, str(value["question"]), image, golds, fields=fields), place_of(record))


def _checked(row: Row, line: int) -> Row | BadRow:
    category = row.fields.get("category", "")
    if category not in ocrbench.CATEGORIES:
        known = ", ".join(ocrbench.CATEGORIES)
        return bad_row(row.key, line, "E738", line=line, key=row.key, category=category, known=known)
    if not row.answers or not all(gold.strip() for gold in row.answers):
        return bad_row(row.key, line, "E735", line=line, key=row.key)
    return row


BENCHMARKS = (
    OcrBench(
        name="OCRBench",
        file="OCRBench.tsv",
        md5="e953d98a987cc6e26ef717b61260b778",
        source=f"VLMEvalKit's data table: {HOST}/VLMEval/; the authors' JSON list works as well",
        metric="points: a gold text stands in the answer",
        citation="Liu et al., OCRBench: On the Hidden Mystery of OCR in Large Multimodal Models, arXiv:2305.07895",
    ),
)
