"""The letter of a ScienceQA answer as LLaVA's evaluation reads it (profile ``official``).

Source: LLaVA ``llava/eval/eval_science_qa.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_LETTERS = ("A", "B", "C", "D", "E")
_ANSWER = re.compile(r"The answer is ([A-Z]).")


def read_letter(text: str, options: Mapping[str, str]) -> str | None:
    """The letter if it is the whole answer, or its start before ``". "``, or said once as "The answer is X".

    ``None`` where nothing was read, or a letter beyond the question's choices; both are wrong.
    """
    letter = ""
    if text in _LETTERS:
        letter = text
    elif len(text) >= 3 and text[0] in _LETTERS and text[1:3] == ". ":
        letter = text[0]
    elif len(found := _ANSWER.findall(text)) == 1:
        letter = found[0]
    return letter if letter in options else None
