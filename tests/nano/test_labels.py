"""Labels of patches: in the views where a thing can be told, nowhere else; and what a step of the tower is made of."""

from __future__ import annotations

import numpy as np
import pytest

from xverse_v.model.tiling import Grid
from xverse_v.nano.charts import make_chart
from xverse_v.nano.concepts import ANCHOR_PATCHES, CHARACTERS, COLOURS, PATCHES, SEEN, SHAPES, SIDE
from xverse_v.nano.detail import make_board, make_sheet
from xverse_v.nano.labels import GROUPS, UNKNOWN, joined, labelled_views
from xverse_v.nano.tower import tower_batch
from xverse_v.nano.views import picture_boxes, picture_grid, picture_views, to_pixels
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


def test_sheets_are_full_of_tags_at_the_scales_of_boards() -> None:
    sheets = [make_sheet(split_seed("check", index)) for index in range(8)]
    assert {picture_grid(sheet) for sheet in sheets} == {Grid(2, 2)}
    assert len({sheet.scale for sheet in sheets}) == 8
    for sheet in sheets[:2]:
        views = labelled_views(sheet, [1, 2, 3, 4])
        assert not views.whole.any()
        assert (views.labels[:, KIND] == kind_class("tag")).sum() == len(sheet.tags) >= 4 * 6


def test_a_step_of_the_tower_holds_every_kind_and_the_next_one_is_new() -> None:
    given, after = tower_batch("check", 0), tower_batch("check", 1)
    kinds = {int(kind) for kind in np.unique(given.labels[:, KIND])}
    assert {kind_class(name) for name in ("shape", "digit", "tag")} <= kinds
    assert kinds & {kind_class(name) for name in ("bar", "slice", "line")}
    assert not any((view == other).all() for view in given.views for other in after.views)


def test_several_become_one_in_order() -> None:
    one, other = (labelled_views(make_scene(split_seed("check", index), (224, 224))) for index in (1, 2))
    both = joined([one, other])
    assert (both.views[1] == other.views[0]).all() and (both.labels[0] == one.labels[0]).all()
