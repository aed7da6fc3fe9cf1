"""Short answers against several annotators: the VQA normalisation and the soft accuracy, in three variants.

Sources: the official VQA evaluation (``vqaEval.py``, which the release runs for OKVQA), VLMEvalKit
``dataset/utils/vqa_eval.py``, and the EvalAI processor of LLaVA's ``m4c_evaluator.py``. The variants give different
numbers and are kept apart: they differ in when they normalise and in what a period next to a digit means.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from ..contract import Profile
from .contractions import CONTRACTIONS
from .harness import of_april_2024

Variant = Literal["official", "vlmevalkit", "vlmevalkit-2024-04", "evalai"]

ANNOTATORS = 10
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
# Written by its authors as (?!<=\d)(\.)(?!\d), whose first half, meant as a look-behind, never applies.
_PERIOD_OFFICIAL = re.compile(r"\.(?!\d)")
_PERIOD_TODAY = re.compile(r"(?<!\d)\.(?!\d)")
# The authors pass a flag where re.sub takes a count, and the flag's value is 32.
_PERIODS_REMOVED = 32
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS)} | {"none": "0"}
_ARTICLES = frozenset({"a", "an", "the"})


def variant_of(profile: Profile) -> Variant:
    """The variant of VLMEvalKit that a profile follows, for TextVQA and VizWiz; ``official`` takes EvalAI's."""
    if profile == "official":
        return "evalai"
    return "vlmevalkit-2024-04" if of_april_2024(profile) else "vlmevalkit"


def without_punctuation(text: str, variant: Variant) -> str:
    """Step ``processPunctuation``.

    A mark is deleted if it touches a space anywhere in `text`, or if `text` has a comma between digits; otherwise it
    becomes a space. Then periods go: officially those not followed by a digit, in today's VLMEvalKit only those that
    touch no digit, and never more than 32.
    """
    out = text
    number = _COMMA_IN_NUMBER.search(text) is not None
    for mark in _PUNCTUATION:
        deleted = number or mark + " " in text or " " + mark in text
        out = out.replace(mark, "" if deleted else " ")
    period = _PERIOD_TODAY if variant == "vlmevalkit" else _PERIOD_OFFICIAL
    return period.sub("", out, count=_PERIODS_REMOVED)


def with_digits(text: str) -> str:
    """Step ``processDigitArticle``: lower case, number words as digits, no articles, contractions written out."""
    words = [_NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def normalised(text: str, variant: Variant) -> str:
    """An answer as the variant compares it, where it normalises at all."""
    if variant == "evalai":
        text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return with_digits(without_punctuation(stripped(text), variant))


def stripped(text: str) -> str:
    """On one line, without surrounding space."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def soft_accuracy(prediction: str, answers: Sequence[str], variant: Variant) -> float:
    """How many annotators agree with `prediction`, 0..1: the mean over all ways to leave one of them out.

    For ten annotators of whom k agree: 0, 0.3, 0.6, 0.9, then 1. Annotators are told apart by position; the official
    code tells them by ``answer_id`` and counts wrongly where a converter dropped it. Raises ``ValueError`` for fewer
    than two answers: a single answer has nobody left to agree with, so its score would always be 0.
    """
    if len(answers) < 2:
        raise ValueError(f"the soft accuracy needs the answers of several annotators, not {len(answers)}")
    # The official code normalises only where annotators disagree; else case alone is forgiven.
    if variant == "official" and len(set(answers)) == 1:
        given, references = stripped(prediction).lower(), [stripped(answer).lower() for answer in answers]
    else:
        given = normalised(prediction, variant)
        references = [normalised(answer, variant) for answer in answers]
    agree = references.count(given)
    left_out_agrees = min(1.0, (agree - 1) / 3)
    left_out_differs = min(1.0, agree / 3)
    return (agree * left_out_agrees + (len(references) - agree) * left_out_differs) / len(references)
