"""The grid rule against the recordings, against its restatement by cases, and at the edges of every rounding."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import golden
from xverse_v.model.tiling import Grid, choose_grid, tiles_along, view_boxes

SIDES = st.integers(1, 20_000)


@pytest.mark.parametrize("case", golden("tiling_grid")["cases"], ids=lambda c: f"{c['w']}x{c['h']}")
def test_release_grids_equal_the_recordings(case):
    grid = choose_grid(case["w"], case["h"], orientation="release")
    assert grid == (case["rows"], case["cols"])
    assert grid.views == case["tiles"]


def test_release_rows_come_from_the_width():
    recorded = golden("tiling_orientation")
    assert choose_grid(672, 448, orientation="release") == Grid(rows=3, columns=2), recorded
    assert choose_grid(672, 448, orientation="upright") == Grid(rows=2, columns=3)


@pytest.mark.parametrize(("length", "tiles"), [(1, 1), (335, 1), (336, 1), (337, 2), (560, 2), (561, 3), (20_000, 89)])
def test_exactly_half_a_tile_rounds_down(length, tiles):
    assert tiles_along(length) == tiles


def by_cases(across: int, down: int) -> tuple[int, int]:
    """The release's rule in its own words, for nine tiles."""
    if across * down <= 9:
        return across, down
    if 1 in (across, down):
        return min(across, 9), min(down, 9)
    if 2 in (across, down):
        return min(across, 4), min(down, 4)
    return 3, 3


@settings(max_examples=500)
@given(SIDES, SIDES)
def test_nine_tiles_are_the_release_rule(width, height):
    expected = by_cases(tiles_along(width), tiles_along(height))
    assert choose_grid(width, height, orientation="release") == expected
    assert choose_grid(width, height, orientation="upright") == expected[::-1]


@settings(max_examples=500)
@given(SIDES, SIDES, st.integers(1, 16), st.sampled_from(["release", "upright"]))
def test_never_more_tiles_than_asked_and_never_more_than_the_image_has(width, height, max_tiles, orientation):
    grid = choose_grid(width, height, orientation=orientation, max_tiles=max_tiles)
    assert 1 <= grid.tiles <= max_tiles
    down, across = tiles_along(height), tiles_along(width)
    rows, columns = grid if orientation == "upright" else grid[::-1]
    assert rows <= down and columns <= across
    assert (rows >= columns) == (down >= across) or grid.rows == grid.columns


@given(SIDES, SIDES, st.sampled_from(["release", "upright"]))
def test_tiles_cover_the_image_once(width, height, orientation):
    grid = choose_grid(width, height, orientation=orientation)
    whole, *tiles = view_boxes(width, height, grid)
    assert (whole.left, whole.top, whole.right, whole.bottom) == (0, 0, width, height) and whole.is_global
    assert len(tiles) == (grid.tiles if grid.tiles > 1 else 0)
    for tile in tiles:
        assert tile.left == (0 if tile.column == 0 else tiles[tile.index - 2].right)
        assert tile.top == (0 if tile.row == 0 else tiles[tile.index - 1 - grid.columns].bottom)
    if tiles:
        assert (tiles[-1].right, tiles[-1].bottom) == (width, height)


def test_aspect_error_of_the_transposed_grid():
    boxes = view_boxes(672, 448, choose_grid(672, 448, orientation="release"))
    assert (boxes[1].scale_x, boxes[1].scale_y) == (448 / 672, 672 / 448)
    assert boxes[1].aspect_error == pytest.approx(2.25)
    upright = view_boxes(672, 448, choose_grid(672, 448, orientation="upright"))
    assert upright[1].aspect_error == 1.0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 5, "release", 9), "0x5"),
        ((5, 5, "sideways", 9), "release, upright"),
        ((5, 5, "upright", 0), "max_tiles is at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, text):
    width, height, orientation, max_tiles = arguments
    with pytest.raises(ValueError, match=text):
        choose_grid(width, height, orientation=orientation, max_tiles=max_tiles)
