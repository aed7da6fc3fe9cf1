"""Scenes and handwriting: same seed, same image; splits that never meet; marks that agree with what is drawn."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from xverse_v.nano.concepts import ANCHOR_PATCHES, CELLS, COLOURS, CONCEPTS, SIDE, cell_patch, concept, placed
from xverse_v.nano.handwriting import HELD_BACK, samples
from xverse_v.nano.rows import make_picture
from xverse_v.nano.tower import PHASES, _numbers
from xverse_v.nano.world import PAINTS, SPLITS, Scene, make_page, make_scene, split_seed

KINDS = ("scene", "written", "board", "chart")


def nearest_colour(pixel: np.ndarray) -> str:
    return min(COLOURS, key=lambda name: min(np.abs(pixel - np.array(paint)).sum() for paint in PAINTS[name]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_pixels_every_time(kind: str) -> None:
    first, second, other = (make_picture(kind, split_seed("check", number)) for number in (7, 7, 8))
    assert first == second
    pixels = first.draw()
    assert pixels.size == (first.width, first.height) and pixels.mode == "RGB"
    assert pixels.tobytes() == second.draw().tobytes() != other.draw().tobytes()


def test_splits_never_share_a_seed() -> None:
    ends = sorted((split_seed(name, 0), split_seed(name, 2**40 - 1)) for name in SPLITS)
    assert len(ends) == len(SPLITS) == 7
    assert all(last < first for (_, last), (first, _) in pairwise(ends))
    for index in (-1, 2**40):
        with pytest.raises(ValueError, match="outside the block"):
            split_seed("test", index)


@pytest.mark.parametrize("split", SPLITS)
def test_tests_have_handwriting_of_their_own(split: str) -> None:
    scenes = [make_scene(split_seed(split, index), written=True) for index in range(60)]
    numbers = {written.digit.sample for scene in scenes for written in scene.digits}
    values = samples()[1]
    held_back = {number for number in numbers if number % HELD_BACK == 0}
    assert len(numbers) > 50
    assert held_back == (numbers if split in ("test", "examples") else set())
    assert all(w.digit.value == values[w.digit.sample] for scene in scenes for w in scene.digits)


def test_every_object_lies_inside_the_image_in_a_cell_of_its_own() -> None:
    for index in range(300):
        scene = make_scene(split_seed("check", index), written=index % 3 == 0)
        cells = [(int(3 * t.y / scene.height), int(3 * t.x / scene.width)) for t in scene.things]
        assert cells == [(t.row, t.column) for t in scene.things] == sorted(cells)
        for thing in scene.things:
            assert thing.radius <= thing.x <= scene.width - thing.radius
            assert thing.radius <= thing.y <= scene.height - thing.radius
        written = [(int(3 * w.y / scene.height), int(3 * w.x / scene.width)) for w in scene.digits]
        assert written == [(w.row, w.column) for w in scene.digits] == sorted(written)
        assert len({*cells, *written}) == len(cells) + len(written)
        assert bool(written) == (index % 3 == 0) and len(cells) <= 6 and len(written) <= 4


def test_the_pixel_at_an_objects_centre_has_its_colour_and_digits_leave_ink() -> None:
    for index in range(60):
        scene = make_scene(split_seed("check", index), written=index % 2 == 0)
        pixels = np.asarray(scene.draw()).astype(int)
        for thing in scene.things:
            assert nearest_colour(pixels[round(thing.y), round(thing.x)]) == thing.colour, (index, thing)
        # Digits change the pixels where they are said to be, and no others.
        bare = np.asarray(replace(scene, digits=()).draw()).astype(int)
        written_over = np.zeros(pixels.shape[:2], dtype=bool)
        for written in scene.digits:
            reach, y, x = round(written.digit.side / 2) + 1, round(written.y), round(written.x)
            box = np.s_[y - reach : y + reach, x - reach : x + reach]
            changed = np.abs(pixels[box] - bare[box]).sum(-1) > 60
            assert 0.1 < changed.mean() < 0.8, (index, written)
            assert np.abs(pixels[box] - np.array(written.digit.ink)).sum(-1).min() < 30, (index, written)
            written_over[box] = True
        assert (pixels == bare)[~written_over].all(), index


def _meanings(scene: Scene) -> dict[int, set[str]]:
    """Patch of the global view -> names of its concepts."""
    found = placed(scene.marks(), [(0.0, 0.0, float(scene.width), float(scene.height))])
    assert all(view == 0 for view, _ in found)
    return {patch: {CONCEPTS[index] for index in meanings} for (_, patch), meanings in found.items()}


def test_marks_say_what_each_cell_holds() -> None:
    for index in range(100):
        scene = make_scene(split_seed("check", index), written=index % 2 == 0)
        told = _meanings(scene)
        assert sorted(told) == sorted(ANCHOR_PATCHES)
        for thing in scene.things:
            names = told.pop(cell_patch(thing.row, thing.column))
            size = "size large" if thing.radius > 0.32 * min(scene.width, scene.height) / 3 else "size small"
            assert names >= {"kind shape", f"shape {thing.shape}", f"colour {thing.colour}", size}
            assert names >= {f"row {thing.row}", f"column {thing.column}", f"cell {thing.row} {thing.column}"}
        for written in scene.digits:
            names = told.pop(cell_patch(written.row, written.column))
            assert names >= {"kind digit", f"char1 {written.digit.value}", f"cell {written.row} {written.column}"}
        assert all("kind nothing" in names for names in told.values())


def test_the_patch_of_a_cell_lies_in_the_middle_of_it() -> None:
    for row in range(CELLS):
        for column in range(CELLS):
            down, across = divmod(cell_patch(row, column), SIDE)
            for at, cell in ((down, row), (across, column)):
                assert at / SIDE <= (cell + 0.5) / CELLS <= (at + 1) / SIDE


def test_concepts_are_named_once_and_found_by_name() -> None:
    assert len(set(CONCEPTS)) == len(CONCEPTS)
    assert [concept(name) for name in CONCEPTS] == list(range(len(CONCEPTS)))
    with pytest.raises(KeyError):
        concept("colour mauve")


def test_a_page_of_practice_is_full_of_training_handwriting_of_other_hands() -> None:
    pages = [make_page(split_seed("tower", number)) for number in range(20)]
    digits = [written.digit for page in pages for written in page.digits]
    assert len(digits) > 150 and not any(digit.sample % HELD_BACK == 0 for digit in digits)
    assert len({(digit.stretch, digit.lean) for digit in digits}) == len(digits)
    ink = 255 - np.asarray(pages[0].draw().convert("L"), dtype=int)
    for written in pages[0].digits:
        x, y = round(written.x), round(written.y)
        assert ink[y - 12 : y + 13, x - 12 : x + 13].max() > 100, "a digit leaves ink around its middle"


def test_no_picture_of_the_tower_comes_twice_and_none_is_skipped() -> None:
    steps = [0, 1, *(begin + by for begin, _ in PHASES[1:] for by in (-2, -1, 0, 1))]
    for kind in PHASES[0][1]:
        for step in steps:
            assert _numbers(step, kind).stop == _numbers(step + 1, kind).start, (kind, step)
        assert _numbers(0, kind).start == 0
