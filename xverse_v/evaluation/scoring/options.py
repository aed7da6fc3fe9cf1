"""The letter an answer means: the exact matching of multiple-choice benchmarks.

Source: VLMEvalKit ``vlmeval/utils/matching_util.py`` (``can_infer``, ``can_infer_option``, ``can_infer_text``), in its
form of today and of April 2024. Knows nothing of judges or rows; a letter is a string, ``None`` means that no rule
found one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..contract import Profile
from .harness import of_april_2024

REFUSED = "Z"
"""What an answer that refuses reads as; it is never an option, so it is always wrong."""

FAILED = "Failed to obtain answer via API"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_SEPARATORS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
# No word boundary after the letter, any case, and only A to D: "The answer is a dog" reads as A. This is the rule.
_ANSWER_IS = re.compile(r"(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**")
_LAST_TOKENS = 5


def infer(answer: str, options: Mapping[str, str], profile: Profile, *, verbose: bool = False) -> str | None:
    """The option letter that `answer` names or whose text it contains, ``"Z"`` for a refusal, else ``None``.

    `options` maps each letter to its text. `verbose` switches on the branch that VLMEvalKit takes when its environment
    variable VERBOSE is set to anything.
    """
    return infer_letter(answer, options, profile, verbose=verbose) or infer_text(answer, options, profile)


def infer_letter(answer: str, options: Mapping[str, str], profile: Profile, *, verbose: bool = False) -> str | None:
    """Rule ``can_infer_option``: exactly one option letter stands in the answer as a token of its own.

    Quotes, hyphens, slashes and Chinese punctuation do not separate tokens. Today's rule wants the letter among the
    last four tokens and also reads "answer is X"; that of April 2024 takes it anywhere.
    """
    if FAILED in answer:
        return None
    if any(refusal in answer for refusal in _REFUSALS):
        return REFUSED
    tokens = answer.translate(_SEPARATORS).split()
    named = [letter for letter in options if letter in tokens]
    if len(named) == 1:
        if verbose and "A" in tokens and len(tokens) > 3:
            return None
        if of_april_2024(profile) or tokens.index(named[0]) > len(tokens) - _LAST_TOKENS:
            return named[0]
    elif not named and REFUSED in tokens:
        return REFUSED
    if not of_april_2024(profile) and (found := _ANSWER_IS.search(answer)) and found[1].upper() in options:
        return found[1].upper()
    return None


def infer_text(answer: str, options: Mapping[str, str], profile: Profile) -> str | None:
    """Rule ``can_infer_text``: the text of exactly one option stands in the answer, whatever the case.

    Today's rule reads no answer longer than twice all option texts together.
    """
    if not of_april_2024(profile) and len(answer) > 2 * sum(map(len, options.values())):
        return None
    lowered = answer.lower()
    found = [letter for letter, text in options.items() if text.lower() in lowered]
    return found[0] if len(found) == 1 else None
