"""MathVista mini-test: mathematics in images, answered with a letter, a number, a list or a word.

The question of VLMEvalKit's TSV is the authors' whole query (hint, question, choices) and is asked as it is; from
``testmini.json`` the member ``query`` is taken, or put together where a copy lacks it. Scoring needs a judge that
extracts the answer; without one the share of answers that were readable as they stand is given under its own name.
Traps: VLMEvalKit never counts a list answer as right and sends a right "0" to the judge; nothing is rounded there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contract import BadRow, Judge, Prediction, Profile, Prompt, Row, Score, Verdict
from ..official import Record, read_records
from ..scoring import mathvista as rules
from ..tsv import TsvRow, bad_row
from . import prompts
from .described import HOST, Described, folder_of, is_json
from .judging import ask_until_read
from .reading import LETTERS, lacking, listed, named_image, place_of, record_rows, row_of, scorable, table_rows, texts
from .scores import Conditions, conditions

PREFETCH_ONLY = "Prefetch only (no judge: not MathVista's accuracy)"
_HINT = "Hint: Please answer the question "
_LETTER_HINT = _HINT + "and provide the correct option letter, e.g., A, B, C, D, at the end."
_HINTS = {
    ("integer", 0): _HINT + "requiring an integer answer and provide the final value, e.g., 1, 2, 3, at the end.",
    ("float", 1): _HINT + "requiring a floating-point number with one decimal place and provide the final value, "
    "e.g., 1.2, 1.3, 1.4, at the end.",
    ("float", 2): _HINT + "requiring a floating-point number with two decimal places and provide the final value, "
    "e.g., 1.23, 1.34, 1.45, at the end.",
    ("list", 0): _HINT + "requiring a Python list as an answer and provide the final list, "
    "e.g., [1, 2, 3], [1.2, 1.3, 1.4], at the end.",
}


@dataclass(kw_only=True)
class MathVista(Described):
    """The mini-test, as TSV or as the authors' JSON beside their folder ``images``."""

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]:
        if is_json(path):
            images = folder_of(path, image_root)
            return record_rows(read_records(path), lambda record: _official_row(record, images))
        needs = ("question", "answer", "question_type", "answer_type")
        return table_rows(path, _table_row, na=self.na(profile), image_root=image_root, needs=needs)

    def prompt(self, row: Row, profile: Profile) -> Prompt:
        return prompts.images_then(row, row.question)

    def score(
        self, rows: Iterable[tuple[Row, Prediction]], profile: Profile, judge: Judge | None
    ) -> tuple[list[Verdict], list[Score]]:
        """Accuracy with a judge; without one the prefetch-only share, which is no accuracy and says so."""
        pairs, skipped = scorable(rows, self.name)
        questions = {row.key: question_of(row) for row, _ in pairs}
        read = _prefetch(pairs, questions, profile)
        at_once = {key for key, text in read.items() if text is not None}
        if judge:
            read |= _judged(pairs, questions, read, profile, judge)
        verdicts = [_verdict(row.key, read[row.key], questions[row.key], profile) for row, _ in pairs]
        facts = conditions(profile, judge, skipped)
        return verdicts, _scores(pairs, verdicts, at_once, facts, judged=judge is not None)


def question_of(row: Row) -> rules.Question:
    """What the rules need of a row. Decimals come from ``precision``, else from the gold answer itself."""
    fields, gold = row.fields, row.answers[0]
    try:
        places = int(float(fields.get("precision", "")))
    except ValueError:
        places = len(gold.partition(".")[2])
    letter = fields.get("answer_option", "")
    return rules.Question(
        row.question, gold, fields.get("answer_type", "text"), tuple(row.options.values()), letter, places
    )


def _prefetch(
    pairs: Sequence[tuple[Row, Prediction]], questions: dict[str, rules.Question], profile: Profile
) -> dict[str, str | None]:
    if profile == "official":
        return {row.key: rules.official_extraction(said.text, questions[row.key]) for row, said in pairs}
    return {row.key: rules.prefetched(said.text, questions[row.key], profile) for row, said in pairs}


def _judged(
    pairs: Sequence[tuple[Row, Prediction]],
    questions: dict[str, rules.Question],
    read: dict[str, str | None],
    profile: Profile,
    judge: Judge,
) -> dict[str, str]:
    """The judge's extraction of each open answer: its first reply as it is, for the source checks nothing."""
    asked = {
        row.key: rules.judge_prompt(questions[row.key], said.text, profile)
        for row, said in pairs
        if read[row.key] is None
    }
    return ask_until_read(judge, asked, lambda key, reply: reply, [0.0], max_tokens=rules.JUDGE_TOKENS)


