"""The page: complete in one file, nothing loaded, nothing run, every text escaped, every part linked to its view."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tests.conftest import made_image
from xverse_v.inspector import Inspection, inspect_tiles, tile_page
from xverse_v.inspector.words import LABELS
from xverse_v.model import XverseVProcessor

VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Collects tags and text, and fails on tags that do not close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def inspection(processor: XverseVProcessor) -> Inspection:
    return inspect_tiles(made_image("noise", 672, 448, 5), processor, question="<b>Which</b> & why?", context=8192)


def test_the_views_on_the_page_are_the_views(inspection: Inspection, processor: XverseVProcessor) -> None:
    figures = re.findall(r'<figure class="v(\d+)".*?src="data:image/png;base64,([^"]+)"', tile_page(inspection), re.S)
    assert [int(index) for index, _ in figures] == list(range(7))
    for (_, data), expected in zip(figures, processor.image_processor.views(inspection.image), strict=True):
        with Image.open(io.BytesIO(base64.b64decode(data))) as view:
            assert view.tobytes() == expected.tobytes()


def test_nothing_is_loaded_and_nothing_runs(inspection: Inspection) -> None:
    page = Reader(tile_page(inspection, name="a.png"))
    policy = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "base", "a")
        assert not any(name.startswith("on") for name in attrs)
        assert attrs.get("src", "data:").startswith("data:image/png;base64,") or "src" not in attrs
    style = re.search(r"<style>(.*?)</style>", tile_page(inspection), re.S)
    assert style and "url(" not in style[1] and "@import" not in style[1] and "$" not in style[1]


def test_texts_from_outside_are_escaped(inspection: Inspection) -> None:
    name = "</title><script>alert(1)</script>\"' $notes.png"
    text = tile_page(inspection, name=name)
    assert "<script" not in text and "<b>Which" not in text
    assert name in Reader(text).text and "<b>Which</b> & why?" in Reader(text).text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_both_languages_are_whole(inspection: Inspection, language: str) -> None:
    text = tile_page(inspection, name="a.png", language=language)
    assert f'lang="{"zh-Hans" if language == "zh" else "en"}"' in text
    body = Reader(
        text.split("</style>")[1].replace("</head>", "").replace("</html>", "")[7:].replace("</body>", "")
    ).text
    has_chinese = re.search(r"[\u4e00-\u9fff]", body) is not None
    assert has_chinese == (language == "zh")
    for words in ("672 x 448", "1,792", "66.7%", "2.25"):
        assert words in body


def test_every_part_of_a_view_carries_its_class_and_lights_up_together(inspection: Inspection) -> None:
    text = tile_page(inspection)
    page = Reader(text)
    for view in inspection.report.views:
        parts = [tag for tag, attrs in page.tags if f"v{view.index}" in (attrs.get("class") or "").split()]
        assert sorted(parts) == sorted(["span", "figure", "tr"] + ([] if view.is_global else ["div"]))
        assert f"body:has(.v{view.index}:is(:hover, :focus)) .v{view.index}" in text
    boxes = re.findall(
        r'class="box v\d" style="left: ([\d.]+)%; top: ([\d.]+)%; width: ([\d.]+)%; height: ([\d.]+)%', text
    )
    assert len(boxes) == 6
    tiles = inspection.report.views[1:]
    expected = [(100 * tile.left / 672, 100 * tile.top / 448, 100 / 2, 100 / 3) for tile in tiles]
    assert np.allclose(np.array(boxes, dtype=float), expected, atol=1e-3)
    assert sum(float(width) * float(height) for *_, width, height in boxes) == pytest.approx(100 * 100, rel=1e-4)


def test_a_large_image_makes_a_small_page(processor: XverseVProcessor) -> None:
    page = tile_page(inspect_tiles(Image.new("RGB", (6000, 4000), "navy"), processor))
    assert len(page) < 300_000
    strip = tile_page(inspect_tiles(Image.new("RGB", (20_000, 200), "navy"), processor))
    assert "drawn thicker than it is" in strip and "drawn thicker than it is" not in page


def test_every_label_has_both_languages_and_the_same_blanks() -> None:
    for name, texts in LABELS.items():
        assert set(texts) == {"en", "zh"}, name
        blanks = [sorted(re.findall(r"\{(\w+)", texts[language])) for language in ("en", "zh")]
        assert blanks[0] == blanks[1], name
