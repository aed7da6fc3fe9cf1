"""The world: same seed, same image; splits that never meet; boxes and labels that agree with what is drawn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from xverse_v.nano.labels import ANCHOR_PATCHES, label_views
from xverse_v.nano.world import COLOURS, PAINTS, SHAPES, SPLITS, draw, make_scene, split_seed


def test_a_seed_gives_the_same_pixels_every_time():
    first, second = make_scene(split_seed("test", 7)), make_scene(split_seed("test", 7))
    assert first == second
    assert draw(first).tobytes() == draw(second).tobytes()
    assert draw(make_scene(split_seed("test", 8))).tobytes() != draw(first).tobytes()


def test_splits_never_share_a_seed():
    ends = sorted((split_seed(name, 0), split_seed(name, 2**40 - 1)) for name in SPLITS)
    assert len(ends) == len(SPLITS) == 6
    assert all(last < first for (_, last), (first, _) in pairwise(ends))
    for index in (-1, 2**40):
        with pytest.raises(ValueError, match="outside the block"):
            split_seed("test", index)


def test_every_object_lies_inside_the_image_in_a_cell_of_its_own():
    for index in range(300):
        scene = make_scene(split_seed("check", index))
        cells = [(int(3 * t.y / scene.height), int(3 * t.x / scene.width)) for t in scene.things]
        assert cells == [(t.row, t.column) for t in scene.things]
        assert len(set(cells)) == len(cells) and cells == sorted(cells)
        for thing in scene.things:
            assert thing.radius <= thing.x <= scene.width - thing.radius
            assert thing.radius <= thing.y <= scene.height - thing.radius


def test_the_pixel_at_an_objects_centre_has_its_colour():
    for index in range(100):
        scene = make_scene(split_seed("check", index), (224, 224))
        pixels = np.asarray(draw(scene)).astype(int)
        for thing in scene.things:
            found = pixels[round(thing.y), round(thing.x)]
            nearest = min(
                COLOURS, key=lambda name: min(np.abs(found - np.array(paint)).sum() for paint in PAINTS[name])
            )
            assert nearest == thing.colour, (index, thing, found)


def test_labels_name_what_the_cells_hold_in_the_global_view_only():
    scene = next(s for s in (make_scene(split_seed("check", i), (448, 448)) for i in range(99)) if len(s.things) > 3)
    whole, tile = (0.0, 0.0, 448.0, 448.0), (0.0, 0.0, 224.0, 224.0)
    labels = label_views(scene, [whole, tile])
    held = {3 * t.row + t.column: t for t in scene.things}
    for at, patch in enumerate(ANCHOR_PATCHES):
        shape = 1 + SHAPES.index(held[at].shape) if at in held else 0
        colour = 1 + COLOURS.index(held[at].colour) if at in held else 0
        assert labels.cell_shape[0, patch] == shape
        assert labels.cell_colour[0, patch] == colour
    assert (labels.cell_shape[0] > 0).sum() == len(scene.things)
    assert not labels.cell_shape[1].any() and not labels.cell_colour[1].any()
    assert (labels.cover_shape[0] > 0).any() and ((labels.cover_shape > 0) == (labels.cover_colour > 0)).all()
