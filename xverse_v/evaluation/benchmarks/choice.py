"""Multiple choice by VLMEvalKit's rules: read every answer, ask a judge about the rest, count by category.

The plain benchmarks of this kind (`ChoiceBenchmark`: a TSV, one prompt, every row on its own) differ in their facts
alone; the others use the same functions with rules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..contract import BadRow, Judge, Prediction, Profile, Prompt, Row, Score, Verdict
from ..scoring.choice import JUDGE_TOKENS, JUDGE_TRIES, drawn_letter, judge_prompt
from ..scoring.options import infer
from . import prompts
from .described import Described
from .judging import ask_until_read
from .reading import choice_row, scorable, table_rows
from .scores import Counted, by_split, conditions

UNREAD_IS_WRONG = "exact matching: unread answers are wrong"


@dataclass(frozen=True)
class Reading:
    """The letter an answer was read as, "" where none was. `matched`: False where no rule and no judge read one."""

    letter: str
    matched: bool


def read_with_judge(pairs: Sequence[tuple[Row, Prediction]], profile: Profile, judge: Judge) -> dict[str, Reading]:
    """The letters of answers that exact matching could not read: up to three tries, then one is drawn."""
    rows = {row.key: row for row, _ in pairs}
    asked = {row.key: judge_prompt(row.question, row.options, prediction.text) for row, prediction in pairs}
    found = ask_until_read(
        judge,
        asked,
        lambda key, reply: infer(reply, rows[key].options, profile),
        [0.0] * JUDGE_TRIES,
        max_tokens=JUDGE_TOKENS,
    )
    return {
        key: Reading(found[key], True) if key in found else Reading(drawn_letter(key, row.options), False)
        for key, row in rows.items()
    }


def readings(pairs: Sequence[tuple[Row, Prediction]], profile: Profile, judge: Judge | None) -> dict[str, Reading]:
    """The letter of every answer, by row key."""
    found = {row.key: infer(prediction.text, row.options, profile) for row, prediction in pairs}
    judged: dict[str, Reading] = {}
    if judge and (left := [pair for pair in pairs if found[pair[0].key] is None]):
        judged = read_with_judge(left, profile, judge)
    return {key: judged.get(key) or Reading(letter or "", letter is not None) for key, letter in found.items()}


def score_each(
    pairs: Sequence[tuple[Row, Prediction]],
    skipped: int,
    profile: Profile,
    judge: Judge | None,
    *,
    read: Callable[[Sequence[tuple[Row, Prediction]], Profile, Judge | None], dict[str, Reading]] = readings,
    preferred: str = "",
    note: str = UNREAD_IS_WRONG,
) -> tuple[list[Verdict], list[Score]]:
    """Every row on its own (``mcq_vanilla_eval``): right if the letter read is the answer."""
    found = read(pairs, profile, judge)
    verdicts, counted = [], []
    for row, _ in pairs:
        reading = found[row.key]
        right = float(reading.letter == row.answers[0])
        verdicts.append(Verdict(row.key, right, reading.letter, reading.matched))
        counted.append(Counted.of(row, right, int(not reading.matched)))
    facts = conditions(profile, judge, skipped)
    return verdicts, by_split(counted, facts, preferred=preferred, note="" if judge else note)


@dataclass(kw_only=True)
class ChoiceBenchmark(Described):
    """A TSV of multiple-choice questions, each asked and scored on its own."""

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]:
        return table_rows(path, choice_row, na=self.na(profile), image_root=image_root)

    def prompt(self, row: Row, profile: Profile) -> Prompt:
        return prompts.images_then(row, prompts.choice_text(row))

    def score(
        self, rows: Iterable[tuple[Row, Prediction]], profile: Profile, judge: Judge | None
    ) -> tuple[list[Verdict], list[Score]]:
        pairs, skipped = scorable(rows, self.name)
        return score_each(pairs, skipped, profile, judge)
