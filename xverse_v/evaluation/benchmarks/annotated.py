"""Scoring against several annotators, shared by TextVQA and VizWiz: the soft accuracy in the profile's variant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..contract import Judge, Prediction, Profile, Row, Score, Verdict
from ..scoring.vqa import Variant, normalised, soft_accuracy, variant_of
from .described import Described
from .reading import scorable
from .scores import conditions

_RULE: dict[Variant, str] = {
    "official": "official VQA evaluation: normalised only where annotators disagree",
    "vlmevalkit": "VLMEvalKit: always normalised, periods beside digits stay",
    "vlmevalkit-2024-04": "VLMEvalKit of April 2024: always normalised, official period rule",
    "evalai": "EvalAI processor: always normalised",
}


@dataclass(kw_only=True)
class Annotated(Described):
    """A benchmark whose score is the mean soft accuracy."""

    def score(
        self, rows: Iterable[tuple[Row, Prediction]], profile: Profile, judge: Judge | None
    ) -> tuple[list[Verdict], list[Score]]:
        """No judge is asked."""
        pairs, skipped = scorable(rows, self.name)
        return soft_scores(pairs, skipped, profile, variant_of(profile))


def soft_scores(
    pairs: Sequence[tuple[Row, Prediction]], skipped: int, profile: Profile, variant: Variant
) -> tuple[list[Verdict], list[Score]]:
    """The mean over questions. `read` of a verdict is the answer as the variant normalises it."""
    verdicts = [
        Verdict(row.key, soft_accuracy(said.text, row.answers, variant), normalised(said.text, variant)[:80])
        for row, said in pairs
    ]
    values = [verdict.score for verdict in verdicts]
    return verdicts, [conditions(profile, None, skipped).mean("Overall", values, note=_RULE[variant])]