def _verdict(key: str, extraction: str | None, question: rules.Question, profile: Profile) -> Verdict:
    if extraction is None:
        return Verdict(key, 0.0, "", False)
    if profile == "official":
        normalised = rules.official_normalised(extraction, question)
        return Verdict(key, float(normalised == question.gold), normalised or "")
    return Verdict(key, float(rules.is_right(extraction, question, profile)), extraction[:80])


def _scores(
    pairs: Sequence[tuple[Row, Prediction]],
    verdicts: Sequence[Verdict],
    at_once: set[str],
    facts: Conditions,
    *,
    judged: bool,
) -> list[Score]:
    """Overall, then each task and each skill, which overlap; last how many answers needed no judge."""
    parts: dict[str, list[Verdict]] = {"Overall" if judged else PREFETCH_ONLY: list(verdicts)}
    for name, of in (("task", lambda row: [row.fields.get("task", "")]), ("skill", _skills)):
        found: dict[str, list[Verdict]] = {}
        for (row, _), verdict in zip(pairs, verdicts, strict=True):
            for value in filter(None, of(row)):
                found.setdefault(f"{name}: {value}", []).append(verdict)
        parts |= dict(sorted(found.items())) if judged else {}
    scores = []
    for name, mine in parts.items():
        unread = sum(not verdict.matched for verdict in mine)
        scores.append(facts.mean(name, [verdict.score for verdict in mine], unmatched=unread))
    return [*scores, facts.mean("Prefetch rate", [float(verdict.key in at_once) for verdict in verdicts])]


def _skills(row: Row) -> list[str]:
    return list(listed(row.fields.get("skills", "")))


def _table_row(record: TsvRow) -> Row | BadRow:
    row = row_of(record)
    fields = row.fields
    choices = listed(fields.get("choices", "")) if fields["question_type"] == "multi_choice" else ()
    options = dict(zip(LETTERS, choices, strict=False))
    return _checked(
        Row(row.key, row.question, row.images, (fields.get("answer", ""),), options, fields=fields), record.line
    )


def _official_row(record: Record, images: Path) -> Row | BadRow:
    value = record.value
    if problem := lacking(record, "question", "image", "answer", "question_type", "answer_type"):
        return problem
    metadata = value.get("metadata") or {}
    choices = [str(choice) for choice in value.get("choices") or ()] if value["question_type"] == "multi_choice" else []
    fields = texts(value, "question_type", "answer_type", "precision", "unit")
    fields |= texts(metadata, "task", "skills", "category", "context", "grade", "source", "split")
    answer = str(value["answer"])
    if answer in choices:
        fields["answer_option"] = LETTERS[choices.index(answer)]
    key = str(value.get("pid") or record.key or record.place)
    query = str(value.get("query") or query_of(value, choices))
    image = named_image(images / str(value["image"]))
    row = Row(key, query, image, (answer,), dict(zip(LETTERS, choices, strict=False)), fields=fields)
    return _checked(row, place_of(record))


def query_of(value: dict[str, Any], choices: Sequence[str]) -> str:
    """The authors' query, hint first, for a record that came without it."""
    places = int(float(value.get("precision") or 0))
    hint = _LETTER_HINT if choices else _HINTS.get((str(value["answer_type"]), places), "")
    unit = f" (Unit: {value['unit']})" if value.get("unit") else ""
    lines = [hint] if hint else []
    lines.append(f"Question: {value['question']}{unit}")
    if choices:
        lines += ["Choices:", *(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))]
    return "\n".join(lines)


def _checked(row: Row, line: int) -> Row | BadRow:
    """The row if it has an answer, and in multiple choice an option that is the answer."""
    letter = row.fields.get("answer_option", "")
    if not row.answers[0] and letter not in row.options:
        return bad_row(row.key, line, "E735", line=line, key=row.key)
    if row.fields.get("question_type") == "multi_choice" and letter not in row.options:
        shown = ", ".join(row.options) or "-"
        return bad_row(row.key, line, "E736", line=line, key=row.key, answer=letter or row.answers[0], letters=shown)
    return row


BENCHMARKS = (
    MathVista(
        name="MathVista_MINI",
        file="MathVista_MINI.tsv",
        md5="f199b98e178e5a2a20e7048f5dcb0464",
        source=f"VLMEvalKit's data table: {HOST}/VLMEval/; the authors' testmini.json works as well",
        metric="accuracy of extracted answers",
        citation="Lu et al., MathVista, ICLR 2024, arXiv:2310.02255",
        judge="required",
    ),
)
