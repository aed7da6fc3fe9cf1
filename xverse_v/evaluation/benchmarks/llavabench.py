"""LLaVABench (in the wild): sixty open questions, graded by a judge against the answers of a text-only GPT-4.

Read from VLMEvalKit's TSV, or from LLaVA's ``questions.jsonl`` with ``context.jsonl`` and ``answers_gpt4.jsonl`` beside
it. There is no number without a judge, and the judge's version moves it by many points. A judge's reply whose first
line is not two grades counts as -1 for both in VLMEvalKit; profiles of April 2024 keep that. Other profiles read the
line leniently, ask again, and leave such rows out. Where it happens both numbers are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xverse_v.errors import error

from ..contract import BadRow, Judge, Prediction, Profile, Prompt, Row, Score, Verdict
from ..official import Record, read_records
from ..scoring import intervals
from ..scoring import llavabench as rules
from ..scoring.harness import of_april_2024
from ..tsv import TsvRow, bad_row
from . import prompts
from .described import HOST, Described, folder_of, is_json
from .judging import ask_until_read
from .reading import lacking, named_image, place_of, record_rows, row_of, scorable, table_rows
from .scores import Conditions, conditions

_TRIES = 3
_UNREAD = (-1.0, -1.0)
Grades = tuple[float, float]


@dataclass(kw_only=True)
class LlavaBench(Described):
    """The whole benchmark in one file, or in LLaVA's three."""

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]:
        if is_json(path):
            return _official_rows(path, folder_of(path, image_root, "images"))
        needs = ("question", "caption", "gpt4_ans", "category")
        return table_rows(path, _table_row, na=self.na(profile), image_root=image_root, needs=needs)

    def prompt(self, row: Row, profile: Profile) -> Prompt:
        return prompts.images_then(row, row.question)

    def score(
        self, rows: Iterable[tuple[Row, Prediction]], profile: Profile, judge: Judge | None
    ) -> tuple[list[Verdict], list[Score]]:
        """Relative scores and the mean grades behind them. Raises E733 without a judge."""
        pairs, skipped = scorable(rows, self.name)
        if judge is None:
            raise error("E733", benchmark=self.name, rows=len(pairs))
        kept = of_april_2024(profile)
        graded = _graded(pairs, judge, strict=kept)
        verdicts = [_verdict(row.key, graded.get(row.key), kept=kept) for row, _ in pairs]
        facts = conditions(profile, judge, skipped)
        scores = _table(pairs, graded, facts, kept=kept)
        if len(graded) < len(pairs):
            scores += _other(pairs, graded, facts, kept=kept)
        return verdicts, scores


def _graded(pairs: Sequence[tuple[Row, Prediction]], judge: Judge, *, strict: bool) -> dict[str, Grades]:
    """The judge's two grades of each row, GPT-4's first; rows whose replies were unreadable are missing."""
    asked = {
        row.key: rules.judge_prompt(row.fields["caption"], row.question, row.answers[0], prediction.text)
        for row, prediction in pairs
    }

    def reading(_key: str, reply: str) -> Grades | None:
        return rules.grades(reply) or (None if strict else rules.lenient_grades(reply))

    temperatures = [rules.TEMPERATURE] * (1 if strict else _TRIES)
    return ask_until_read(judge, asked, reading, temperatures, max_tokens=rules.MAX_TOKENS, system=rules.SYSTEM)


def _verdict(key: str, grades: Grades | None, *, kept: bool) -> Verdict:
    if grades is None:
        return Verdict(key, _UNREAD[1] if kept else 0.0, "", False)
    return Verdict(key, grades[1], f"{grades[0]:g} {grades[1]:g}")


def _table(
    pairs: Sequence[tuple[Row, Prediction]], graded: dict[str, Grades], facts: Conditions, *, kept: bool
) -> list[Score]:
    """Relative score, then the model's and GPT-4's mean grade times ten: of all rows, then of each category."""
    scores = []
    parts = sorted({row.fields["category"] for row, _ in pairs})
    for category in ("", *parts):
        keys = [row.key for row, _ in pairs if category in ("", row.fields["category"])]
        grades = _values(keys, graded, kept=kept)
        unread = sum(key not in graded for key in keys)
        if not category and sum(gpt4 for gpt4, _ in grades) <= 0:
            raise error("E745", rows=len(pairs), judge=facts.judge)
        if grades:
            scores += _three(f"{category}: " if category else "", grades, unread, facts, kept=kept)
    return scores


