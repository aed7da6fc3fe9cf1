"""Yes or no in an answer, and HallusionBench's three accuracies.

Source: VLMEvalKit ``dataset/utils/yorn.py`` (``YOrN_Extraction``, ``Hallusion_rating`` and the judge's prompt).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from .vqa import Variant, without_punctuation

UNKNOWN = "Unknown"

_JUDGE = (
    "You are an AI assistant who will help me to match an answer with two options of a question. "
    "The options are only Yes / No. "
    "You are provided with a question and an answer, "
    "and you need to find which option (Yes / No) is most similar to the answer. "
    "If the meaning of all options are significantly different from the answer, output Unknown. "
    "Your should output a single word among the following 3 choices: Yes, No, Unknown.\n"
    "Example 1: \n"
    "Question: Is the word in this image 'Hello'?\nAnswer: The word in this image is 'Hello'.\nYour output: Yes\n"
    "Example 2: \n"
    "Question: Is the word in this image 'Hello'?\n"
    "Answer: The word in this image is not 'Hello'.\nYour output: No\n"
    "Example 3: \n"
    "Question: {}?\nAnswer: {}\nYour output: "
)


def extract(text: str, variant: Variant) -> str:
    """``"Yes"`` or ``"No"`` if exactly one of the two is a word of the lower-cased answer, else ``"Unknown"``.

    Colons, asterisks and Chinese marks stick to their word, so ``yes:`` is unknown.
    """
    words = without_punctuation(text.lower(), variant).split()
    if ("yes" in words) == ("no" in words):
        return UNKNOWN
    return "Yes" if "yes" in words else "No"


def judge_prompt(question: str, prediction: str) -> str:
    """What a judge is asked about an unknown answer."""
    return _JUDGE.format(question, prediction)


@dataclass(frozen=True)
class Answered:
    """One scored question of HallusionBench: its place (`index` pieces 3, 4 and 5) and whether it is right."""

    subcategory: str
    set_id: str
    figure_id: str
    question_id: str
    right: bool

    @property
    def figure(self) -> Hashable:
        return self.subcategory, self.set_id, self.figure_id

    @property
    def pair(self) -> Hashable:
        return self.subcategory, self.set_id, self.question_id


def accuracies(rows: Iterable[Answered]) -> tuple[list[bool], list[bool], list[bool]]:
    """Right or wrong a question, a figure, and a question pair: the parts of aAcc, fAcc and qAcc.

    A figure is right if all its questions are, a pair if the question is right on all figures of its set. The category
    is not part of either key, as in the source: equal subcategory names of two categories share their groups.
    """
    singles: list[bool] = []
    figures: dict[Hashable, bool] = {}
    pairs: dict[Hashable, bool] = {}
    for row in rows:
        singles.append(row.right)
        figures[row.figure] = figures.get(row.figure, True) and row.right
        pairs[row.pair] = pairs.get(row.pair, True) and row.right
    return singles, list(figures.values()), list(pairs.values())
