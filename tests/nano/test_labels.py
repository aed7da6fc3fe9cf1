"""Labels of patches: in the views where a thing can be told, nowhere else; and the pool that keeps drawn views."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from xverse_v.nano.charts import make_chart
from xverse_v.nano.concepts import ANCHOR_PATCHES, CHARACTERS, COLOURS, PATCHES, SEEN, SHAPES, SIDE
from xverse_v.nano.detail import make_board
from xverse_v.nano.labels import GROUPS, UNKNOWN, joined, labelled_views
from xverse_v.nano.pool import KINDS, Pool, fill
from xverse_v.nano.views import picture_boxes, picture_views, to_pixels
from xverse_v.nano.world import make_scene, split_seed

KIND, COLOUR = GROUPS.index("kind"), GROUPS.index("colour")


def kind_class(name: str) -> int:
    return 1 + SEEN["kind"].index(name)


def test_scenes_are_labelled_in_the_global_view_only_and_covered_everywhere() -> None:
    scenes = (make_scene(split_seed("check", index), (448, 448)) for index in range(99))
    scene = next(scene for scene in scenes if len(scene.things) > 3)
    given = labelled_views(scene)
    assert given.views.shape == (5, 224, 224, 3) and given.labels.shape == (5, len(GROUPS), PATCHES)
    assert given.whole.tolist() == [True] + [False] * 4
    held = {3 * t.row + t.column: t for t in scene.things}
    for at, patch in enumerate(ANCHOR_PATCHES):
        labels = given.labels[0, :, patch]
        if at in held:
            assert labels[KIND] == kind_class("shape")
            assert labels[GROUPS.index("shape")] == 1 + SHAPES.index(held[at].shape)
            assert labels[COLOUR] == 1 + COLOURS.index(held[at].colour)
        else:
            assert labels[KIND] == kind_class("nothing") and not labels[COLOUR]
    assert (given.labels[0, KIND] > 0).sum() == len(ANCHOR_PATCHES) and not given.labels[1:].any()
    assert ((given.cover[:, 0] > 0) == (given.cover[:, 1] > 0)).all()
    # What covers a patch is the colour that most of its pixels have.
    thing = scene.things[0]
    patch = int(thing.y / scene.height * SIDE) * SIDE + int(thing.x / scene.width * SIDE)
    assert given.cover[0, 1, patch] == 1 + COLOURS.index(thing.colour)


def test_tags_are_labelled_in_their_tiles_and_charts_in_the_global_view() -> None:
    board, chart = make_board(split_seed("check", 3)), make_chart(split_seed("check", 3))
    of_board, of_chart = labelled_views(board), labelled_views(chart)
    assert not of_board.labels[0].any()
    marked = of_board.labels[1:, KIND] == kind_class("tag")
    assert marked.sum() == len(board.tags) == (of_board.labels > 0).any(1).sum()
    texts = set()
    for view, patch in zip(*np.nonzero(marked), strict=True):
        labels = of_board.labels[1 + view, :, patch]
        spelled = [CHARACTERS[labels[GROUPS.index(f"char{slot}")] - 1] for slot in (1, 2, 3)]
        texts.add((COLOURS[labels[COLOUR] - 1], "".join(spelled)))
    assert texts == {(tag.colour, tag.text) for tag in board.tags}
    assert (of_chart.labels[0, KIND] > 0).sum() == len(chart.items) and not of_chart.labels[1:].any()
    assert (of_board.cover == UNKNOWN).all() and (of_chart.cover == UNKNOWN).all()


def test_views_are_cut_as_the_product_cuts_them() -> None:
    board = make_board(split_seed("check", 4))
    views, boxes = picture_views(board), picture_boxes(board)
    assert len(views) == len(boxes) and all(view.size == (224, 224) for view in views)
    assert boxes[0] == (0.0, 0.0, board.width, board.height)
    assert sum((right - left) * (bottom - top) for left, top, right, bottom in boxes[1:]) == pytest.approx(
        board.width * board.height
    )
    assert len(picture_views(board, max_tiles=1)) == len(picture_boxes(board, 1)) == 1
    pixels = to_pixels(views[:2])
    assert pixels.shape == (2, 3, 224, 224) and pixels.abs().max() < 3
    chosen = labelled_views(board, [0, 2])
    assert (chosen.views[1] == np.asarray(views[2])).all() and chosen.whole.tolist() == [True, False]


def test_the_pool_holds_what_was_drawn_and_deals_it_by_the_seed(pools: Path) -> None:
    assert sorted(path.stem for path in pools.iterdir()) == sorted(KINDS)
    for name in KINDS:
        pool = Pool.read(pools, name)
        held = pool.found
        assert len(held.views) == len(held.labels) == len(held.cover) == len(held.whole) >= 4
        assert held.labels.dtype == np.int64 and held.views.dtype == np.uint8
        one, same = (pool.take(random.Random(1), 5) for _ in range(2))
        assert (one.views == same.views).all() and (one.labels == same.labels).all() and len(one.whole) == 5
    first = labelled_views(make_chart(split_seed("tower", 1)), [0])
    charts = Pool.read(pools, "charts").found
    at = [index for index in range(len(charts.whole)) if (charts.views[index] == first.views[0]).all()]
    assert at and (charts.labels[at[0]] == first.labels[0]).all()
    sheets = Pool.read(pools, "sheets").found
    assert not sheets.whole.any() and (sheets.labels[:, KIND] == kind_class("tag")).sum() >= 4 * 36


def test_what_is_drawn_is_not_drawn_again(pools: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in pools.iterdir()}
    fill(pools, workers=1)
    assert {path: path.stat().st_mtime_ns for path in pools.iterdir()} == before


def test_several_become_one_in_order() -> None:
    one, other = (labelled_views(make_scene(split_seed("check", index), (224, 224))) for index in (1, 2))
    both = joined([one, other])
    assert (both.views[1] == other.views[0]).all() and (both.labels[0] == one.labels[0]).all()
