"""Files for the door's tests, made byte by byte where no honest program would write them."""

from __future__ import annotations

import base64
import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_with(chunks: bytes) -> bytes:
    """A sound PNG with these chunks before its pixels."""
    sound = encoded(noise(40, 30), "PNG")
    return sound[:33] + chunks + sound[33:]


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_with(segments: bytes) -> bytes:
    """A sound JPEG with these segments in front."""
    sound = encoded(noise(40, 30), "JPEG")
    return sound[:2] + segments + sound[2:]


def jpeg_of_passes(passes: int) -> bytes:
    """A progressive JPEG whose last pass over the pixels is repeated."""
    sound = encoded(noise(40, 30), "JPEG", progressive=True)
    last = sound.rindex(b"\xff\xda")
    return sound[:-2] + sound[last:-2] * passes + sound[-2:]


def tiff(tags: dict[int, int | list[int]], behind: bytes = b"", order: str = "<") -> bytes:
    """A TIFF of one page with these tags, 32 bits each; several stand elsewhere. `behind` is what follows them."""
    entries, lists = b"", b""
    start = 8 + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, list) else [value]
        place = values[0] if len(values) == 1 else start + len(lists)
        entries += struct.pack(f"{order}HHII", tag, 4, len(values), place)
        lists += struct.pack(f"{order}{len(values)}I", *values) if len(values) > 1 else b""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}IH", 8, len(tags)) + entries + b"\0\0\0\0" + lists + behind


def tiled_tiff(width: int, height: int, tile_width: int, tile_height: int) -> bytes:
    """A grey TIFF of deflated black tiles, all of which are the same bytes."""
    tile = zlib.compress(bytes(min(tile_width * tile_height, 1 << 20)))
    count = -(-width // tile_width) * -(-height // tile_height)
    tags: dict[int, int | list[int]] = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1}
    tags |= {322: tile_width, 323: tile_height, 324: [0] * count, 325: [len(tile)] * count}
    tags[324] = [len(tiff(tags))] * count
    return tiff(tags, tile)


def swollen_tags(count: int, size: int) -> bytes:
    """EXIF (or a TIFF) of `count` tags, each of which holds the same `size` bytes."""
    entries = b"".join(struct.pack("<HHII", 40_000 + number, 7, size, 8) for number in range(count))
    return (b"II*\0" + struct.pack("<IH", 8, count) + entries + b"\0\0\0\0").ljust(size + 8, b"\0")


def zip_file() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("Evil.class", b"\xca\xfe\xba\xbe")
    return file.getvalue()


def bmp_rle(width: int, height: int, body: bytes) -> bytes:
    """A run-length encoded BMP of 256 greys."""
    palette = b"".join(bytes([grey, grey, grey, 0]) for grey in range(256))
    head = struct.pack("<IHHI", 54 + len(palette) + len(body), 0, 0, 54 + len(palette))
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + head + info + palette + body


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is this large and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


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
