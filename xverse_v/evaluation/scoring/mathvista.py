"""MathVista: the answer read from a response, and whether it is right, by VLMEvalKit's rules and by the authors'.

Sources: VLMEvalKit ``dataset/utils/mathvista.py`` (``post_check``, ``build_mathvista_gpt4_prompt``); the authors'
``evaluation/extract_answer.py`` and ``calculate_score.py``. The literals of the judge's prompt are the benchmark's own,
its misspelling and its missing line end included.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..contract import Profile
from .options import infer

JUDGE_TOKENS = 128

_EXAMPLES = (
    "\nHint: Please answer the question requiring an integer answer and provide the final value,\n"
    "e.g., 1, 2, 3, at the end.\n\n"
    "Question: Which number is missing?\n\n"
    "Model response: The number missing in the sequence is 14.\n\nExtracted answer: 14\n",
    "\nHint: Please answer the question requiring a floating-point number with one decimal place and provide the final "
    "value,\ne.g., 1.2, 1.3, 1.4, at the end.\n\n"
    "Question: What is the fraction of females facing the camera?\n\n"
    "Model response: The fraction of females facing the camera is 0.6,\n"
    "which means that six out of ten females in the group are facing the camera.\n\nExtracted answer: 0.6\n",
    "\nHint: Please answer the question requiring a floating-point number with two decimal places and provide the "
    "final value,\ne.g., 1.23, 1.34, 1.45, at the end.\n\n"
    "Question: How much money does Luca need to buy a sour apple candy and a butter-scotch candy? (Unit: $)\n\n"
    "Model response: Luca needs $1.45 to buy a sour apple candy and a butterscotch candy.\n\nExtracted answer: 1.45\n",
    "\nHint: Please answer the question requiring a Python list as an answer and provide the final list,\n"
    "e.g., [1, 2, 3], [1.2, 1.3, 1.4], at the end.\n\n"
    "Question: Between which two years does the line graph saw its maximum peak?\n\n"
    "Model response: The line graph saw its maximum peak between 2007 and 2008.\n\nExtracted answer: [2007, 2008]\n",
    "\nHint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n\n"
    "Question: What fraction of the shape is blue?\n\nChoices: (A) 3/11 (B) 8/11 (C) 6/11 (D) 3/5\n\n"
    "Model response: The correct answer is (B) 8/11.\n\nExtracted answer: B\n",
)
_DEMONSTRATION = (
    "\nPlease read the following example.\n"
    "Then extract the answer from the model response and type it at the end of the prompt.\n\n"
    + "".join(example + "\n" for example in _EXAMPLES)
)
_BRACKETED = re.compile(r"\(([a-zA-Z])\)")


@dataclass(frozen=True)
class Question:
    """What the rules know of a question. `gold`: the answer as text; `gold_letter`: its option in multiple choice.

    `kind`: integer, float, list or text. `places`: decimals of a float answer. `choices` is empty in free form.
    """

    query: str
    gold: str
    kind: str
    choices: tuple[str, ...] = ()
    gold_letter: str = ""
    places: int = 0

    @property
    def options(self) -> dict[str, str]:
        return {chr(ord("A") + place): choice for place, choice in enumerate(self.choices)}


def judge_prompt(question: Question, prediction: str, profile: Profile) -> str:
    """What a judge is asked in order to extract the answer from a response."""
    if profile == "official":
        return f"{_DEMONSTRATION.strip()}\n\n{question.query}\n\n{prediction}\n\nExtracted answer: "
    return f"{_DEMONSTRATION}{question.query}\nModel respone: {prediction}Extracted answer:"


def prefetched(prediction: str, question: Question, profile: Profile) -> str | None:
    """The answer where VLMEvalKit reads it without a judge.

    Multiple choice: any letter, right or wrong. Free form: only a number equal to the gold one, and never 0, which
    Python takes for nothing. Answers of another type are never read.
    """
    if question.choices:
        return infer(prediction, question.options, profile)
    number = _number(prediction, question.kind)
    return prediction if number and number == _number(question.gold, question.kind) else None


def is_right(extraction: str, question: Question, profile: Profile) -> bool:
    """VLMEvalKit's test: letters through `infer`, numbers equal after ``int`` or ``float``, nothing rounded.

    A question whose answer is a list can never be right: the source compares with a variable it never set.
    """
    if question.choices:
        return infer(extraction, question.options, profile) == question.gold_letter
    number = _number(extraction, question.kind)
    return number is not None and number == _number(question.gold, question.kind)


def official_extraction(prediction: str, question: Question) -> str | None:
    """The answer where the authors read it without a judge: nothing, a choice word for word, or a bare number."""
    if not prediction:
        return ""
    if prediction in question.choices:
        return prediction
    number = _number(prediction, question.kind)
    return None if number is None else str(number)


def official_normalised(extraction: str, question: Question) -> str | None:
    """An extraction in the form of the gold answer, ``None`` if it has none.

    Multiple choice never abstains: without a letter it becomes the choice at the smallest edit distance, the first of
    several. Floats are rounded to the question's decimals.
    """
    if question.choices:
        text = extraction.strip()
        if found := _BRACKETED.search(text):
            text = found[1].upper()
        return question.options.get(text) or min(question.choices, key=lambda choice: distance(text, choice))
    try:
        if question.kind == "integer":
            return str(int(float(extraction)))
        return str(round(float(extraction), question.places)) if question.kind == "float" else extraction
    except (ValueError, OverflowError):
        return None


def distance(first: str, second: str) -> int:
    """Levenshtein's: the fewest letters to insert, delete or replace."""
    above: Sequence[int] = range(len(second) + 1)
    for row, letter in enumerate(first, start=1):
        here = [row]
        for column, other in enumerate(second, start=1):
            here.append(min(above[column] + 1, here[-1] + 1, above[column - 1] + (letter != other)))
        above = here
    return above[-1]


def _number(text: str, kind: str) -> int | float | None:
    try:
        if kind == "integer":
            return int(text)
        return float(text) if kind == "float" else None
    except ValueError:
        return None
