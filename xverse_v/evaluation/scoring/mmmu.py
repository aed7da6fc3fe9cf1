"""MMMU as its authors score it: a letter or a short text read from a long answer.

Source: the authors' ``eval_utils.py`` (the same code stands in lmms-eval ``tasks/mmmu/utils.py``). VLMEvalKit scores
MMMU as plain multiple choice instead, which gives other numbers; that way needs nothing from here but `as_choice`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence

SEED = 2680
OTHER = "Other Answers"
"""VLMEvalKit's second option of an open question."""

_KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_TRIVIAL = frozenset(":,.!?;'")
_WITH_COMMAS = re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b")
_SCIENTIFIC = re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+")
_SIMPLE = re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])")


def as_choice(answer: str, options: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """VLMEvalKit's ``MMMU_preproc``: gold letter and options, an open question becoming a choice of two.

    Without an option A, A is the answer's text and B "Other Answers". An answer that is not one capital letter is A.
    """
    choices = dict(options)
    if "A" not in options:
        choices = {"A": answer, "B": OTHER} | {letter: text for letter, text in options.items() if letter > "B"}
    return (answer if len(answer) == 1 and "A" <= answer <= "Z" else "A"), choices


def read_letter(response: str, options: Mapping[str, str]) -> str | None:
    """The option of an answer, ``None`` where nothing was found.

    In this order: ``(X)``; a letter before a space, without a boundary in front, so that "HA " counts for A; ``X.``;
    and in answers of more than five words the option texts. Of several the one that occurs last.
    """
    for mark in ",.!?;:'":
        response = response.strip(mark)
    response = f" {response} "
    for form, place in (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")):
        named = [letter for letter in options if form.format(letter) in response]
        if named:
            # max keeps the first of equals, as the source's argmax does.
            return max(named, key=lambda letter: response.rfind(place.format(letter)))
    if len(response.split()) <= 5:
        return None
    lowered = response.lower()
    said = [letter for letter, text in options.items() if text.lower() in lowered]
    return max(said, key=lambda letter: lowered.rfind(options[letter].lower())) if said else None


def drawn_letter(key: str, options: Mapping[str, str]) -> str:
    """The random option of an unread answer. The authors draw it too; here the seed and the row's key decide it."""
    return random.Random(f"{SEED}:{key}").choice(list(options))


def open_is_right(response: str, golds: Sequence[str]) -> bool:
    """An open answer is right if a gold text stands in one of its key phrases, or a number of it equals a gold one."""
    expected = [form for gold in golds for form in _forms(gold)]
    texts = [form for form in expected if isinstance(form, str)]
    for said in _said(response):
        if said in expected if isinstance(said, float) else any(text in said for text in texts):
            return True
    return False


def _said(response: str) -> list[str | float]:
    phrases = _key_phrases(response)
    numbers = [number for phrase in phrases for number in _numbers(phrase)]
    return [form for text in [*phrases, *numbers] for form in _forms(text)]


def _key_phrases(response: str) -> list[str]:
    """What follows a word such as "is" or "answer" on each line, else the whole response."""
    whole = response.strip().rstrip(".").lower()
    lines = whole.split("\n")
    found = []
    for place, line in enumerate(lines):
        keys = (*_KEYS, "=") if place == len(lines) - 1 else _KEYS
        tails = [line.split(key)[-1].strip() for key in keys if key in line]
        # An empty tail is replaced by any later one, as in the source.
        shortest = ""
        for tail in tails:
            if not shortest or len(tail) < len(shortest):
                shortest = tail
        if shortest and shortest not in _TRIVIAL:
            found.append(shortest)
    return found or [whole]


def _numbers(text: str) -> Iterable[str]:
    return [*_WITH_COMMAS.findall(text), *_SCIENTIFIC.findall(text), *_SIMPLE.findall(text)]


def _forms(text: str) -> list[str | float]:
    """A number as a float of two decimals; a text in lower case; one letter with a space on either side."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        lowered = text.lower()
        return [f" {lowered}", f"{lowered} "] if len(lowered) == 1 else [lowered]
