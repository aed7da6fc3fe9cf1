"""What some bytes are, told from the bytes alone: which format, how many frames, whether the end is missing.

Bytes in, small answers out; never a file name, never a decoder, so a hostile file costs no more than reading it here.
The door (door.py) decides what to do with the answer.
"""

from __future__ import annotations

from struct import error as StructError
from struct import unpack_from

#: Formats the door decodes, by Pillow's name for them. MPO (two JPEGs in a row) is read as the JPEG it starts with.
DECODABLE = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

_BMP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)

_DECODABLE_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)

_OTHER_STARTS = (
    (b"%PDF-", "PDF"),
    (b"PK\x03\x04", "ZIP"),
    (b"PK\x05\x06", "ZIP"),
    (b"\x1f\x8b", "GZIP"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"BZh", "BZIP2"),
    (b"\xfd7zXZ\0", "XZ"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"%!PS", "PostScript"),
    (b"8BPS", "PSD"),
    (b"\0\0\x01\0", "ICO"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"SIMPLE  =", "FITS"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"icns", "ICNS"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"\x1a\x45\xdf\xa3", "Matroska"),
    (b"\x7fELF", "ELF"),
    (b"MZ", "EXE"),
    (b"\x93NUMPY", "NumPy"),
    (b"SQLite format 3\0", "SQLite"),
    (b"version https://git-lfs", "Git LFS pointer"),
)

_ZIP_TAIL = 22 + 65_535  # bytes from the end in which readers look for it

_PORTABLE_ANYMAP = tuple(b"P%d" % n for n in range(1, 8))


def recognise(data: bytes) -> str | None:
    """The format's name ("JPEG", "SVG", "PDF", ...; Pillow's name if decodable), or None for bytes that say nothing."""
    for start, name in _DECODABLE_STARTS:
        if data.startswith(start):
            return name
    if data[:4] == b"RIFF":
        return {b"WEBP": "WEBP", b"AVI ": "AVI", b"WAVE": "WAV"}.get(data[8:12])
    if data[:2] == b"BM" and len(data) >= 18 and unpack_from("<I", data, 14)[0] in _BMP_HEADER_SIZES:
        return "BMP"
    if data[4:8] == b"ftyp":
        return _iso_media(data[8:12])
    if data[:2] in _PORTABLE_ANYMAP and data[2:3].isspace():
        return "PNM"
    for start, name in _OTHER_STARTS:
        if data.startswith(start):
            return name
    if data[257:262] == b"ustar":
        return "TAR"
    return _text_format(data[:4096])


def second_format(data: bytes) -> str | None:
    """Another format that the bytes of an image are as well, told as that format's readers tell it: an archive may have
    anything in front of it, a PDF may begin a little later. None for what merely has something behind its end, as many
    telephones' photographs do."""
    if b"%PDF-" in data[:1024]:
        return "PDF"
    for start, name in ((b"Rar!\x1a\x07", "RAR"), (b"7z\xbc\xaf\x27\x1c", "7-Zip")):
        if start in data:
            return name
    return "ZIP" if _has_zip_directory(data) else None


def _has_zip_directory(data: bytes) -> bool:
    """A ZIP is read from its last record, which says how far before it the list of files begins."""
    place = len(data)
    while (place := data.rfind(b"PK\x05\x06", max(0, len(data) - _ZIP_TAIL), place)) >= 0:
        size = int.from_bytes(data[place + 12 : place + 16], "little")
        if place + 22 <= len(data) and 0 < size <= place and data[place - size : place - size + 4] == b"PK\x01\x02":
            return True
    return False


def _iso_media(brand: bytes) -> str:
    if brand in (b"avif", b"avis"):
        return "AVIF"
    if brand in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"):
        return "HEIC"
    return "MP4"


