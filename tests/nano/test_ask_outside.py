"""Refusals: what is refused is really not there, and nothing that is there is refused."""

from __future__ import annotations

import random
import re

import pytest

from tests.nano.reading import colours_in, shapes_in, told_apart
from xverse_v.nano import phrases
from xverse_v.nano.ask import ask, refuse
from xverse_v.nano.ask_outside import NOUNS, TEST_NOUNS, WHOLE, outside
from xverse_v.nano.charts import Chart
from xverse_v.nano.concepts import Picture
from xverse_v.nano.detail import Board
from xverse_v.nano.questions import QA
from xverse_v.nano.rows import make_picture
from xverse_v.nano.world import Scene, split_seed

KINDS = ("scene", "written", "board", "chart")
CHART_WORDS = r"\b(bar|line|slice)s?\b|柱|折线|扇形"
TAG_WORDS = r"\btag\b|标签"
DIGIT_WORDS = r"\bdigits?\b|handwritten|手写|数字[0-9是]"


def pictures(kind: str, count: int = 40) -> list[Picture]:
    return [make_picture(kind, split_seed("check", index)) for index in range(count)]


def lacks(picture: Picture, text: str) -> bool:
    """Is what the words ask about missing from the picture?"""
    named = set(colours_in(text))
    if re.search(TAG_WORDS, text):
        return not isinstance(picture, Board) or not named & {tag.colour for tag in picture.tags}
    if re.search(CHART_WORDS, text):
        return not isinstance(picture, Chart) or not named & {item.colour for item in picture.items}
    shapes = set(shapes_in(text))
    assert shapes, text
    return not isinstance(picture, Scene) or not shapes & {thing.shape for thing in picture.things}


def noun_of(qa: QA) -> str | None:
    """The noun of a question about something outside the world; None for one about the whole."""
    nouns = [noun for noun in (*NOUNS[qa.language], *TEST_NOUNS[qa.language]) if noun in qa.question]
    return max(nouns, key=len) if nouns and qa.question not in WHOLE[qa.language] else None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("testing", [False, True])
def test_what_is_refused_is_not_in_the_picture(kind: str, testing: bool) -> None:
    tally: dict[tuple[str, str], int] = {}
    for index, picture in enumerate(pictures(kind)):
        for qa in refuse(random.Random(index), picture, 5, testing=testing):
            tally[qa.kind, qa.language] = tally.get((qa.kind, qa.language), 0) + 1
            assert told_apart(qa) and qa.answer == phrases.REFUSAL[qa.language]
            if qa.kind == "absent":
                assert lacks(picture, qa.question), (picture, qa)
            else:
                assert not colours_in(qa.question) and not shapes_in(qa.question)
                assert not re.search(f"{TAG_WORDS}|{CHART_WORDS}|{DIGIT_WORDS}", qa.question), qa
    assert len(tally) == 4 and min(tally.values()) >= 10


def test_nouns_of_the_tests_are_never_taught() -> None:
    for language in ("en", "zh"):
        assert not set(NOUNS[language]) & set(TEST_NOUNS[language])
        taught = {outside(random.Random(index), language).question for index in range(2000)}
        tested = [outside(random.Random(index), language, testing=True) for index in range(300)]
        words = {word for question in taught for word in re.findall(r"[a-z]+", question)}
        assert not words & set(TEST_NOUNS["en"])
        assert not [q for q in taught for noun in TEST_NOUNS["zh"] if noun in q and noun != "马" and language == "zh"]
        assert {noun_of(qa) for qa in tested} == {*TEST_NOUNS[language], None}


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_picture_shows_is_never_refused(kind: str) -> None:
    for index, picture in enumerate(pictures(kind, 60)):
        for qa in ask(random.Random(index), picture, 5):
            assert qa.answer not in phrases.REFUSAL.values() and qa.kind not in ("outside", "absent")
