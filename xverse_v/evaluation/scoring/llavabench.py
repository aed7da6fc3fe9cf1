"""LLaVABench: a judge compares the answer with GPT-4's, and the score is the ratio of the mean grades.

Source: VLMEvalKit ``dataset/utils/llavabench.py`` (prompt and rule as in LLaVA's ``eval_gpt_review_bench.py``).
"""

from __future__ import annotations

import re
from math import isfinite

SYSTEM = "You are a helpful and precise assistant for checking the quality of the answer."
TEMPERATURE = 0.2
MAX_TOKENS = 2048

_RULE = (
    "We would like to request your feedback on the performance of two AI assistants in response to the user question "
    "displayed above. The user asks the question on observing an image. For your reference, the visual content in the "
    "image is represented with a few sentences describing the image. \n"
    "Please rate the helpfulness, relevance, accuracy, level of details of their responses. Each assistant receives an "
    "overall score on a scale of 1 to 10, where a higher score indicates better overall performance.\n"
    "Please first output a single line containing only two values indicating the scores for Assistant 1 and 2, "
    "respectively. The two scores are separated by a space.\n"
    "In the subsequent line, please provide a comprehensive explanation of your evaluation, avoiding any potential "
    "bias and ensuring that the order in which the responses were presented does not affect your judgment.\n\n"
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def judge_prompt(caption: str, question: str, gpt4_answer: str, prediction: str) -> str:
    """What the judge is asked: GPT-4's answer stands first, the model's second, never swapped."""
    return (
        f"[Context]\n{caption}\n\n"
        f"[Question]\n{question}\n\n"
        f"[Assistant 1]\n{gpt4_answer}\n\n[End of Assistant 1]\n\n"
        f"[Assistant 2]\n{prediction}\n\n[End of Assistant 2]\n\n"
        f"[System]\n{_RULE}"
    )


def grades(reply: str) -> tuple[float, float] | None:
    """The two grades of the reply's first line, GPT-4's first, or ``None`` if it does not hold exactly two.

    Commas become spaces and the line is split at single spaces, so ``8, 7`` makes three pieces and fails. This is the
    source's rule; `lenient_grades` reads such a line.
    """
    pieces = reply.split("\n")[0].replace(",", " ").split(" ")
    if len(pieces) != 2:
        return None
    try:
        first, second = float(pieces[0]), float(pieces[1])
    except ValueError:
        return None
    return (first, second) if isfinite(first) and isfinite(second) else None


def lenient_grades(reply: str) -> tuple[float, float] | None:
    """The two numbers of the reply's first line, whatever separates them, or ``None``."""
    found = _NUMBER.findall(reply.strip().split("\n")[0])
    return (float(found[0]), float(found[1])) if len(found) == 2 else None
