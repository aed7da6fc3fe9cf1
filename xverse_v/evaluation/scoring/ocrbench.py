"""OCRBench's points: a gold text that stands in the answer.

Sources: VLMEvalKit ``image_vqa.py`` class ``OCRBench``; the official ``OCRBench/example.py`` (the same rules).
"""

from __future__ import annotations

from collections.abc import Sequence

FORMULAS = "Handwritten Mathematical Expression Recognition"
RECOGNITION = "Text Recognition"

CATEGORIES: dict[str, str] = {
    "Regular Text Recognition": RECOGNITION,
    "Irregular Text Recognition": RECOGNITION,
    "Artistic Text Recognition": RECOGNITION,
    "Handwriting Recognition": RECOGNITION,
    "Digit String Recognition": RECOGNITION,
    "Non-Semantic Text Recognition": RECOGNITION,
    "Scene Text-centric VQA": "Scene Text-centric VQA",
    "Doc-oriented VQA": "Doc-oriented VQA",
    "Key Information Extraction": "Key Information Extraction",
    FORMULAS: FORMULAS,
}
"""Category of a question, an exact key -> group it is reported in."""

QUESTIONS: dict[str, int] = {
    RECOGNITION: 300,
    "Scene Text-centric VQA": 200,
    "Doc-oriented VQA": 200,
    "Key Information Extraction": 200,
    FORMULAS: 100,
}
"""Group -> its questions, one point each, in the complete benchmark."""


def point(prediction: str, golds: Sequence[str], category: str) -> bool:
    """True if any gold text is part of the prediction.

    Both are stripped and put on one line; then formulas lose all spaces and keep their case, everything else is
    lower-cased. An empty gold stands in every answer, so the caller refuses it.
    """
    return any(_folded(gold, category) in _folded(prediction, category) for gold in golds)


def _folded(text: str, category: str) -> str:
    if category == FORMULAS:
        return text.strip().replace("\n", " ").replace(" ", "")
    return text.lower().strip().replace("\n", " ")
