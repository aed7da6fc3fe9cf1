"""What the door lets in: odd images open in their own mode, by every way there is; no limit is off by one."""

from __future__ import annotations

import base64
import io
import re
import threading
import tomllib
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from media_files import (
    animation,
    chunk,
    data_url,
    encoded,
    jpeg_with,
    jpeg_with_broken_exif,
    noise,
    png_with,
    segment,
    swollen_tags,
    tiled_tiff,
)
from PIL import Image, ImageFile, ImageOps

from xverse_v.errors import XverseError
from xverse_v.media import DEFAULT_LIMITS, MediaLimits, open_base64, open_image, read_source

PNG = encoded(noise(40, 30), "PNG")

pytestmark = pytest.mark.filterwarnings("ignore:(Corrupt EXIF|Truncated File|Metadata|Tag data larger):UserWarning")

GRADIENT_16 = (np.arange(64 * 32, dtype=np.uint32).reshape(32, 64) * 31).astype(np.uint16)

OPENS: dict[str, tuple[Callable[[], bytes], str, str, tuple[int, int]]] = {
    "photograph": (
        lambda: encoded(noise(400, 300).resize((4032, 3024)), "JPEG", quality=70),
        "JPEG",
        "RGB",
        (4032, 3024),
    ),
    "grey JPEG": (lambda: encoded(noise(20, 30).convert("L"), "JPEG"), "JPEG", "L", (20, 30)),
    "CMYK JPEG": (lambda: encoded(noise(20, 30).convert("CMYK"), "JPEG"), "JPEG", "CMYK", (20, 30)),
    "progressive JPEG": (lambda: encoded(noise(20, 30), "JPEG", progressive=True), "JPEG", "RGB", (20, 30)),
    "JPEG with text behind": (lambda: encoded(noise(20, 30), "JPEG") + b"trailing", "JPEG", "RGB", (20, 30)),
    "JPEG with broken EXIF": (jpeg_with_broken_exif, "JPEG", "RGB", (20, 30)),
    "MPO": (lambda: encoded(noise(20, 30), "MPO", save_all=True, append_images=[noise(9, 9)]), "JPEG", "RGB", (20, 30)),
    "1x1 PNG": (lambda: encoded(noise(1, 1), "PNG"), "PNG", "RGB", (1, 1)),
    "16-bit PNG": (lambda: encoded(Image.fromarray(GRADIENT_16), "PNG"), "PNG", "I;16", (64, 32)),
    "1-bit PNG": (lambda: encoded(noise(20, 30).convert("1"), "PNG"), "PNG", "1", (20, 30)),
    "palette PNG, transparent": (lambda: encoded(noise(9, 8).quantize(8), "PNG", transparency=0), "PNG", "P", (9, 8)),
    "LA PNG": (lambda: encoded(noise(20, 30).convert("LA"), "PNG"), "PNG", "LA", (20, 30)),
    "RGBA PNG": (lambda: encoded(noise(20, 30).convert("RGBA"), "PNG"), "PNG", "RGBA", (20, 30)),
    "animated PNG": (lambda: animation("PNG", 3), "PNG", "RGB", (12, 10)),
    "lossy WebP": (lambda: encoded(noise(20, 30), "WEBP"), "WEBP", "RGB", (20, 30)),
    "lossless WebP, alpha": (
        lambda: encoded(noise(20, 30).convert("RGBA"), "WEBP", lossless=True, exact=True),
        "WEBP",
        "RGB",
        (20, 30),
    ),
    "animated WebP": (lambda: animation("WEBP", 3), "WEBP", "RGB", (12, 10)),
    "BMP": (lambda: encoded(noise(20, 30), "BMP"), "BMP", "RGB", (20, 30)),
    "animated GIF": (lambda: animation("GIF", 3), "GIF", "P", (12, 10)),
    "TIFF": (lambda: encoded(noise(20, 30), "TIFF", compression="tiff_lzw"), "TIFF", "RGB", (20, 30)),
    "TIFF of three pages": (lambda: animation("TIFF", 3), "TIFF", "RGB", (12, 10)),
    "16-bit TIFF": (lambda: encoded(Image.fromarray(GRADIENT_16), "TIFF"), "TIFF", "I;16", (64, 32)),
    "strip of the longest side": (
        lambda: encoded(Image.new("RGB", (20_000, 200), "red"), "PNG"),
        "PNG",
        "RGB",
        (20_000, 200),
    ),
}


