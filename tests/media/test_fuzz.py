"""Damaged in any way, the files of every format either open as an image within the limits or are refused by a code."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_files import animation, bmp_rle, encoded, jpeg_with_broken_exif, noise, png_with, tiled_tiff
from PIL import Image

from xverse_v.errors import XverseError
from xverse_v.media import MediaLimits, RemotePolicy, open_image

LIMITS = MediaLimits(max_bytes=100_000, max_pixels=1_000_000, max_side=5_000, max_frames=10)
NOWHERE = RemotePolicy(hosts=("a.com", "*.a.com", "a:1"), resolver=lambda host, port: [])
EXIF = Image.Exif()
EXIF[0x0112] = 6

SEEDS = [
    encoded(noise(40, 30), "JPEG", exif=EXIF),
    encoded(noise(40, 30), "JPEG", progressive=True),
    encoded(noise(40, 30).convert("CMYK"), "JPEG"),
    jpeg_with_broken_exif(),
    encoded(noise(40, 30), "PNG", exif=EXIF),
    encoded(noise(20, 15).quantize(16), "PNG", transparency=1),
    encoded(noise(40, 30), "WEBP", exif=EXIF),
    encoded(noise(40, 30), "WEBP", lossless=True),
    encoded(noise(40, 30), "BMP"),
    bmp_rle(40, 30, b"\x28\x07\0\0" * 30 + b"\0\1"),
    encoded(noise(40, 30).quantize(), "GIF"),
    encoded(noise(40, 30), "TIFF", compression="tiff_lzw", exif=EXIF),
    encoded(noise(40, 30), "TIFF", compression="tiff_deflate"),
    encoded(noise(40, 30).convert("1"), "TIFF", compression="group4"),
    encoded(noise(40, 30), "TIFF", compression="jpeg"),
    tiled_tiff(40, 30, 16, 16),
    *(animation(kind, 3) for kind in ("GIF", "PNG", "WEBP", "TIFF")),
]

NUMBERS = [0, 1, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]
NUMBERS_AS_BYTES = [
    struct.pack(order + size, number & mask)
    for number in NUMBERS
    for order in "<>"
    for size, mask in (("H", 0xFFFF), ("I", 0xFFFFFFFF))
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound file of which pieces were overwritten, left out, doubled or taken from another file."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        # Half of all damage goes to the head, where a byte means most.
        place = draw(st.integers(0, min(len(data), 120)) | st.integers(0, len(data)))
        match draw(st.integers(0, 5)):
            case 0:
                data[place : place + 1] = draw(st.binary(min_size=1, max_size=4))
            case 1:
                number = draw(st.sampled_from(NUMBERS_AS_BYTES))
                data[place : place + len(number)] = number
            case 2:
                del data[place : place + draw(st.integers(1, 64))]
            case 3:
                data[place:place] = data[place : place + draw(st.integers(1, 200))] * draw(st.integers(1, 20))
            case 4:
                other = draw(st.sampled_from(SEEDS))
                start = draw(st.integers(0, len(other)))
                data[place:place] = other[start : start + draw(st.integers(1, 200))]
            case _:
                del data[place:]
    return bytes(data)


def with_sound_checksums(data: bytes) -> bytes:
    """A damaged PNG whose checksums are right again, so that the decoder looks further."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    mended, place = bytearray(data[:8]), 8
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        body = data[place + 4 : end]
        mended += data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place = end + 4
    return bytes(mended)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=200, deadline=None)
@given(damaged())
def test_a_damaged_file_is_an_image_or_an_error_with_a_code(data: bytes) -> None:
    for file in (data, with_sound_checksums(data)):
        try:
            image = open_image(file, limits=LIMITS)
        except XverseError as refused:
            assert 510 <= int(refused.code[1:]) <= 527
            assert len(refused.text("en")) < 1_000 and refused.text("zh")
        else:
            assert image.width * image.height <= LIMITS.max_pixels and max(image.size) <= LIMITS.max_side
            assert len(image.tobytes()) > 0 and image.info.get("frames", 2) >= 2


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text("https:/.@?#[]%\\0x1aé:", max_size=40).map("https://".__add__))
def test_any_text_is_refused_with_a_code(text: str) -> None:
    allowed = {"E507", "E508", "E509", "E522", "E523", "E524"}
    for remote, more in ((None, {"E506"}), (NOWHERE, {f"E{code}" for code in range(528, 535)})):
        with pytest.raises(XverseError) as refused:
            open_image(text, paths=False, remote=remote)
        assert refused.value.code in allowed | more


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_code(data: bytes) -> None:
    with pytest.raises(XverseError):
        open_image(data, limits=LIMITS)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_seeds_are_sound() -> None:
    for seed in SEEDS:
        assert open_image(seed, limits=LIMITS).size in {(40, 30), (30, 40), (20, 15), (20, 30), (12, 10)}
    assert open_image(with_sound_checksums(png_with(b""))).size == (40, 30)
