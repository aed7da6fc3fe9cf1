"""Rows of questions for the decoder's first school: pictures written out as meanings, without a pixel.

What crosses: a split's name and a number -> `WordRow`: a token tree, the meanings that stand at its placeholder tokens,
and what was asked. The mix of pictures and questions is decided here. Patches that mean nothing are left out of the row
but for a share `keep`; those that stay keep their positions. This file refuses to know about networks.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from xverse_v.nano import phrases
from xverse_v.nano.ask import LANGUAGES, ask, ask_two, caption, refuse
from xverse_v.nano.charts import make_chart
from xverse_v.nano.concepts import (
    ANCHOR_PATCHES,
    CELLS,
    COLOURS,
    NO_CELL,
    PATCHES,
    SHAPES,
    Meanings,
    Picture,
    cell_meanings,
    concept,
)  # fmt: skip
from xverse_v.nano.detail import make_board
from xverse_v.nano.questions import KINDS, QA
from xverse_v.nano.questions import make_question as ask_scene
from xverse_v.nano.sequences import Row, again_ids, between_ids, history_ids, image_id, opening_ids
from xverse_v.nano.views import picture_meanings
from xverse_v.nano.world import Scene, make_scene, split_seed

QUESTIONS_A_ROW = 6
# What row number n is about, by n modulo the length.
MIX = ("scene", "board", "scene", "chart", "written", "scene", "pair", "board", "scene", "chart", "scene", "written",
       "board", "scene", "pair", "talk")  # fmt: skip
# What is asked of scenes in training: more of what is learnt late than in the measured mix.
PRACTICE = KINDS | {
    "colour_of": 8, "shape_of": 6, "count_colour": 18, "count_shape": 20, "count_both": 7, "describe": 8, "larger": 9,
    "same_colour": 8,
}  # fmt: skip
SYSTEMS = ("You are a helpful assistant.", "Answer the question about the image.", "一位用户和AI助手之间的对话。")


@dataclass
class WordRow:
    """`kind`: an entry of `MIX`. `meanings`: concepts at every placeholder token, in order; `asked`: what is
    measured."""

    kind: str
    row: Row = field(default_factory=Row)
    meanings: list[Meanings] = field(default_factory=list)
    asked: list[QA] = field(default_factory=list)


def make_picture(kind: str, seed: int) -> Picture:
    """The picture of `seed` for rows of this kind."""
    if kind == "board":
        return make_board(seed)
    if kind == "chart":
        return make_chart(seed)
    return make_scene(seed, written=kind == "written")


def _patches(rng: random.Random, picture: Picture, keep: float) -> tuple[list[tuple[int, Meanings]], int]:
    """(patch of the whole image, its meanings) for all that stay, and how many patches there are."""
    views, found = picture_meanings(picture)
    meant = {view * PATCHES + patch: meanings for (view, patch), meanings in found.items()}
    if views > 1:
        keep = min(keep, 0.1)
        # Sometimes a tile looks like a whole image: the decoder must go by the global view all the same.
        for _ in range(rng.randint(1, 4) if isinstance(picture, Scene) and rng.random() < 0.5 else 0):
            at = rng.randrange(len(ANCHOR_PATCHES))
            seen = (
                f"kind {rng.choice(('shape', 'nothing'))}",
                f"shape {rng.choice(SHAPES)}",
                f"colour {rng.choice(COLOURS)}",
            )
            meant[rng.randrange(1, views) * PATCHES + ANCHOR_PATCHES[at]] = tuple(
                concept(name) for name in (*seen, *cell_meanings(at // CELLS, at % CELLS))
            )
    kept = [patch for patch in range(views * PATCHES) if patch in meant or rng.random() < keep]
    return [(patch, meant.get(patch, NO_CELL)) for patch in kept], views * PATCHES


def _add_image(
    rng: random.Random, made: WordRow, before: tuple[int, ...], parent: int, picture: Picture, keep: float
) -> int:
    """Hangs `before` and the image's placeholder tokens below `parent`; returns the new segment."""
    kept, total = _patches(rng, picture, keep)
    start = made.row.ends[parent] if parent >= 0 else 0
    first = start + len(before)
    positions = [*range(start, first), *(first + patch for patch, _ in kept)]
    segment = made.row.add(before + (image_id(),) * len(kept), parent, positions=positions)
    made.row.ends[segment] = first + total
    made.meanings += [meanings for _, meanings in kept]
    return segment