@pytest.mark.parametrize("name", OPENS)
def test_odd_images_open_in_their_own_mode(name: str, tmp_path: Path) -> None:
    make, kind, mode, size = OPENS[name]
    data = make()
    path = tmp_path / "image.dat"  # the name says nothing
    path.write_bytes(data)
    image = open_image(path)
    assert (image.format, image.mode, image.size) == (kind, mode, size)
    assert image.getexif().get(0x0112, 1) == 1
    assert open_image(data).tobytes() == image.tobytes() == open_image(str(path)).tobytes()


@pytest.mark.parametrize("name", ["animated PNG", "animated WebP", "animated GIF", "TIFF of three pages"])
def test_the_first_frame_is_returned_and_the_others_are_counted(name: str) -> None:
    data = OPENS[name][0]()
    image = open_image(data)
    assert image.info["frames"] == 3
    with Image.open(io.BytesIO(data)) as lazy:
        assert image.convert("RGB").tobytes() == lazy.convert("RGB").tobytes()


def test_pixels_are_those_of_pillow_for_every_sort_of_image() -> None:
    for make, *_ in OPENS.values():
        data = make()
        with Image.open(io.BytesIO(data)) as lazy:
            assert open_image(data).tobytes() == lazy.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_survives_and_is_not_applied(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a maker's name"
    image = open_image(encoded(noise(20, 30), kind, exif=exif))
    assert image.size == (20, 30) and dict(image.getexif()) == {0x0112: 6}
    assert ImageOps.exif_transpose(image).size == (30, 20)


def test_damaged_exif_never_costs_the_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a maker's name"
    sound = exif.tobytes()
    random, unreadable = np.random.RandomState(0), 0
    for _ in range(300):
        damaged = bytearray(sound)
        for place in random.randint(6, len(damaged), size=4):
            damaged[place] = random.randint(256)
        given = noise(20, 30)
        given.info["exif"] = bytes(damaged)
        image = open_image(given)
        unreadable += image.info.get("exif_unreadable", False)
        assert ImageOps.exif_transpose(image).size in {(20, 30), (30, 20)}
    assert 0 < unreadable < 300


def test_a_turned_tiff_is_turned_once() -> None:
    """Pillow's TIFF decoder turns the image itself, so nothing may be left for the processor to turn again."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(noise(20, 30), "TIFF", exif=exif)
    for source in (data, Image.open(io.BytesIO(data))):
        image = open_image(source)
        assert image.size == (30, 20) and 0x0112 not in image.getexif()


def test_data_urls_open_whatever_type_they_state() -> None:
    picture = noise(20, 30)
    png = encoded(picture, "PNG")
    wrapped = base64.encodebytes(png).decode()
    for url in (data_url(png), data_url(png, "image/jpeg"), f"DATA:image/png;name=a.png;BASE64,{wrapped}"):
        assert open_image(url).tobytes() == picture.tobytes()


def test_a_pil_image_is_copied_with_its_info_and_its_turn() -> None:
    given = noise(20, 30)
    given.getexif()[0x0112] = 3
    image = open_image(given)
    image.putpixel((0, 0), (1, 2, 3))
    assert given.getpixel((0, 0)) != (1, 2, 3) and image.getexif()[0x0112] == 3


def test_base64_opens_with_and_without_a_head() -> None:
    for text in (base64.b64encode(PNG).decode(), base64.encodebytes(PNG).decode(), data_url(PNG)):
        assert open_base64(text).size == (40, 30)
    for text, code in (("%%%", "E524"), ("", "E510"), ("data:text/html;base64,AA", "E523"), ("A" * 40_000_000, "E511")):
        with pytest.raises(XverseError) as refused:
            open_base64(text)
        assert refused.value.code == code
    with pytest.raises(XverseError) as refused:
        open_base64(b"AAAA")  # type: ignore[arg-type]
    assert refused.value.code == "E525"


def test_what_needs_no_file_opens_where_files_are_refused() -> None:
    for source in (PNG, data_url(PNG), Image.open(io.BytesIO(PNG))):
        assert open_image(source, paths=False).size == (40, 30)


def test_the_bytes_of_a_source_can_be_had_undecoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"anything")
    assert read_source(path) == (b"anything", str(path))
    assert read_source("a.png", root=tmp_path) == (b"anything", "a.png")
    assert read_source(bytearray(b"x")) == (b"x", "<bytes>")
    assert read_source("data:application/pdf;base64,eA==", media_type="application/pdf") == (b"x", "<data URL>")


HONEST_ODDITIES: dict[str, Callable[[], bytes]] = {
    "motion photograph": lambda: encoded(noise(40, 30), "JPEG") + b"\0\0\0\x18ftypmp42" + bytes(99),
    "two thousand chunks": lambda: png_with(chunk(b"prIv", b"") * 2_000),
    "long colour profile": lambda: jpeg_with(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)) * 1),
    "tiles over the edge": lambda: tiled_tiff(40, 30, 256, 256),
    "the letters of a ZIP": lambda: jpeg_with(segment(0xFE, b"PK\5\6" + bytes(40))),
    "a mention of PDF": lambda: png_with(chunk(b"tEXt", b"Source\0a PDF of 1999")),
}


@pytest.mark.parametrize("name", HONEST_ODDITIES)
def test_what_is_odd_and_harmless_still_opens(name: str) -> None:
    assert open_image(HONEST_ODDITIES[name]()).size == (40, 30)


def test_swollen_exif_does_not_cost_a_sound_png() -> None:
    image = open_image(png_with(chunk(b"eXIf", swollen_tags(300, 60_000))))
    assert image.size == (40, 30) and image.info["exif_unreadable"] is True
    given = noise(20, 30)
    given.info["exif"] = b"Exif\0\0" + swollen_tags(300, 60_000)
    assert open_image(given).info["exif_unreadable"] is True
    as_text = (b"Exif\0\0" + swollen_tags(300, 60_000)).hex()
    text = png_with(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(f"\nexif\n9\n{as_text}".encode())))
    assert open_image(text).info["exif_unreadable"] is True


def test_a_png_of_bytes_like_objects_and_sixteen_threads() -> None:
    picture = noise(64, 64)
    png = encoded(picture, "PNG")
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: results.append(open_image(memoryview(png)).tobytes())) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [picture.tobytes()] * 16


def test_pillows_own_settings_are_left_alone_and_never_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    open_image(PNG)
    assert limit == Image.MAX_IMAGE_PIXELS and not ImageFile.LOAD_TRUNCATED_IMAGES
    # Another library of the same process asks Pillow to fill missing ends with grey.
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF"):
        data = encoded(noise(40, 30).quantize() if kind == "GIF" else noise(40, 30), kind)
        assert open_image(data).size == (40, 30)
        with pytest.raises(XverseError) as refused:
            open_image(data[: len(data) // 2])
        assert refused.value.code == "E517", kind


def test_limits_are_inclusive() -> None:
    exact = MediaLimits(max_bytes=len(PNG), max_pixels=40 * 30, max_side=40, max_frames=1)
    assert open_image(PNG, limits=exact).size == (40, 30)
    assert (DEFAULT_LIMITS.max_side, DEFAULT_LIMITS.max_pixels) == (20_000, 40_000_000)


def test_every_text_is_complete_in_both_languages() -> None:
    package = Path(__file__).parent.parent.parent / "xverse_v"
    entries = tomllib.loads((package / "catalogue" / "media.toml").read_text(encoding="utf-8"))
    raisers = [*(package / "media").glob("*.py"), package / "cli" / "tiles.py"]
    used = {code for path in raisers for code in re.findall(r'"(E5\d\d)"', path.read_text(encoding="utf-8"))}
    assert used == set(entries)
    for code, entry in entries.items():
        assert 500 <= int(code[1:]) < 550
        for language in ("en", "zh"):
            assert set(entry[language]) == {"fact", "cause", "next"}, code
            assert all(
                any("\u4e00" <= c <= "\u9fff" for c in text) == (language == "zh") for text in entry[language].values()
            )
