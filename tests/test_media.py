"""The door for images: odd ones open in their own mode, hostile ones are refused, each with its own code."""

from __future__ import annotations

import base64
import io
import os
import re
import socket
import struct
import threading
import tomllib
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from xverse_v.errors import XverseError
from xverse_v.media import DEFAULT_LIMITS, MediaLimits, open_image

SMALL = MediaLimits(max_bytes=100_000, max_pixels=40_000_000, max_side=20_000, max_frames=5)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is this large and holds next to nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


def webp_header(width: int, height: int) -> bytes:
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4 + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little") + b"VP8L" + struct.pack("<I", 6) + b"\x2f" + b"\0" * 5
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_header(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def gif_header(width: int, height: int) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x01\x44\x00\x3b"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0" * 6 + frame


def animation(kind: str, frames: int) -> bytes:
    images = [noise(12, 10, seed).quantize(16) if kind == "GIF" else noise(12, 10, seed) for seed in range(frames)]
    return encoded(images[0], kind, save_all=True, append_images=images[1:])


def jpeg_with_broken_exif() -> bytes:
    return encoded(noise(20, 30), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\xff\xff")


pytestmark = pytest.mark.filterwarnings("ignore:(Corrupt EXIF|Truncated File|Metadata|Tag data larger):UserWarning")

# What opens ------------------------------------------------------------------------------------------------

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


# What is refused -------------------------------------------------------------------------------------------

PNG = encoded(noise(40, 30), "PNG")
JPEG = encoded(noise(40, 30), "JPEG")
SVG = b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"></svg>'

REFUSED_CONTENT: dict[str, tuple[bytes, str, str]] = {
    # name: content, code, a word that must stand in the English text
    "nothing": (b"", "E510", "0 bytes"),
    "one byte": (b"\xff", "E521", "ff"),
    "text": (b"hello, I am no image", "E521", "68 65 6c"),
    "zeros": (b"\0" * 500, "E521", "00 00"),
    "text that starts like a BMP": (b"BMW is a maker of cars, not of images", "E521", "42 4d"),
    "SVG": (SVG, "E520", "SVG"),
    "SVG without a prologue": (b"  \n<svg width='1'/>", "E520", "SVG"),
    "SVG in UTF-16": ("<svg></svg>".encode("utf-16"), "E520", "SVG"),
    "HTML": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "E520", "HTML"),
    "HTML, upper case": (b"\n\n<HTML>error</HTML>", "E520", "HTML"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "E520", "XML"),
    "JSON": (b'{"error": "no such image"}', "E520", "JSON"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3", "E520", "PDF"),
    "PDF behind blanks": (b"\r\n \r\n%PDF-1.4", "E520", "PDF"),
    "ZIP": (b"PK\x03\x04" + b"\0" * 30, "E520", "ZIP"),
    "GZIP": (b"\x1f\x8b\x08\0" + b"\0" * 30, "E520", "GZIP"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "E520", "HEIC"),
    "AVIF": (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", "E520", "AVIF"),
    "video": (b"\0\0\0\x18ftypisom\0\0\0\0", "E520", "MP4"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "E520", "PostScript"),
    "PSD": (b"8BPS\0\x01" + b"\0" * 30, "E520", "PSD"),
    "FITS": (b"SIMPLE  =                    T", "E520", "FITS"),
    "PNM": (b"P6 1 1 255\n\0\0\0", "E520", "PNM"),
    "ICO": (b"\0\0\x01\0\x01\0" + b"\0" * 30, "E520", "ICO"),
    "WAV": (b"RIFF\x24\0\0\0WAVEfmt ", "E520", "WAV"),
    "TAR": (b"a.png".ljust(257, b"\0") + b"ustar\0" + b"\0" * 250, "E520", "TAR"),
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "E520", "Git LFS"),
    "JPEG cut in half": (JPEG[: len(JPEG) // 2], "E517", str(len(JPEG) // 2)),
    "JPEG without its last byte": (JPEG[:-1], "E517", "JPEG"),
    "JPEG of three bytes": (JPEG[:3], "E517", "3 bytes"),
    "PNG cut in half": (PNG[: len(PNG) // 2], "E517", "PNG"),
    "PNG cut in its header": (PNG[:20], "E517", "20 bytes"),
    "WebP cut in half": (encoded(noise(40, 30), "WEBP")[:200], "E517", "WEBP"),
    "BMP cut in half": (encoded(noise(40, 30), "BMP")[:900], "E517", "BMP"),
    "GIF cut in half": (encoded(noise(40, 30).quantize(), "GIF")[:900], "E517", "GIF"),
    "TIFF cut in half": (encoded(noise(40, 30), "TIFF")[:1900], "E517", "TIFF"),
    "PNG with garbage for pixels": (PNG[:60] + b"\x55" * 80 + PNG[140:], "E516", "PNG"),
    "PNG with a wrong checksum": (PNG[:29] + b"\0\0\0\0" + PNG[33:], "E516", "PNG"),
    "TIFF of nothing": (b"II*\0\x08\0\0\0\0\0\0\0\0\0\0\0", "E516", "TIFF"),
    "30,000 x 30,000 PNG header": (png_header(30_000, 30_000), "E513", "30000x30000"),
    "20,001 x 1 PNG header": (png_header(20_001, 1), "E513", "20001x1"),
    "12,000 x 12,000 PNG header": (png_header(12_000, 12_000), "E512", "144,000,000"),
    "16,000 x 16,000 WebP canvas": (webp_header(16_000, 16_000), "E512", "256,000,000"),
    "16,000,000 wide WebP canvas": (webp_header(16_000_000, 16), "E513", "16000000x16"),
    "65,535 x 65,535 GIF header": (gif_header(65_535, 65_535), "E513", "65535x65535"),
    "2,000,000,000 wide BMP header": (bmp_header(2_000_000_000, 1), "E513", "2000000000x1"),
    "0 x 0 PNG header": (png_header(0, 0), "E516", "PNG"),
    "too many bytes": (PNG + b"\0" * 100_000, "E511", "100,000"),
    "GIF of six frames": (animation("GIF", 6), "E514", "5 frames"),
    "TIFF of six pages": (animation("TIFF", 6), "E514", "5 frames"),
    "PNG of six frames": (animation("PNG", 6), "E514", "5 frames"),
    "WebP of six frames": (animation("WEBP", 6), "E514", "5 frames"),
    "TIFF whose pages form a ring": (
        b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 256, 4, 1, 1) + struct.pack("<I", 8),
        "E514",
        "5 frames",
    ),
    "floating-point TIFF": (encoded(Image.new("F", (4, 4)), "TIFF"), "E518", "floating"),
}


@pytest.mark.parametrize("name", REFUSED_CONTENT)
def test_hostile_content_is_refused_with_its_code(name: str, tmp_path: Path) -> None:
    data, code, word = REFUSED_CONTENT[name]
    path = tmp_path / "holiday.png"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(XverseError) as refused:
            open_image(source, limits=SMALL)
        assert refused.value.code == code
        assert word in refused.value.text("en")
        assert ("holiday.png" in refused.value.text("en")) == (source is path)


REFUSED_STRINGS: dict[str, tuple[str, str]] = {
    "http": ("http://example.com/a.png", "E506"),
    "https, upper case": ("HTTPS://example.com/a.png", "E506"),
    "file with a host": ("file:///etc/passwd", "E507"),
    "file without slashes": ("file:/etc/passwd", "E507"),
    "ftp": ("ftp://example.com/a.png", "E508"),
    "s3": ("s3://bucket/a.png", "E508"),
    "NUL in the name": ("a\0.png", "E504"),
    "empty name": ("", "E504"),
    "bare base64": (base64.b64encode(bytes(4000)).decode(), "E504"),
    "missing file": ("no-such-image.png", "E500"),
    "below a file": (f"{__file__}/a.png", "E500"),
    "folder": (os.path.dirname(__file__), "E501"),
    "device": (os.devnull, "E502"),
    "data URL without base64": ("data:image/png,abc", "E522"),
    "data URL without a comma": ("data:image/png;base64" + "A" * 3000, "E522"),
    "data URL of a page": ("data:text/html;base64,PGh0bWw+", "E523"),
    "data URL without a type": ("data:;base64,iVBORw0K", "E523"),
    "data URL, letters outside base64": ("data:image/png;base64,%%%%", "E524"),
    "data URL, cut": (data_url(PNG)[:-1], "E524"),
    "data URL of nothing": ("data:image/png;base64,", "E510"),
    "data URL of an SVG": (data_url(SVG, "image/svg+xml"), "E520"),
    "data URL of 50 MB": ("data:image/png;base64," + "A" * 50_000_000, "E511"),
}


@pytest.mark.parametrize("name", REFUSED_STRINGS)
def test_hostile_strings_are_refused_with_their_code(name: str) -> None:
    source, code = REFUSED_STRINGS[name]
    with pytest.raises(XverseError) as refused:
        open_image(source)
    assert refused.value.code == code
    assert len(refused.value.text("en")) < 1_000


def test_pipes_sockets_and_link_loops_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "to-pipe.png").symlink_to("pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    with socket.socket(socket.AF_UNIX) as server:
        place = os.getcwd()
        os.chdir(tmp_path)  # a socket's address is short
        try:
            server.bind("socket.png")
        finally:
            os.chdir(place)
        for name, code in [("pipe.png", "E502"), ("to-pipe.png", "E502"), ("socket.png", "E502"), ("loop.png", "E503")]:
            with pytest.raises(XverseError) as refused:
                open_image(tmp_path / name)
            assert refused.value.code == code, name


def test_an_unreadable_file_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(XverseError, match="Permission denied") as refused:
        open_image(path)
    assert refused.value.code == "E503"


def test_root_confines_paths_and_their_links(tmp_path: Path) -> None:
    root = tmp_path / "images"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "a.png").write_bytes(PNG)
    (root / "inside.png").symlink_to(root / "deep" / "a.png")
    sibling = tmp_path / "images_secret"  # a prefix test on strings would let it in
    sibling.mkdir()
    (sibling / "b.png").write_bytes(PNG)
    (root / "escape.png").symlink_to(sibling / "b.png")
    (root / "escape").symlink_to(sibling)

    for inside in ("deep/a.png", "inside.png", "deep/../inside.png", root / "deep" / "a.png"):
        assert open_image(inside, root=root).size == (40, 30)
    for outside in ("escape.png", "escape/b.png", "../images_secret/b.png", str(sibling / "b.png"), "/etc/hostname"):
        with pytest.raises(XverseError) as refused:
            open_image(outside, root=root)
        assert refused.value.code == "E505", outside
    assert open_image(root / "escape.png").size == (40, 30)  # without a root the user's own links are followed
    assert open_image(PNG, root=root).size == (40, 30)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (None, "E525"),
        (7, "E525"),
        (["a.png"], "E525"),
        (Image.new("RGB", (0, 5)), "E515"),
        (Image.new("F", (5, 5)), "E518"),
    ],
)
def test_objects_that_are_no_image_are_refused(source: object, code: str) -> None:
    with pytest.raises(XverseError) as refused:
        open_image(source)  # type: ignore[arg-type]
    assert refused.value.code == code


def test_pil_images_meet_the_size_limits_and_must_load() -> None:
    with pytest.raises(XverseError) as too_long:
        open_image(Image.new("L", (20_001, 1)))
    assert too_long.value.code == "E513"
    with pytest.raises(XverseError) as broken:
        open_image(Image.open(io.BytesIO(PNG[:-200])))
    assert broken.value.code == "E519"


def test_control_characters_of_a_name_do_not_reach_the_terminal() -> None:
    with pytest.raises(XverseError) as refused:
        open_image("evil\x1b[31m\r\n.png")
    assert "\x1b" not in refused.value.text("en") and "\\x1b[31m\\r\\n.png" in refused.value.text("en")


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
    package = Path(__file__).parent.parent / "xverse_v"
    entries = tomllib.loads((package / "catalogue" / "media.toml").read_text(encoding="utf-8"))
    raisers = [package / "media" / "door.py", package / "cli" / "tiles.py"]
    used = {code for path in raisers for code in re.findall(r'"(E5\d\d)"', path.read_text(encoding="utf-8"))}
    assert used == set(entries)
    for code, entry in entries.items():
        assert 500 <= int(code[1:]) < 550
        for language in ("en", "zh"):
            assert set(entry[language]) == {"fact", "cause", "next"}, code
            assert all(
                any("\u4e00" <= c <= "\u9fff" for c in text) == (language == "zh") for text in entry[language].values()
            )
