"""The one place that knows which questions fit which picture.

What crosses: a picture (or two) and a seeded generator -> a list of `QA`s, or a caption. "caption" is asked for with
the words of `CAPTION`, which no other question uses.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from xverse_v.nano import ask_board, ask_chart, ask_outside, ask_pair, questions
from xverse_v.nano.charts import Chart
from xverse_v.nano.concepts import Picture
from xverse_v.nano.detail import Board
from xverse_v.nano.questions import QA
from xverse_v.nano.world import Scene

CAPTION = {"en": "Write a caption.", "zh": "写一段说明。"}
LANGUAGES = ("en", "zh")


def caption(picture: Picture, language: str) -> QA:
    """Everything that can be told about a picture."""
    if isinstance(picture, Board):
        text = ask_board.caption(language, picture)
    elif isinstance(picture, Chart):
        text = ask_chart.caption(language, picture)
    else:
        assert isinstance(picture, Scene)
        text = questions.caption(language, picture)
    return QA("caption", language, CAPTION[language], text)


def _own_question(rng: random.Random, picture: Picture, kinds: Mapping[str, int] | None, language: str) -> QA | None:
    weights = kinds or kinds_of(picture)
    kind = rng.choices(list(weights), list(weights.values()))[0]
    if isinstance(picture, Board):
        return ask_board.make_question(rng, picture, kind, language)
    if isinstance(picture, Chart):
        return ask_chart.make_question(rng, picture, kind, language)
    assert isinstance(picture, Scene)
    return questions.make_question(rng, picture, kind, language)


def kinds_of(picture: Picture) -> Mapping[str, int]:
    """Kinds of question and how often each is asked of such a picture."""
    if isinstance(picture, Board):
        return ask_board.KINDS
    if isinstance(picture, Chart):
        return ask_chart.KINDS
    assert isinstance(picture, Scene)
    return questions.WRITTEN_KINDS if picture.digits else questions.KINDS


def _different(rng: random.Random, count: int, make: Callable[[str], QA | None]) -> list[QA]:
    made: dict[str, QA] = {}
    for _ in range(count * 6):
        qa = make(rng.choice(LANGUAGES))
        if qa is not None:
            made.setdefault(qa.question, qa)
        if len(made) == count:
            break
    return list(made.values())


def ask(rng: random.Random, picture: Picture, count: int, kinds: Mapping[str, int] | None = None) -> list[QA]:
    """`count` different questions that the picture answers (fewer, where it does not allow so many)."""
    return _different(rng, count, lambda language: _own_question(rng, picture, kinds, language))


def ask_two(rng: random.Random, pair: tuple[Scene, Scene], count: int) -> list[QA]:
    """`count` different questions about two scenes."""

    def make(language: str) -> QA | None:
        kind = rng.choices(list(ask_pair.KINDS), list(ask_pair.KINDS.values()))[0]
        return ask_pair.make_question(rng, pair, kind, language)

    return _different(rng, count, make)


def refuse(rng: random.Random, picture: Picture, count: int, *, testing: bool = False) -> list[QA]:
    """`count` different questions that the picture does not answer."""

    def make(language: str) -> QA | None:
        if rng.random() < 0.5:
            return ask_outside.outside(rng, language, testing=testing)
        return ask_outside.absent(rng, picture, language)

    return _different(rng, count, make)
