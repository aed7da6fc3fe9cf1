"""What decoding would cost, told from the block structure before a decoder runs.

Limits on bytes and pixels do not bound the work: a file of 2 MB can name the same megabyte as the content of five
thousand tags, ask for ten thousand passes over one image, or wrap sixteen pixels into a tile of a billion. Decoders
do as they are told. Each rule here was found by measuring such a file: seconds to minutes, or gigabytes, without it.

Bytes in, an error or nothing out; the format is known already (formats.py), and nothing is decompressed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import error as StructError
from struct import unpack_from

from ..errors import XverseError, error
from .formats import gif_blocks
from .limits import MediaLimits

_MOST_SCANS = 100  # passes of a progressive JPEG; ordinary ones have about ten
_MOST_SEGMENTS = 5_000  # before the pixels of a JPEG; the longest colour profile takes 255
_MOST_CHUNKS = 20_000  # of a PNG; an encoder with 1 kB buffers needs as many for the 20 MB that are let in
_MOST_BLOCKS = 10_000  # before the first frame of a GIF; 2.5 MB of comment
_MOST_TAGS = 4_096  # of a TIFF page
_MOST_PROFILES = 10  # of a PNG, which should have one
_MOST_OVERLAP = 4  # times its own size that the tags of a TIFF or EXIF may hold
_TILE_SLACK = 2  # tiles reach over the edge, so they may hold somewhat more than the image

_TILE_WIDTH, _TILE_LENGTH, _IMAGE_WIDTH, _IMAGE_LENGTH = 322, 323, 256, 257
_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def refuse_costly(data: bytes, kind: str, name: str, limits: MediaLimits) -> None:
    """Raises E526 for an image built to keep its decoder busy."""
    checks: dict[str, Callable[[bytes, MediaLimits], _Excess | None]]
    checks = {"JPEG": _jpeg_excess, "PNG": _png_excess, "GIF": _gif_excess, "TIFF": _tiff_excess}
    if kind in checks and (excess := checks[kind](data, limits)):
        raise excess.as_error(name, kind)


class _Excess:
    """Too much of something; `what` it is, in both languages."""

    def __init__(self, what: str, what_zh: str, got: int, limit: int) -> None:
        self.what, self.what_zh, self.got, self.limit = what, what_zh, got, limit

    def as_error(self, name: str, kind: str) -> XverseError:
        return error("E526", name=name, kind=kind, what=self.what, what_zh=self.what_zh, got=self.got, limit=self.limit)


# JPEG -----------------------------------------------------------------------------------------------------------------


def _jpeg_excess(data: bytes, limits: MediaLimits) -> _Excess | None:
    scans = data.count(b"\xff\xda")  # compressed pixels never hold these two bytes; a thumbnail may, once or twice
    if scans > _MOST_SCANS:
        return _Excess("passes over its pixels", "遍像素扫描", scans, _MOST_SCANS)
    exif = bytearray()
    for segments, (marker, body) in enumerate(_jpeg_segments(data), 1):
        if segments > _MOST_SEGMENTS:
            return _Excess("segments before its pixels", "个像素之前的数据段", segments, _MOST_SEGMENTS)
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif += body[6:]  # Pillow joins several into one
    return _overlapping_tags(bytes(exif))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of each segment up to the first scan. Stray bytes between them are skipped, as Pillow does."""
    position = 2
    while (position := data.find(b"\xff", position)) >= 0:
        marker = data[position + 1 : position + 2]
        if not marker or marker == b"\xda":
            return
        if marker in (b"\xff", b"\0") or 0xD0 <= marker[0] <= 0xD9:  # padding, no marker, markers without a body
            position += 1 if marker == b"\xff" else 2
            continue
        length = max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
        yield marker[0], data[position + 4 : position + 2 + length]
        position += 2 + length


# PNG and GIF ----------------------------------------------------------------------------------------------------------


def _png_excess(data: bytes, limits: MediaLimits) -> _Excess | None:
    chunks, profiles, position = 0, 0, 8
    while position + 8 <= len(data) and chunks <= _MOST_CHUNKS:
        chunks += 1
        profiles += data[position + 4 : position + 8] == b"iCCP"
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    if chunks > _MOST_CHUNKS:
        return _Excess("chunks", "个数据块", chunks, _MOST_CHUNKS)
    if profiles > _MOST_PROFILES:
        return _Excess("colour profiles", "个色彩配置", profiles, _MOST_PROFILES)
    return None


def _gif_excess(data: bytes, limits: MediaLimits) -> _Excess | None:
    blocks = gif_blocks(data, _MOST_BLOCKS + 1)
    if blocks > _MOST_BLOCKS:
        return _Excess("blocks before its first frame", "个首帧之前的数据块", blocks, _MOST_BLOCKS)
    return None


# TIFF and EXIF, which is a TIFF without pixels ----------------------------------------------------------------------


def tags_swell(data: bytes) -> bool:
    """Whether the tags of a TIFF's or EXIF's first page hold far more than all its bytes; False for other bytes.

    They can, because several may name the same place. A damaged length may make an honest file overlap a little.
    """
    return _tag_bytes(data) > _MOST_OVERLAP * len(data)


def _tag_bytes(data: bytes) -> int:
    return sum(size for _, size, _ in _tags(data))


def _overlapping_tags(data: bytes) -> _Excess | None:
    if not tags_swell(data):
        return None
    return _Excess("bytes in overlapping tags", "字节的重叠标签", _tag_bytes(data), _MOST_OVERLAP * len(data))


def _tiff_excess(data: bytes, limits: MediaLimits) -> _Excess | None:
    numbers, count = {}, 0
    for tag, _, number in _tags(data):
        numbers[tag] = number
        count += 1
    if count > _MOST_TAGS:
        return _Excess("tags", "个标签", count, _MOST_TAGS)
    wide, high = numbers.get(_TILE_WIDTH, 0), numbers.get(_TILE_LENGTH, 0)
    if wide and high:
        columns = -(-numbers.get(_IMAGE_WIDTH, 0) // wide)
        rows = -(-numbers.get(_IMAGE_LENGTH, 0) // high)
        pixels = columns * wide * rows * high
        if pixels > _TILE_SLACK * limits.max_pixels:
            return _Excess("pixels in its tiles", "像素的分块", pixels, _TILE_SLACK * limits.max_pixels)
    return _overlapping_tags(data)


def _tags(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Tag, bytes it holds outside its entry (0 if they are not all there), and its number if that stands in the entry.

    Stops where the data ends, so a damaged directory gives the tags before the damage.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return
    big = data[2:4] in (b"+\0", b"\0+")
    length, count_format, inside = ("Q", "Q", 8) if big else ("I", "H", 4)
    try:
        (start,) = unpack_from(order + length, data, 8 if big else 4)
        (count,) = unpack_from(order + count_format, data, start)
        place = start + (8 if big else 2)
        for _ in range(min(count, _MOST_TAGS + 1)):
            tag, kind, values = unpack_from(f"{order}HH{length}", data, place)
            place += 4 + inside
            unit = _TYPE_SIZES.get(kind, 0)
            size, held, number = unit * values, 0, 0
            if size > inside:
                (offset,) = unpack_from(order + length, data, place)
                held = size if offset + size <= len(data) else 0
            elif size:
                (number,) = unpack_from(order + _UNSIGNED[unit], data, place)
            yield tag, held, number
            place += inside
    except (StructError, OverflowError):
        return
