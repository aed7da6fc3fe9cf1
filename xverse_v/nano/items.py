"""The questions that the built-in model is measured with: unseen seeds, unseen handwriting, nouns it was never taught.

What crosses: a row's name, a first number and a count -> `Item`s; the same numbers give the same items. Rows and what
they hold are `ROWS`. This file refuses to know about models; `evaluate` asks, `benchmarks` writes files.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from xverse_v.nano.ask import ask, ask_two, refuse
from xverse_v.nano.concepts import Picture
from xverse_v.nano.questions import QA
from xverse_v.nano.rows import make_picture
from xverse_v.nano.world import make_scene, split_seed

# Row -> what is asked of each picture. The two rows of small text ask the same questions.
ROWS = ("scenes", "small text", "charts", "handwritten digits", "follow-up", "two images", "refusals")
_KIND = {"small text": "board", "charts": "chart", "handwritten digits": "written"}
_ASKED: dict[str, dict[str, int] | None] = {
    "small text": {"tag_text": 4, "tag_only": 1},
    "handwritten digits": {"digit_at": 5, "digit_only": 4, "digit_where": 3, "digit_count": 1},
}
QUESTIONS = 5
REFUSED_KINDS = ("scene", "board", "chart", "written")


@dataclass(frozen=True)
class Item:
    """One question: its images, the turns before it (question, answer), the question and its true answer."""

    key: str
    row: str
    images: tuple[Image.Image, ...]
    history: tuple[tuple[str, str], ...]
    qa: QA


def _items_of(row: str, number: int) -> Iterator[tuple[tuple[Image.Image, ...], tuple[tuple[str, str], ...], QA]]:
    """Everything that is asked about picture `number` of a row."""
    seed = split_seed("test", ROWS.index(row) * 2**34 + number)
    rng = random.Random(seed + 1)
    if row == "two images":
        pair = (make_scene(seed, (224, 224)), make_scene(seed + 2**30, (224, 224)))
        images = tuple(scene.draw() for scene in pair)
        for qa in ask_two(rng, pair, QUESTIONS):
            yield images, (), qa
        return
    kind = _KIND.get(row, "scene")
    if row == "refusals":
        kind = REFUSED_KINDS[number % len(REFUSED_KINDS)]
    if row == "follow-up":
        kind = ("scene", "chart", "written", "scene")[number % 4]
    picture: Picture = make_picture(kind, seed)
    images = (picture.draw(),)
    if row == "refusals":
        for qa in refuse(rng, picture, QUESTIONS, testing=True):
            yield images, (), qa
    elif row == "follow-up":
        first, *others = ask(rng, picture, QUESTIONS)
        for qa in others:
            yield images, ((first.question, first.answer),), qa
    else:
        for qa in ask(rng, picture, QUESTIONS, _ASKED.get(row)):
            yield images, (), qa


def items(row: str, count: int, start: int = 0) -> Iterator[Item]:
    """`count` questions of a row, from picture `start` on; questions about one picture follow each other."""
    made, number = 0, start
    while made < count:
        for index, (images, history, qa) in enumerate(_items_of(row, number)):
            if made < count:
                made += 1
                yield Item(f"{row.replace(' ', '-')}-{number}-{index}", row, images, history, qa)
        number += 1
