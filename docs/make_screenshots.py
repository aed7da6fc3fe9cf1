"""Retake the screenshots of the web demo: docs/images/demo-*.png.

What crosses: a folder in, PNG files of less than 200 kB each out. The page is the real one, in a real Chromium, with
the built-in model and its example images; nothing is retouched but the number of colours.

    python -m docs.make_screenshots [FOLDER]
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser

from tests.serving.demo.browser import Visitor, chromium, running_demo
from xverse_v import load
from xverse_v.serving.demo.options import Example

DEFAULT_FOLDER = Path(__file__).parent / "images"
MOST_BYTES = 200_000
WIDE = {"width": 1360, "height": 900}


def save(visitor: Visitor, path: Path, *, whole: bool = False) -> None:
    """The page as it stands, with as many colours as fit into `MOST_BYTES`."""
    visitor.page.mouse.move(0, 0)
    visitor.page.wait_for_timeout(600)
    shot = Image.open(io.BytesIO(visitor.page.screenshot(full_page=whole))).convert("RGB")
    for colours in (256, 128, 64, 32):
        shot.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < MOST_BYTES:
            return
    raise SystemExit(f"{path} has {path.stat().st_size} bytes with 32 colours")


def tour(browser: Browser, address: str, examples: list[Example], folder: Path) -> None:
    """Every panel once, light and English."""
    visitor = Visitor(browser, address, viewport=WIDE)
    save(visitor, folder / "demo-start.png")
    visitor.ask(examples[0].questions["en"], [examples[0].path])
    save(visitor, folder / "demo-tiles.png")
    visitor.tab("Evidence")
    visitor.press("Measure")
    visitor.page.wait_for_selector(".xv-heat")
    visitor.done()
    save(visitor, folder / "demo-evidence.png")
    visitor.tab("Confidence")
    save(visitor, folder / "demo-confidence.png")
    visitor.tab("Receipt")
    save(visitor, folder / "demo-receipt.png")
    visitor.tab("Settings")
    save(visitor, folder / "demo-settings.png")
    visitor.close()


def dark(browser: Browser, address: str, examples: list[Example], folder: Path) -> None:
    visitor = Visitor(browser, address, viewport=WIDE, color_scheme="dark")
    visitor.ask(examples[-1].questions["en"], [examples[-1].path])
    visitor.ask(examples[0].questions["en"], [examples[0].path])
    visitor.tab("Evidence")
    visitor.press("Measure")
    visitor.page.wait_for_selector(".xv-heat")
    visitor.done()
    save(visitor, folder / "demo-dark.png")
    visitor.close()


def chinese(browser: Browser, address: str, examples: list[Example], folder: Path) -> None:
    visitor = Visitor(browser, address, viewport=WIDE, locale="zh-CN")
    visitor.ask(examples[0].questions["zh"], [examples[0].path])
    visitor.tab("证据")
    visitor.press("测量")
    visitor.page.wait_for_selector(".xv-heat")
    visitor.done()
    save(visitor, folder / "demo-chinese.png")
    visitor.close()


def phone(browser: Browser, address: str, examples: list[Example], folder: Path) -> None:
    visitor = Visitor(browser, address, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    visitor.ask(examples[0].questions["en"], [examples[0].path])
    save(visitor, folder / "demo-phone.png", whole=True)
    visitor.close()


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as images,
        running_demo(load("nano"), Path(images)) as (address, demo),
        chromium() as browser,
    ):
        for part in (tour, dark, chinese, phone):
            part(browser, address, list(demo.examples), folder)


if __name__ == "__main__":
    main()
