"""Boards of tags: inside one tile each, readable there, and too small in the global view."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageFont

from tests.nano.test_world import nearest_colour
from xverse_v.model.tiling import TILE_SIZE, choose_grid
from xverse_v.nano.concepts import CHARACTERS, CONCEPTS, PATCHES, SIDE
from xverse_v.nano.detail import FONTS, GRIDS, Board, Tag, _font_folder, make_board, make_sheet
from xverse_v.nano.views import picture_boxes, picture_meanings, picture_views
from xverse_v.nano.world import split_seed

BOARDS = [make_board(split_seed("check", index)) for index in range(200)]
SHEETS = [make_sheet(split_seed("check", index)) for index in range(20)]


def tile_of(board: Board, tag: Tag) -> tuple[float, float, float, float]:
    """The tile's rectangle that holds the middle of a tag, by the product's own geometry."""
    boxes = [box for box in picture_boxes(board)[1:] if box[0] <= tag.x < box[2] and box[1] <= tag.y < box[3]]
    (box,) = boxes
    return box


def size_in_pixels(board: Board, tag: Tag) -> tuple[float, float]:
    """Width and height of a tag's text on the image."""
    across, down = board.scale
    font = ImageFont.truetype(str(_font_folder() / f"{tag.font}.ttf"), round(tag.size * down))
    left, top, right, bottom = font.getbbox(tag.text)
    return min(24.5 * across, (right - left) * across / down), bottom - top


@pytest.mark.parametrize("boards", [BOARDS, SHEETS], ids=["boards", "sheets"])
def test_no_tag_crosses_the_border_of_a_tile_or_touches_another(boards: list[Board]) -> None:
    for board in boards:
        across, down = board.scale
        rectangles = []
        for tag in board.tags:
            left, top, right, bottom = tile_of(board, tag)
            mine = (tag.x - 21 * across, tag.y - 12 * down, tag.x + 21 * across, tag.y + 12 * down)
            assert left <= mine[0] and top <= mine[1] and mine[2] <= right and mine[3] <= bottom
            assert (tag.row, tag.column) == (round(top / (bottom - top)), round(left / (right - left)))
            for other in rectangles:
                apart = mine[0] >= other[2] or other[0] >= mine[2] or mine[1] >= other[3] or other[1] >= mine[3]
                assert apart, (board.seed, tag)
            rectangles.append(mine)


def test_text_is_readable_in_a_tile_and_too_small_in_the_global_view() -> None:
    for board in BOARDS:
        grid = choose_grid(board.width, board.height, orientation="upright")
        assert grid in GRIDS and grid.tiles >= 4
        for tag in board.tags:
            width, height = size_in_pixels(board, tag)
            in_tile = width * grid.columns * TILE_SIZE / board.width, height * grid.rows * TILE_SIZE / board.height
            whole = width * TILE_SIZE / board.width, height * TILE_SIZE / board.height
            assert 6.5 <= in_tile[1] <= 12.5 and 14 <= in_tile[0] <= 25, (tag, in_tile)
            # What a character has in the global view: never more than about four pixels one way.
            assert min(whole[0] / len(tag.text), whole[1]) <= 5.0, (tag, whole)
            assert whole[0] * whole[1] <= in_tile[0] * in_tile[1] / 4 + 1e-6


def test_frames_have_their_colour_and_text_is_dark_on_white() -> None:
    for board in BOARDS[:25]:
        pixels = np.asarray(board.draw()).astype(int)
        across, down = board.scale
        for tag in board.tags:
            assert nearest_colour(pixels[round(tag.y), round(tag.x - 20 * across)]) == tag.colour
            top, bottom = round(tag.y - 6 * down), round(tag.y + 6 * down)
            inside = pixels[top:bottom, round(tag.x - 13 * across) : round(tag.x + 13 * across)]
            assert inside.min() < 90 and inside.max() == 255


def test_marks_lie_in_the_tile_and_patch_where_the_text_is_seen() -> None:
    for board in BOARDS[:12]:
        count, meanings = picture_meanings(board)
        views = picture_views(board)
        assert len(views) == count and len(meanings) == len(board.tags)
        told = {}
        for (view, patch), names in meanings.items():
            assert view > 0 and 0 <= patch < PATCHES
            row, column = divmod(patch, SIDE)
            shown = np.asarray(views[view]).astype(int)
            patch_pixels = shown[28 * row : 28 * row + 28, 28 * column : 28 * column + 28].sum(-1)
            assert patch_pixels.min() < 330 and patch_pixels.max() > 700
            named = {CONCEPTS[index] for index in names}
            (colour,) = [name.split()[1] for name in named if name.startswith("colour")]
            told[colour] = "".join(name.split()[1] for name in sorted(n for n in named if n.startswith("char")))
            assert "kind tag" in named
        assert told == {tag.colour: tag.text for tag in board.tags}


def test_tags_say_three_known_characters_in_different_colours() -> None:
    for board in BOARDS + SHEETS:
        for tag in board.tags:
            assert len(tag.text) == 3 and set(tag.text) <= set(CHARACTERS) and tag.font in FONTS
    for board in BOARDS:
        assert 1 <= len(board.tags) <= 6 and len({tag.colour for tag in board.tags}) == len(board.tags)
    digits = [tag.text.isdigit() for board in BOARDS for tag in board.tags]
    assert 0.5 < sum(digits) / len(digits) < 0.7
    assert {len(board.tags) for board in BOARDS} == set(range(1, 7))