def _three(prefix: str, grades: Sequence[Grades], unread: int, facts: Conditions, *, kept: bool) -> list[Score]:
    note = "" if not unread else "unread grades count as -1" if kept else "unread grades are left out"
    scores = []
    if sum(gpt4 for gpt4, _ in grades) > 0:
        scores.append(_relative(f"{prefix}Relative score", grades, unread, facts, note))
    else:
        note += "; too many of them for a relative score"
    for place, name in ((1, "VLM score"), (0, "GPT-4 score")):
        values = [pair[place] / 10 for pair in grades]
        low, high = intervals.bootstrap([(value, 1) for value in values], lambda drawn: drawn[:, 0] / drawn[:, 1])
        value = 100 * sum(values) / len(values)
        interval = (min(100 * low, value), max(100 * high, value))
        scores.append(
            facts.score(prefix + name, value, interval, rows=len(values), unmatched=unread, unit="points", note=note)
        )
    return scores


def _relative(name: str, grades: Sequence[Grades], unread: int, facts: Conditions, note: str) -> Score:
    """The ratio of the means, which is not the mean of the ratios."""
    gpt4, model = (sum(column) for column in zip(*grades, strict=True))
    low, high = intervals.bootstrap(grades, lambda drawn: drawn[:, 1] / drawn[:, 0])
    value = 100 * model / gpt4
    interval = (min(100 * low, value), max(100 * high, value))
    return facts.score(name, value, interval, rows=len(grades), unmatched=unread, note=note)


def _other(
    pairs: Sequence[tuple[Row, Prediction]], graded: dict[str, Grades], facts: Conditions, *, kept: bool
) -> list[Score]:
    """The headline under the other rule for unread grades, where that rule gives one."""
    grades = _values([row.key for row, _ in pairs], graded, kept=not kept)
    if sum(gpt4 for gpt4, _ in grades) <= 0:
        return []
    rule = "unread grades left out" if kept else "unread grades as -1"
    return [_relative(f"Relative score ({rule})", grades, len(pairs) - len(graded), facts, "for comparison")]


def _values(keys: Sequence[str], graded: dict[str, Grades], *, kept: bool) -> list[Grades]:
    return [graded.get(key, _UNREAD) for key in keys if kept or key in graded]


def _table_row(record: TsvRow) -> Row | BadRow:
    return _checked(row_of(record, answers=(record.cells["gpt4_ans"],)), record.line)


def _official_rows(path: Path, images: Path) -> Iterator[Row | BadRow]:
    beside = [path.with_name("context.jsonl"), path.with_name("answers_gpt4.jsonl")]
    for companion in beside:
        if not companion.exists():
            raise error("E742", path=path, companion=companion.name, folder=path.parent)
    captions = {
        str(record.value.get("image")): _joined(record.value.get("caption", "")) for record in read_records(beside[0])
    }
    answers = {
        str(record.value.get("question_id")): str(record.value.get("text", "")) for record in read_records(beside[1])
    }

    def make(record: Record) -> Row | BadRow:
        value = record.value
        if problem := lacking(record, "question_id", "image", "category", "text"):
            return problem
        key, image = str(value["question_id"]), str(value["image"])
        fields = {"caption": captions.get(image, ""), "category": str(value["category"])}
        row = Row(key, str(value["text"]), named_image(images / image), (answers.get(key, ""),), fields=fields)
        return _checked(row, place_of(record))

    return record_rows(read_records(path), make)


def _joined(caption: object) -> str:
    return "\n".join(map(str, caption)) if isinstance(caption, list) else str(caption)


def _checked(row: Row, line: int) -> Row | BadRow:
    if not row.answers[0] or not row.fields["caption"]:
        return bad_row(row.key, line, "E735", line=line, key=row.key)
    return row


BENCHMARKS = (
    LlavaBench(
        name="LLaVABench",
        file="LLaVABench.tsv",
        md5="d382a093f749a697820d3dadd61c8428",
        source=f"VLMEvalKit's data table: {HOST}/VLMEval/; LLaVA's questions.jsonl works as well",
        metric="relative score: mean grade over GPT-4's mean grade",
        citation="Liu et al., Visual Instruction Tuning, NeurIPS 2023, arXiv:2304.08485",
        judge="required",
    ),
)
