"""MMMU: college questions with several images; its validation split is the card's row.

Prompt: the multiple-choice text of the whole row, cut at ``<image d>``, which may stand in options too. VLMEvalKit
scores open questions as a choice between the answer and "Other Answers", so that a bare article "A" is a hit and a
list of golds is practically never one; profile ``official`` reads answers as the authors do. The two differ by points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..contract import BadRow, Judge, Prediction, Profile, Prompt, Row, Score, Verdict
from ..scoring import mmmu
from ..tsv import TsvRow, bad_row
from . import prompts
from .choice import UNREAD_IS_WRONG, score_each
from .described import HOST, Described
from .reading import answer_problem, listed, row_of, scorable, table_rows
from .scores import Counted, by_split, conditions

VALIDATION = "validation"
DRAWN = "the authors' scorer: the option of an unread answer is drawn (seed 2680 and the row's key)"


@dataclass(kw_only=True)
class Mmmu(Described):
    """A TSV of MMMU. `hidden`: its answers are kept by the authors' server."""

    metric: str = "accuracy over the questions of the validation split"
    citation: str = "Yue et al., MMMU, CVPR 2024, arXiv:2311.16502"
    source: str = f"VLMEvalKit's data table: {HOST}/VLMEval/"
    hidden: bool = False

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]:
        def make(record: TsvRow) -> Row | BadRow:
            return _row(record, hidden=self.hidden)

        return table_rows(path, make, na=self.na(profile), image_root=image_root)

    def prompt(self, row: Row, profile: Profile) -> Prompt:
        return prompts.at_their_places(row, _text(row, profile))

    def score(
        self, rows: Iterable[tuple[Row, Prediction]], profile: Profile, judge: Judge | None
    ) -> tuple[list[Verdict], list[Score]]:
        pairs, skipped = scorable(rows, self.name)
        if profile == "official":
            return _score_officially(pairs, skipped)
        choices = [(_as_choice(row), prediction) for row, prediction in pairs]
        note = "" if judge else f"open questions as a choice of two; {UNREAD_IS_WRONG}"
        return score_each(choices, skipped, profile, judge, preferred=VALIDATION, note=note)


def _text(row: Row, profile: Profile) -> str:
    if profile != "official":
        return prompts.choice_text(row)
    if row.options:
        return f"{row.question}\n{prompts.letters_and_options(row)}{prompts.LETTER_ANSWER}"
    return row.question + prompts.SHORT_ANSWER


def _row(record: TsvRow, *, hidden: bool) -> Row | BadRow:
    row = row_of(record)
    answer = row.fields.get("answer", "")
    if answer or not hidden:
        row = replace(row, answers=(answer,))
        # Only an open question may have an answer that is no letter.
        problem = answer_problem(row, record.line, lost=record.na_columns if row.options else (answer or "-",))
        if problem:
            return problem
    text = prompts.choice_text(row)
    if beyond := prompts.places_beyond(row, text):
        facts = {"line": record.line, "key": row.key, "place": beyond[0], "images": len(row.images)}
        return bad_row(row.key, record.line, "E740", **facts)
    return row


def _as_choice(row: Row) -> Row:
    gold, options = mmmu.as_choice(row.answers[0], row.options)
    return replace(row, answers=(gold,), options=options)


def _score_officially(pairs: Sequence[tuple[Row, Prediction]], skipped: int) -> tuple[list[Verdict], list[Score]]:
    verdicts = [_official_verdict(row, prediction.text) for row, prediction in pairs]
    counted = [
        Counted.of(row, verdict.score, int(not verdict.matched))
        for (row, _), verdict in zip(pairs, verdicts, strict=True)
    ]
    # The authors' scorer knows no judge, so none is named even where one was given.
    return verdicts, by_split(counted, conditions("official", None, skipped), preferred=VALIDATION, note=DRAWN)


def _official_verdict(row: Row, text: str) -> Verdict:
    if not row.options:
        return Verdict(row.key, float(mmmu.open_is_right(text, listed(row.answers[0]))), text[:80])
    letter = mmmu.read_letter(text, row.options)
    read = letter or mmmu.drawn_letter(row.key, row.options)
    return Verdict(row.key, float(read == row.answers[0]), read, letter is not None)


BENCHMARKS = (
    Mmmu(name="MMMU_DEV_VAL", file="MMMU_DEV_VAL.tsv", md5="585e8ad75e73f75dcad265dfd0417d64", judge="optional"),
    Mmmu(name="MMMU_TEST", file="MMMU_TEST.tsv", md5="c19875d11a2d348d07e5eb4bdf33166d", judge="optional", hidden=True),
)
