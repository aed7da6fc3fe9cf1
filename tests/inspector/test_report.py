"""The report's numbers against the recorded release, the processor's own output and plain arithmetic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from tests.conftest import golden, made_image
from xverse_v.inspector import TileReport, inspect_tiles, tile_report
from xverse_v.inspector.notes import percent, ratio, shape_words, stretch_words
from xverse_v.media import open_image
from xverse_v.model import XverseVProcessor

SIZES = [(672, 448), (448, 672), (448, 448), (100, 100), (1, 1), (4000, 1), (20_000, 200), (900, 420), (1601, 1201)]


@contextmanager
def turned(processor: XverseVProcessor, orientation: str, apply_exif: bool = False) -> Iterator[XverseVProcessor]:
    """The shared processor with other settings for a while."""
    images = processor.image_processor
    before = images.orientation, images.apply_exif
    images.orientation, images.apply_exif = orientation, apply_exif
    try:
        yield processor
    finally:
        images.orientation, images.apply_exif = before


def kinds(report: TileReport) -> list[str]:
    return [note.kind for note in report.notes]


def test_the_recorded_transposed_grid(processor: XverseVProcessor) -> None:
    recorded = golden("tiling_orientation")
    width, height = recorded["size_WH"]
    report = tile_report(made_image("wave", width, height, 0), processor)
    assert (report.rows, report.columns) == (recorded["rows"], recorded["cols"]) == (3, 2)
    tile = report.finest
    assert tile.stretch_x == pytest.approx(recorded["x_scale"]) and tile.stretch_y == pytest.approx(recorded["y_scale"])
    assert tile.aspect_error == pytest.approx(2.25)
    assert tile.detail_kept == pytest.approx(2 / 3) and report.pixels_lost == 100_352
    note = report.notes[0]
    assert note.kind == "transposed"
    for words in ("672x448", "squeezed x0.667", "stretched x1.5", "2.25 times too tall", "--grid upright"):
        assert words in note.text("en")
    with turned(processor, "upright"):
        upright = tile_report(made_image("wave", width, height, 0), processor)
    assert (upright.rows, upright.columns, upright.finest.aspect_error) == (2, 3, 1.0)
    assert upright.notes == () and upright.pixels_lost == 0


@pytest.mark.parametrize("orientation", ["release", "upright"])
@pytest.mark.parametrize("size", SIZES)
def test_rectangles_cover_the_image_exactly_once(
    processor: XverseVProcessor, size: tuple[int, int], orientation: str
) -> None:
    with turned(processor, orientation):
        report = tile_report(Image.new("RGB", size), processor)
    whole = report.views[0]
    assert whole.is_global and (whole.left, whole.top, whole.right, whole.bottom) == (0, 0, *size)
    tiles = report.views[1:]
    if not tiles:
        assert "global_only" in kinds(report) and (report.rows, report.columns) == (1, 1)
        return
    area = sum((tile.right - tile.left) * (tile.bottom - tile.top) for tile in tiles)
    assert area == pytest.approx(size[0] * size[1])
    for row in range(report.rows):
        across = [tile for tile in tiles if tile.row == row]
        assert across[0].left == 0 and across[-1].right == size[0]
        assert all(before.right == after.left for before, after in pairwise(across))
    for column in range(report.columns):
        down = [tile for tile in tiles if tile.column == column]
        assert down[0].top == 0 and down[-1].bottom == size[1]
        assert all(before.bottom == after.top for before, after in pairwise(down))


@pytest.mark.parametrize("question", [None, "What colour is it?", "A literal <|image|> and <|endoftext|>"])
def test_token_spans_are_the_placeholders_of_the_prompt(processor: XverseVProcessor, question: str | None) -> None:
    image = made_image("noise", 500, 300, 1)
    report = tile_report(image, processor, question=question)
    content = [{"type": "image"}] + ([{"type": "text", "text": question}] if question else [])
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    inputs = processor(images=[image], text=prompt, return_tensors="pt")
    ids = inputs["input_ids"][0].tolist()
    assert report.prompt_tokens == len(ids)
    assert [view.place for view in report.views] == list(range(1, len(inputs["pixel_values"]) + 1))
    spans = [position for view in report.views for position in range(view.token_start, view.token_end)]
    assert spans == [position for position, token in enumerate(ids) if token == processor.image_token_id]
    assert len(spans) == report.image_tokens == len(report.views) * report.tokens_per_view


def test_a_processor_that_expands_wrongly_is_not_believed(
    processor: XverseVProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(processor), "replace_image_token", lambda self, *_, **__: self.image_token * 7)
    with pytest.raises(ValueError, match="1280 placeholder tokens, it holds 7"):
        tile_report(made_image("noise", 448, 448, 1), processor)


@pytest.mark.parametrize("size", [(672, 448), (37, 91), (1200, 500)])
def test_views_are_the_processors_pixels_bit_for_bit(processor: XverseVProcessor, size: tuple[int, int]) -> None:
    image = made_image("noise", *size, 3)
    inspection = inspect_tiles(image, processor)
    expected = processor.image_processor.views(image)
    assert [view.tobytes() for view in inspection.views] == [view.tobytes() for view in expected]
    values = np.concatenate([np.asarray(view).ravel() for view in inspection.views])
    assert len(np.unique(values)) > 200  # the test would pass on blank views otherwise


def test_the_pixels_of_a_view_come_from_its_rectangle(processor: XverseVProcessor) -> None:
    """One bright tile-sized rectangle at a time; only the view that claims it may be bright."""
    with turned(processor, "upright"):
        for view in tile_report(Image.new("RGB", (672, 448)), processor).views[1:]:
            image = Image.new("RGB", (672, 448))
            image.paste((255, 255, 255), (round(view.left), round(view.top), round(view.right), round(view.bottom)))
            pixels = inspect_tiles(image, processor).views
            assert [index for index, shown in enumerate(pixels) if np.asarray(shown).mean() > 200] == [view.index]


def test_shrinking_is_counted(processor: XverseVProcessor) -> None:
    report = tile_report(Image.new("RGB", (1344, 1344)), processor)  # 6x6 tiles in each direction, cut to 3x3
    assert (report.rows, report.columns) == (3, 3)
    assert report.finest.source_pixels == pytest.approx(4) and report.views[0].source_pixels == pytest.approx(36)
    assert report.detail_kept == pytest.approx(0.25) and report.pixels_lost == 1344 * 1344 * 3 // 4
    assert kinds(report) == ["capped", "lost"]
    assert "36 tiles (6 across, 6 down); the limit is 9" in report.notes[0].text("en")


def test_enlarging_is_said(processor: XverseVProcessor) -> None:
    report = tile_report(Image.new("RGB", (56, 56)), processor)
    assert kinds(report) == ["global_only", "enlarged"] and report.detail_kept == 1 and report.pixels_lost == 0
    assert report.finest.source_pixels == pytest.approx(1 / 16)


def test_fewer_tiles_on_request(processor: XverseVProcessor) -> None:
    image = made_image("wave", 672, 448, 0)
    one = tile_report(image, processor, max_tiles=1)
    assert len(one.views) == 1 and one.max_tiles == 1 and {"global_only", "capped"} <= set(kinds(one))
    assert len(tile_report(image, processor, max_tiles=4).views) <= 5


def test_context_share_and_a_prompt_that_would_be_refused(processor: XverseVProcessor) -> None:
    image = made_image("wave", 672, 448, 0)
    fits = tile_report(image, processor, context=8192)
    assert fits.context_share == pytest.approx(1792 / 8192) and "too_long" not in kinds(fits)
    exact = tile_report(image, processor, context=fits.prompt_tokens)
    assert "too_long" not in kinds(exact)
    over = tile_report(image, processor, context=fits.prompt_tokens - 1)
    assert "too_long" in kinds(over)
    assert tile_report(image, processor).context_share is None


def test_what_was_done_to_an_unusual_file_is_said(processor: XverseVProcessor) -> None:
    red = Image.new("RGB", (30, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    turn = red.copy()
    turn.info["exif"] = exif.tobytes()
    ignored = tile_report(open_image(turn), processor)
    assert "turn_ignored" in kinds(ignored) and (ignored.width, ignored.height) == (30, 20)
    with turned(processor, "upright", apply_exif=True):
        applied = tile_report(open_image(turn), processor)
    assert "turned" in kinds(applied) and (applied.width, applied.height) == (20, 30)
    assert (applied.stored_width, applied.stored_height) == (30, 20)

    assert "converted" in kinds(tile_report(red.convert("CMYK"), processor))
    assert "transparent" in kinds(tile_report(red.convert("RGBA"), processor))
    animated = red.copy()
    animated.info["frames"] = 12
    assert "holds 12 frames" in tile_report(animated, processor).notes[-1].text("en")
    broken = red.copy()
    broken.info["exif_unreadable"] = True
    assert "exif_unreadable" in kinds(tile_report(broken, processor))
    assert set(kinds(tile_report(red, processor))) == {"stretched", "global_only", "enlarged"}


def test_as_dict_is_json_with_words_in_both_languages(processor: XverseVProcessor) -> None:
    report = tile_report(made_image("wave", 672, 448, 0), processor, question="几个？", context=8192)
    for language in ("en", "zh"):
        document = json.loads(json.dumps(report.as_dict(language)))
        assert document["notes"][0]["text"] == report.notes[0].text(language)
        assert [view["role"] for view in document["views"]][:3] == ["global", "tile 1,1", "tile 1,2"]
        assert document["views"][6]["token_end"] - document["views"][0]["token_start"] == document["image_tokens"]
        assert document["question"] == "几个？"


def test_words_for_numbers() -> None:
    assert [percent(share) for share in (1, 2 / 3, 0.0112, 1.25, 0.99996)] == ["100%", "66.7%", "1.12%", "125%", "100%"]
    assert [ratio(pixels) for pixels in (6, 1, 243.2, 0.25, 1 / 50176)] == ["6:1", "1:1", "243:1", "1:4", "1:50,176"]
    assert stretch_words(2 / 3, "en") == "squeezed x0.667" and stretch_words(1.5, "en") == "stretched x1.5"
    assert stretch_words(1.0, "en") == "unchanged" and stretch_words(0.5, "zh") == "压缩 x0.5"
    assert shape_words(2, 1, "en") == "2 times too wide" and shape_words(0.5, 1.5, "en") == "3 times too tall"
