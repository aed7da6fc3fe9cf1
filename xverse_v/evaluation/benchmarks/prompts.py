"""The prompts of VLMEvalKit, byte for byte.

Sources: VLMEvalKit ``image_mcq.py``, ``image_base.py`` and ``image_vqa.py`` (``build_prompt``), ``image_mcq.py``
(``split_MMMU``). What becomes of several images is the model's business.
"""

from __future__ import annotations

import re

from ..contract import Prompt, Row

LONGEST_ANSWER = 512
"""New tokens that VLMEvalKit lets the released model write."""
RELEASE_LONGEST_ANSWER = 16
"""New tokens of the release's own OKVQA and GQA scripts."""
SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
SHORT_ANSWER_2024 = "\nPlease try to answer the question with short words or phrases if possible\n."
LETTER_ANSWER = "\nAnswer with the option's letter from the given choices directly."

_PLACE = re.compile(r"<image (\d)>")


def choice_text(row: Row) -> str:
    """The multiple-choice prompt: hint if there is one, question, options under their own letters, closing line."""
    hint = row.fields.get("hint", "")
    text = (f"Hint: {hint}\n" if hint else "") + f"Question: {row.question}\n"
    if row.options:
        text += "Options:\n" + "".join(f"{letter}. {option}\n" for letter, option in row.options.items())
        text += "Please select the correct answer from the options above. \n"
    return text


def letters_and_options(row: Row) -> str:
    """The options as lines ``A. text``, for the prompts that end in `LETTER_ANSWER`."""
    return "".join(f"{letter}. {option}\n" for letter, option in row.options.items())


def images_then(row: Row, text: str, max_new_tokens: int = LONGEST_ANSWER) -> Prompt:
    """All images of a row, then one text."""
    return Prompt((*row.images, text), max_new_tokens=max_new_tokens)


def at_their_places(row: Row, text: str) -> Prompt:
    """Rule ``split_MMMU``: every ``<image d>`` of the text becomes image d; without any, all images stand first."""
    pieces = _PLACE.split(text)
    if len(pieces) == 1:
        return images_then(row, text)
    return Prompt(tuple(row.images[int(piece) - 1] if odd % 2 else piece for odd, piece in enumerate(pieces)))


def places_beyond(row: Row, text: str) -> list[str]:
    """The ``<image d>`` of a text that name no image of the row."""
    return [f"<image {digit}>" for digit in _PLACE.findall(text) if not 1 <= int(digit) <= len(row.images)]
