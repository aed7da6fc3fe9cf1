"""Rows of questions for the decoder: the same from the same number, and true to the pictures they stand for."""

from __future__ import annotations

import dataclasses

import pytest

from xverse_v.nano.concepts import CONCEPTS, NO_CELL, PATCHES
from xverse_v.nano.rows import MIX, QUESTIONS_A_ROW, make_picture, word_row
from xverse_v.nano.sequences import answer_ids, image_id, prompt_ids
from xverse_v.nano.views import picture_meanings
from xverse_v.nano.world import make_scene, split_seed

NUMBERS = range(2 * len(MIX))


def test_a_number_decides_everything_in_a_row() -> None:
    for number in NUMBERS:
        one, same, other = (word_row("words", n, 0.1) for n in (number, number, number + len(MIX)))
        assert dataclasses.asdict(one) == dataclasses.asdict(same)
        assert one.kind == other.kind == MIX[number % len(MIX)] and one.row.ids != other.row.ids
    assert word_row("words", 1, 0.1).row.ids != word_row("check", 1, 0.1).row.ids


@pytest.mark.parametrize("split", ["words", "check"])
def test_every_placeholder_has_its_meanings_and_every_row_its_answers(split: str) -> None:
    for number in NUMBERS:
        made = word_row(split, number, 0.2)
        row = made.row
        assert row.ids.count(image_id()) == len(made.meanings)
        assert len(row.ids) == len(row.positions) == len(row.segments) == len(row.wanted)
        assert row.answers and max(row.positions) < 4096
        assert bool(made.meanings) == (made.kind != "talk")
        if split == "check" and made.kind != "talk":
            # First questions alone, each counted once, so that a score is a share of questions.
            assert len(row.answers) == len(made.asked) >= QUESTIONS_A_ROW - 1
            for qa, segment in zip(made.asked, row.answers, strict=True):
                held = tuple(row.ids[at] for at, owner in enumerate(row.segments) if owner == segment)
                assert held == prompt_ids(qa.question, "image") + answer_ids(qa.answer)


def test_image_tokens_stand_where_the_product_puts_them() -> None:
    # Not scenes: those carry lures in their tiles, which no picture holds.
    for number in [n for n in NUMBERS if MIX[n % len(MIX)] in ("board", "chart")]:
        made = word_row("check", number, 0.3)
        views, meant = picture_meanings(make_picture(made.kind, split_seed("check", number)))
        places = [at for at, token in enumerate(made.row.ids) if token == image_id()]
        first = places[0]  # as many tokens stand before the image
        told = {
            made.row.positions[at] - first: names
            for at, names in zip(places, made.meanings, strict=True)
            if names != NO_CELL
        }
        assert told == {view * PATCHES + patch: names for (view, patch), names in meant.items()}
        assert made.row.ends[0] == first + views * PATCHES


def test_all_patches_of_a_single_view_stay_where_nothing_is_left_out() -> None:
    number = next(
        n
        for n in range(0, 999, len(MIX))
        if MIX[0] == "scene" and picture_meanings(make_scene(split_seed("check", n)))[0] == 1
    )
    made = word_row("check", number, 1.0)
    assert len(made.meanings) == PATCHES
    assert all(0 <= index < len(CONCEPTS) for names in made.meanings for index in names)


def test_practice_differs_from_the_check_in_what_is_hung_where() -> None:
    parents = [word_row("words", number, 0.05).row.parents for number in range(64)]
    deep = [row for row in parents if any(parent > 0 for parent in row)]
    assert len(deep) > 10
    # Follow-ups exist in practice alone; of two images the second hangs below the first.
    for number in range(64):
        made = word_row("check", number, 0.05)
        roots = 2 if made.kind == "pair" else 1
        if made.kind != "talk":
            assert set(made.row.parents[roots:]) == {roots - 1}
