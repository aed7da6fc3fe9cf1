"""Bytes become pixels: one format's decoder, after everything that can be known without it has been checked.

What crosses: untrusted bytes in, a loaded image free of any file out, with its EXIF reduced to the orientation tag.
Sizes are read from the header and refused before a pixel is decoded, and so is what would cost far more than it weighs
(costs.py). Pillow's own safety settings are left alone, since they belong to the whole process. Where the bytes come
from is not known here.
"""

from __future__ import annotations

import io

from PIL import ExifTags, Image, ImageFile

from ..errors import XverseError, error
from .costs import refuse_costly, tags_swell
from .formats import DECODABLE, count_frames, is_cut_short, recognise, second_format, webp_size
from .limits import MediaLimits, check_size, shown

_PIL_IMAGE = "<PIL image>"
_TEXT_EXIF = "Raw profile type exif"  # EXIF as some programs write it into a PNG: as hexadecimal text


def decode(data: bytes, name: str, limits: MediaLimits) -> Image.Image:
    """The first frame of an encoded image, as `open_image` promises it. Raises E510 to E518, E520, E521, E526, E527."""
    if not data:
        raise error("E510", name=name)
    if len(data) > limits.max_bytes:
        raise error("E511", name=name, bytes=len(data), limit=limits.max_bytes)
    kind = recognise(data)
    if kind is None:
        raise error("E521", name=name, bytes=len(data), head=data[:8].hex(" "))
    if kind not in DECODABLE:
        raise error("E520", name=name, kind=kind, bytes=len(data))
    if other := second_format(data):
        raise error("E527", name=name, kind=kind, other=other)
    frames = count_frames(data, kind, limits.max_frames)
    if frames > limits.max_frames:
        raise error("E514", name=name, kind=kind, limit=limits.max_frames)
    if kind == "WEBP" and (size := webp_size(data)):
        check_size(*size, name, limits)
    if ImageFile.LOAD_TRUNCATED_IMAGES and is_cut_short(data, kind):
        # Somebody else in this process asked Pillow to paint over missing ends; here they stay an error.
        raise error("E517", name=name, kind=kind, bytes=len(data))
    refuse_costly(data, kind, name, limits)
    image = _decode_first_frame(data, kind, name, limits)
    if frames > 1:
        image.info["frames"] = frames
    return image


def _decode_first_frame(data: bytes, kind: str, name: str, limits: MediaLimits) -> Image.Image:
    if kind not in Image.OPEN:
        Image.init()
    # Not `Image.open`: only the plug-in of the sniffed format ever sees the bytes, and this door's own limits apply.
    factory = Image.OPEN[kind][0]
    try:
        with factory(io.BytesIO(data), "") as lazy:
            check_size(lazy.width, lazy.height, name, limits)
            lazy.load()
            return _detached(lazy, kind, name, limits)
    except (XverseError, MemoryError):
        raise
    except Exception as reason:  # decoders raise a dozen types on hostile bytes; each means the same to the user
        if is_cut_short(data, kind) or "truncated" in str(reason).lower():
            raise error("E517", name=name, kind=kind, bytes=len(data)) from reason
        raise error("E516", name=name, kind=kind, bytes=len(data), reason=shown(reason)) from reason


def from_pil(image: Image.Image, limits: MediaLimits) -> Image.Image:
    """A copy of a PIL image under the same limits. Raises E512, E513, E515, E518, E519."""
    check_size(image.width, image.height, _PIL_IMAGE, limits)
    try:
        image.load()
    except Exception as reason:  # a lazily opened file decodes here
        raise error("E519", reason=shown(reason)) from reason
    return _detached(image, image.format, _PIL_IMAGE, limits)


def _detached(image: Image.Image, kind: str | None, name: str, limits: MediaLimits) -> Image.Image:
    """A plain copy with no file behind it, its EXIF reduced to the orientation tag (see `open_image`)."""
    check_size(image.width, image.height, name, limits)
    if image.mode == "F":
        raise error("E518", name=name, kind=kind or "PIL")
    plain = Image.Image.copy(image)
    plain.format = kind
    for key in ("exif", _TEXT_EXIF):
        plain.info.pop(key, None)
    try:
        _refuse_swollen_exif(image)
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF is a file format of its own, and a damaged one must not cost a sound image
        plain.info["exif_unreadable"] = True
        return plain
    if turn in range(2, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = turn
        plain.info["exif"] = exif.tobytes()
    return plain


def _refuse_swollen_exif(image: Image.Image) -> None:
    """Raises `ValueError` for EXIF whose tags hold far more than the EXIF itself: Pillow copies each of them."""
    blob = image.info.get("exif", b"")
    if not blob and (text := image.info.get(_TEXT_EXIF)):
        blob = bytes.fromhex("".join(str(text).split("\n")[3:]))
    if isinstance(blob, bytes) and tags_swell(blob.removeprefix(b"Exif\0\0")):
        raise ValueError("the tags overlap")
