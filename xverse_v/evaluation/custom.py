"""A user's own TSV as a benchmark: multiple choice if it has the columns A and B, else questions with answers.

Source of the rule: VLMEvalKit, which takes any `{name}.tsv` of its data folder like this, asks such questions as they
are and has no score for the second kind. Here an answer is right if it equals a reference answer, whatever its case and
the space around it; where all rows have several reference answers (a list literal, as of ten people) the soft accuracy
of VQA leads. Rows without an answer are asked and not scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xverse_v.errors import error

from .benchmarks.choice import ChoiceBenchmark
from .benchmarks.described import Described
from .benchmarks.prompts import images_then
from .benchmarks.reading import listed, row_of, scorable, table_rows
from .benchmarks.scores import conditions
from .contract import BadRow, Benchmark, Judge, Prediction, Profile, Prompt, Row, Score, Verdict
from .scoring.vqa import soft_accuracy, variant_of
from .tsv import columns_of

Kind = Literal["choice", "answers"]
_SOURCE = "your own file"


@dataclass(kw_only=True)
class CustomAnswers(Described):
    """Questions with one or several reference answers."""

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]:
        return table_rows(
            path,
            lambda record: row_of(record, answers=listed(record.cells.get("answer", ""))),
            na=self.na(profile),
            image_root=image_root,
        )

    def prompt(self, row: Row, profile: Profile) -> Prompt:
        return images_then(row, row.question)

    def score(
        self, rows: Iterable[tuple[Row, Prediction]], profile: Profile, judge: Judge | None
    ) -> tuple[list[Verdict], list[Score]]:
        """Exact match, soft accuracy in front of it where every row has several answers, then the leading one of each
        category, if there is such a column."""
        pairs, skipped = scorable(rows, self.name)
        said = [prediction.text.strip().lower() for _, prediction in pairs]
        exact = [
            float(text in {answer.strip().lower() for answer in row.answers})
            for text, (row, _) in zip(said, pairs, strict=True)
        ]
        facts = conditions(profile, None, skipped)
        scores = [facts.mean("Exact match", exact)]
        values = exact
        if all(len(row.answers) > 1 for row, _ in pairs):
            variant = variant_of(profile)
            values = [soft_accuracy(prediction.text, row.answers, variant) for row, prediction in pairs]
            scores.insert(0, facts.mean("Soft accuracy", values))
        by_category: dict[str, list[float]] = {}
        for (row, _), value in zip(pairs, values, strict=True):
            by_category.setdefault(row.fields.get("category", ""), []).append(value)
        scores += [facts.mean(name, by_category[name]) for name in sorted(by_category.keys() - {""})]
        verdicts = [
            Verdict(row.key, value, text[:80]) for (row, _), value, text in zip(pairs, values, said, strict=True)
        ]
        return verdicts, scores


def kind_of(path: Path) -> Kind:
    """What a user's file is, by its columns. Raises E727 for one that cannot be asked, E705, E716."""
    columns = columns_of(path)
    needed = {"index": {"index"}, "question": {"question"}, "image or image_path": {"image", "image_path"}}
    missing = [name for name, any_of in needed.items() if not any_of & set(columns)]
    if missing:
        shown = ", ".join(missing)
        raise error("E727", path=path, problem=f"no column {shown}", problem_zh=f"缺少列 {shown}")
    return "choice" if {"A", "B"} <= set(columns) else "answers"


def custom_benchmark(name: str, kind: Kind, file: str = "") -> Benchmark:
    """The benchmark of a user's own file; scoring needs nothing but the kind."""
    file = file or f"{name}.tsv"
    if kind == "choice":
        return ChoiceBenchmark(name=name, file=file, source=_SOURCE, metric="accuracy", citation="", judge="optional")
    metric = "exact match, soft accuracy with several answers"
    return CustomAnswers(name=name, file=file, source=_SOURCE, metric=metric, citation="")