def _hang(rng: random.Random, row: Row, root: int, asked: list[QA]) -> None:
    """Hangs questions below the image: most as first questions, some after one or two earlier turns."""
    waiting = list(asked)
    parent, before = root, "image"
    if rng.random() < 0.12:
        questions, answer = rng.choice(phrases.SMALL_TALK)
        row.ask(rng.choice(questions), answer, root, "image")
    while waiting:
        later = len(waiting) // 2 if rng.random() < 0.4 else 0
        for _ in range(len(waiting) - later):
            qa = waiting.pop()
            row.ask(qa.question, qa.answer, parent, before)
        if later:
            parent = row.add(history_ids(qa.question, qa.answer, before), parent)
            before = "turn"


def _talk(rng: random.Random, made: WordRow) -> None:
    """Short conversations without an image."""
    row = made.row
    for _ in range(5):
        if rng.random() < 0.3:
            scene = make_scene(rng.randrange(2**39) + split_seed("words", 2**39))
            language = rng.choice(LANGUAGES)
            qa = ask_scene(rng, scene, rng.choice(("colour_of", "count_all", "describe")), language)
            if qa is not None:
                row.ask(qa.question, phrases.NO_IMAGE[language], -1, "start")
                continue
        questions, answer = rng.choice(phrases.SMALL_TALK)
        question = rng.choice(questions)
        row.ask(question, answer, -1, "start")
        if rng.random() < 0.4:
            parent = row.add(history_ids(question, answer, "start"), -1)
            questions, answer = rng.choice(phrases.SMALL_TALK)
            row.ask(rng.choice(questions), answer, parent, "turn")


def _pair(rng: random.Random, made: WordRow, seed: int, keep: float, *, practice: bool) -> None:
    """Two scenes: both before the first question, or the second with a later turn."""
    one, other = (make_scene(seed + 2**30 * half, (224, 224)) for half in (0, 1))
    made.asked = ask_two(rng, (one, other), QUESTIONS_A_ROW)
    parent = _add_image(rng, made, opening_ids(""), -1, one, keep)
    link = between_ids()
    if practice and rng.random() < 0.3:
        (earlier,) = ask(rng, one, 1)
        parent = made.row.add(history_ids(earlier.question, earlier.answer, "image"), parent)
        link = again_ids()
    parent = _add_image(rng, made, link, parent, other, keep)
    for qa in made.asked:
        made.row.ask(qa.question, qa.answer, parent, "image")


def word_row(split: str, number: int, keep: float) -> WordRow:
    """Row `number` of a split. In the split "check" all questions are first ones, for scores."""
    seed, practice = split_seed(split, number), split == "words"
    rng = random.Random(seed + 1)
    made = WordRow(MIX[number % len(MIX)])
    if made.kind == "talk":
        _talk(rng, made)
        return made
    if made.kind == "pair":
        _pair(rng, made, seed, keep, practice=practice)
        return made
    picture = make_picture(made.kind, seed)
    asked = ask(rng, picture, QUESTIONS_A_ROW, PRACTICE if practice and made.kind == "scene" else None)
    asked += refuse(rng, picture, 1) if rng.random() < 0.5 else []
    rng.shuffle(asked)
    opening = opening_ids(rng.choice(SYSTEMS) if rng.random() < 0.08 else "")
    root = _add_image(rng, made, opening, -1, picture, keep)
    if practice:
        if rng.random() < 0.35:
            told = caption(picture, rng.choice(LANGUAGES))
            made.row.ask(told.question, told.answer, root, "image")
        _hang(rng, made.row, root, asked)
    else:
        for qa in asked:
            made.row.ask(qa.question, qa.answer, root, "image")
        made.asked = asked
    return made
