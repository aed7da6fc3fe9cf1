"""The contact sheet: the pixels on it are the views, unscaled; nothing overlaps; every shape of grid fits."""

from __future__ import annotations

from itertools import combinations

import pytest
from PIL import Image, ImageColor

from tests.conftest import made_image
from xverse_v.inspector import contact_sheet, inspect_tiles
from xverse_v.inspector.sheet import CAPTION, MARGIN, colour_of, lies_in_grid, view_places
from xverse_v.model import XverseVProcessor

SIZES = [
    (672, 448),
    (448, 448),
    (1, 1),
    (20_000, 200),
    (200, 20_000),
    (900, 420),
    (420, 900),
    (1344, 1344),
    (1120, 224),
]


@pytest.mark.parametrize("size", SIZES)
def test_every_view_is_on_the_sheet_bit_for_bit(processor: XverseVProcessor, size: tuple[int, int]) -> None:
    inspection = inspect_tiles(made_image("wave", *size, 0), processor, context=2048)
    sheet = contact_sheet(inspection)
    assert sheet.mode == "RGB"
    expected = processor.image_processor.views(inspection.image)
    places = view_places(inspection.report)
    assert len(places) == len(expected)
    for (left, top), view in zip(places, expected, strict=True):
        assert sheet.crop((left, top, left + 224, top + 224)).tobytes() == view.tobytes()


@pytest.mark.parametrize("size", SIZES)
def test_views_keep_their_distance_and_stay_on_the_sheet(processor: XverseVProcessor, size: tuple[int, int]) -> None:
    inspection = inspect_tiles(Image.new("RGB", size), processor)
    sheet = contact_sheet(inspection)
    places = view_places(inspection.report)
    for (left, top), (other_left, other_top) in combinations(places, 2):
        assert abs(left - other_left) >= 224 or abs(top - other_top) >= 224 + CAPTION
    for left, top in places:
        assert left >= MARGIN and left + 224 + MARGIN <= sheet.width and top + 224 + CAPTION <= sheet.height
    assert sheet.width < 1400 and sheet.height < 2000


def test_tiles_lie_as_in_their_grid(processor: XverseVProcessor) -> None:
    report = inspect_tiles(Image.new("RGB", (672, 448)), processor).report
    assert lies_in_grid(report)
    places = view_places(report)
    columns, rows = sorted({left for left, _ in places[1:]}), sorted({top for _, top in places[1:]})
    assert (len(rows), len(columns)) == (report.rows, report.columns) == (3, 2)
    for view, place in zip(report.views[1:], places[1:], strict=True):
        assert place == (columns[view.column], rows[view.row])
    assert places[0][0] < columns[0] and places[0][1] == rows[0]


def test_a_long_grid_stands_in_rows_of_five(processor: XverseVProcessor) -> None:
    report = inspect_tiles(Image.new("RGB", (20_000, 200)), processor).report
    assert (report.rows, report.columns) == (9, 1) and not lies_in_grid(report)
    assert len({top for _, top in view_places(report)}) == 2


def test_tile_rectangles_are_drawn_on_the_image(processor: XverseVProcessor) -> None:
    """On a black image the only colours above the views are those of the outlines; each tile has its own."""
    inspection = inspect_tiles(Image.new("RGB", (672, 448)), processor)
    sheet = contact_sheet(inspection)
    top = view_places(inspection.report)[0][1]
    image_part = sheet.crop((MARGIN, 0, MARGIN + 590, top - 130))
    colours = {colour for _, colour in image_part.getcolors(1 << 20)}
    for view in inspection.report.views[1:]:
        assert ImageColor.getrgb(colour_of(view)) in colours
    assert len({colour_of(view) for view in inspection.report.views}) == len(inspection.report.views)
