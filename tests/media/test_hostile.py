"""What the door refuses, whichever way it comes: content, names, text and objects, each with its own code."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from media_files import (
    animation,
    bmp_header,
    bmp_rle,
    chunk,
    encoded,
    gif_header,
    jpeg_of_passes,
    jpeg_with,
    noise,
    png_header,
    png_with,
    segment,
    swollen_tags,
    tiff,
    tiled_tiff,
    webp_header,
    zip_file,
)
from PIL import Image

from xverse_v.errors import XverseError
from xverse_v.media import MediaLimits, open_image

SMALL = MediaLimits(max_bytes=100_000, max_pixels=40_000_000, max_side=20_000, max_frames=5)


pytestmark = pytest.mark.filterwarnings("ignore:(Corrupt EXIF|Truncated File|Metadata|Tag data larger):UserWarning")

PNG = encoded(noise(40, 30), "PNG")
JPEG = encoded(noise(40, 30), "JPEG")
GIF_START = encoded(noise(40, 30).quantize(16), "GIF")[: 13 + 3 * 16]
GIF_REST = encoded(noise(40, 30).quantize(16), "GIF")[len(GIF_START) :]
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
    "a picture and a ZIP behind it": (PNG + zip_file(), "E527", "ZIP"),
    "a ZIP inside a PNG's chunk": (PNG[:-12] + chunk(b"zIPp", zip_file()) + PNG[-12:], "E527", "ZIP"),
    "GIFAR": (encoded(noise(40, 30).quantize(), "GIF") + zip_file(), "E527", "GIF"),
    "JPEG that is a PDF": (jpeg_with(segment(0xFE, b"%PDF-1.4\n1 0 obj")), "E527", "PDF"),
    "BMP that is a RAR": (encoded(noise(40, 30), "BMP") + b"Rar!\x1a\x07\x01\0", "E527", "RAR"),
    "TIFF that is a 7-Zip": (encoded(noise(40, 30), "TIFF") + b"7z\xbc\xaf\x27\x1c\0\4", "E527", "7-Zip"),
    "colour profile that unpacks to 40 MB": (
        png_with(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(40_000_000), 9))),
        "E516",
        "too large",
    ),
    "text that unpacks to 40 MB": (
        png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(40_000_000), 9))),
        "E516",
        "too large",
    ),
    "international text that unpacks to 40 MB": (
        png_with(chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(40_000_000), 9))),
        "E516",
        "too large",
    ),
    "eleven colour profiles": (png_with(chunk(b"iCCP", b"a\0\0" + zlib.compress(b"a")) * 11), "E526", "11 colour"),
    "JPEG of many passes": (jpeg_of_passes(95), "E526", "105 passes"),
    "JPEG of many comments": (jpeg_with(segment(0xFE, b"") * 5_001), "E526", "5,001 segments"),
    "JPEG whose EXIF tags overlap": (
        jpeg_with(segment(0xE1, b"Exif\0\0" + swollen_tags(300, 60_000))),
        "E526",
        "18,000,000 bytes",
    ),
    "JPEG of two EXIF parts that overlap": (
        jpeg_with(
            segment(0xE1, b"Exif\0\0" + swollen_tags(50, 80_000)[:60_000]) + segment(0xE1, b"Exif\0\0" + bytes(30_000))
        ),
        "E526",
        "4,000,000 bytes",
    ),
    "TIFF whose tags overlap": (swollen_tags(300, 60_000), "E526", "overlapping"),
    "TIFF of too many tags": (tiff({1_000 + number: 7 for number in range(4_097)}), "E526", "4,097 tags"),
    "16 pixels in a tile of a billion": (tiled_tiff(16, 16, 32_768, 32_768), "E526", "1,073,741,824 pixels"),
    "tiles a pixel wide and 20,000 high": (tiled_tiff(20_000, 16, 16, 20_000), "E526", "400,000,000 pixels"),
    "GIF of many comments": (GIF_START + b"!\xfe\x01c\0" * 5_001 + GIF_REST, "E526", "10,001 blocks"),
    "GIF of a long comment": (GIF_START + b"!\xfe" + b"\x01c" * 10_001 + b"\0" + GIF_REST, "E526", "10,001 blocks"),
    "PNG of a million frames": (
        png_with(chunk(b"acTL", struct.pack(">II", 1_000_000, 0))),
        "E514",
        "5 frames",
    ),
    "BMP of endless lines": (bmp_rle(20_000, 2_000, b"\0\0" * 45_000), "E516", "BMP"),
    "BMP of endless small pieces": (bmp_rle(20_000, 2_000, b"\0\3\7\7\7\0" * 15_000), "E516", "BMP"),
    "BMP of short runs": (bmp_rle(20_000, 2_000, b"\1\7" * 45_000), "E516", "BMP"),
    "floating-point TIFF": (encoded(Image.new("F", (4, 4)), "TIFF"), "E518", "floating"),
}


@pytest.mark.parametrize("name", REFUSED_CONTENT)
def test_hostile_content_is_refused_with_its_code(name: str, tmp_path: Path, watchdog: None) -> None:
    data, code, word = REFUSED_CONTENT[name]
    path = tmp_path / "holiday.png"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(XverseError) as refused:
            open_image(source, limits=SMALL)
        assert refused.value.code == code
        assert word in refused.value.text("en")
        assert ("holiday.png" in refused.value.text("en")) == (source is path)


# As large as the default limits let them be; built when the test runs.
HEAVY: dict[str, tuple[Callable[[], bytes], str]] = {
    "PNG of a million chunks": (lambda: png_with(chunk(b"prIv", b"") * 1_000_000), "E526"),
    "PNG of ten thousand colour profiles": (
        lambda: png_with(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 10_000),
        "E526",
    ),
    "JPEG of ten thousand passes": (lambda: jpeg_of_passes(10_000), "E526"),
    "JPEG of four million comments": (lambda: jpeg_with(segment(0xFE, b"") * 4_000_000), "E526"),
    "TIFF of 4,000 tags, 2 MB each": (lambda: swollen_tags(4_000, 2_000_000), "E526"),
    "GIF of a million frames": (
        lambda: GIF_START + (b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0" * 1_000_000) + b";",
        "E514",
    ),
    "GIF of a million comments": (lambda: GIF_START + b"!\xfe\x01c\0" * 1_000_000 + GIF_REST, "E526"),
    "data URL of 50 MB of blanks": (lambda: b"data:image/png;base64," + b" " * 50_000_000, "E511"),
    "text of 50 MB": (lambda: b"a" * 50_000_000, "E504"),
    "URL of 50 MB": (lambda: b"https://" + b"a" * 50_000_000, "E506"),
}


@pytest.mark.parametrize("name", HEAVY)
def test_heavy_content_is_refused_at_once(name: str, watchdog: None) -> None:
    make, code = HEAVY[name]
    data = make()
    is_text = code in ("E504", "E506") or data.startswith(b"data:")
    with pytest.raises(XverseError) as refused:
        open_image(data.decode() if is_text else data)
    assert refused.value.code == code
    assert len(refused.value.text("en")) < 1_000