def _text_format(head: bytes) -> str | None:
    """Formats written as text; a byte-order mark, white space and comments may stand before them."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", errors="ignore").encode()
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"%pdf-" in text[:1024]:
        return "PDF"
    if text.startswith((b"<?xml", b"<!--", b"<svg", b"<!doctype svg")) and b"<svg" in text:
        return "SVG"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or (text[:1] == b"<" and b"<html" in text):
        return "HTML"
    if text.startswith(b"<?xml"):
        return "XML"
    if text[:1] in (b"{", b"["):
        return "JSON"
    return None


def count_frames(data: bytes, kind: str, limit: int) -> int:
    """Frames or pages of a GIF, TIFF, PNG or WebP, counted by block headers up to ``limit + 1``; 1 for other formats.

    A damaged file gives the frames counted before the damage, at least 1: the decoder is the judge of damage.
    """
    counters = {"GIF": _gif_frames, "TIFF": _tiff_pages, "PNG": _png_frames, "WEBP": _webp_frames}
    if kind not in counters:
        return 1
    return max(1, counters[kind](data, limit + 1))


def _gif_frames(data: bytes, most: int) -> int:
    frames = 0
    try:
        position = 13 + _colour_table(data[10])
        while frames < most:
            block = data[position]
            if block == 0x21:
                position = _skip_sub_blocks(data, position + 2)
            elif block == 0x2C:
                position = _skip_sub_blocks(data, position + 11 + _colour_table(data[position + 9]))
                frames += 1
            else:
                break
    except IndexError:
        pass
    return frames


def gif_blocks(data: bytes, most: int) -> int:
    """Blocks of data that stand before the first frame of a GIF (comments, mostly), counted up to ``most``."""
    blocks = 0
    try:
        position = 13 + _colour_table(data[10])
        while blocks < most and data[position] == 0x21:
            position += 2
            while blocks < most and data[position]:
                position += data[position] + 1
                blocks += 1
            position += 1
            blocks += 1
    except IndexError:
        pass
    return min(blocks, most)


def _colour_table(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_sub_blocks(data: bytes, position: int) -> int:
    while data[position]:
        position += data[position] + 1
    return position + 1


def _tiff_pages(data: bytes, most: int) -> int:
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    offset_format, count_format, entry = (f"{order}Q", f"{order}Q", 20) if big else (f"{order}I", f"{order}H", 12)
    pages = 0
    try:
        (offset,) = unpack_from(offset_format, data, 8 if big else 4)
        while offset and pages < most:
            (entries,) = unpack_from(count_format, data, offset)
            (offset,) = unpack_from(offset_format, data, offset + (8 if big else 2) + entries * entry)
            pages += 1
    except (StructError, OverflowError):
        pass
    return pages


def _png_frames(data: bytes, most: int) -> int:
    """An animated PNG states its frames in a chunk that stands before the pixels."""
    start = data.find(b"acTL", 0, max(0, data.find(b"IDAT")))
    return min(most, int.from_bytes(data[start + 4 : start + 8], "big")) if start > 0 else 1


def _webp_frames(data: bytes, most: int) -> int:
    frames, position = 0, 12
    while position + 8 <= len(data) and frames < most:
        frames += data[position : position + 4] == b"ANMF"
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    return frames


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from a WebP header; needed early because the decoder allocates its canvas when it is built."""
    kind = data[12:16]
    if len(data) < 30:
        return None
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        (bits,) = unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return unpack_from("<H", data, 26)[0] & 0x3FFF, unpack_from("<H", data, 28)[0] & 0x3FFF
    return None


def is_cut_short(data: bytes, kind: str) -> bool:
    """Whether the end that the format promises is missing; False where the format makes no such promise."""
    if kind == "JPEG":
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda") or b"\xff\xda" not in data
    if kind == "PNG":
        return b"IEND" not in data
    if kind == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if kind == "BMP":
        return int.from_bytes(data[2:6], "little") > len(data)
    if kind == "GIF":
        return _gif_frames(data, 1) == 0
    return False
