"""The only door through which an image enters: a path, a data URL, bytes or a PIL image becomes one decoded PIL image.

What crosses: untrusted bytes in, a fully loaded image out, in its own colour mode, with `.info` (EXIF) and `.format`;
or an error of its own code (E500 to E549), never a half-read image. Content decides what a file is, never its name.
Sizes are read from the header and refused before a pixel is decoded. Pillow's own safety settings are left alone, since
they belong to the whole process. This file refuses to know the network, tiles, turning and colour conversion.
"""

from __future__ import annotations

import base64
import binascii
import errno
import io
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageFile

from ..errors import XverseError, error
from .formats import DECODABLE, count_frames, is_cut_short, recognise, webp_size

ImageSource = str | Path | bytes | Image.Image

_PIL_IMAGE = "<PIL image>"
_SHOWN_NAME = 200  # characters of a name or reason that an error repeats
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{1,30})://|(file|data):", re.IGNORECASE)
_DATA_URL = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)
_BASE64_OVERHEAD = 200  # characters a data URL's head may take on top of its payload


@dataclass(frozen=True)
class MediaLimits:
    """What one image may cost. A limit is inclusive: exactly `max_side` pixels are let in.

    max_bytes: size of the encoded file. max_pixels: width x height after decoding. max_side: the longer side in pixels.
    max_frames: frames of an animation or pages of a TIFF; only the first is ever decoded.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    max_side: int = 20_000
    max_frames: int = 1_000


DEFAULT_LIMITS = MediaLimits()


def open_image(source: ImageSource, *, limits: MediaLimits = DEFAULT_LIMITS, root: Path | None = None) -> Image.Image:
    """Open one image and decode its first frame.

    `source`: a path (str or Path), a `data:image/...;base64,` URL, the bytes of a file, or a PIL image (copied).
    `root`: when given, only files inside this folder are opened, after every symbolic link is followed; a relative path
    starts there. Bytes, data URLs and PIL images need no file and are not affected.

    Returns an image of its own mode ("RGB", "CMYK", "I;16", "1", "P", "LA", ...), loaded and free of any file.
    `.format` is the sniffed format. `.info` is kept, with three changes: EXIF holds only the orientation tag, the one
    that later steps read; `exif_unreadable` is True if it could not be read; `frames` counts an animation's frames. The
    turn that EXIF asks for is not applied, except to TIFF, where Pillow's decoder does it.

    Raises `XverseError` E500 to E549.
    """
    if isinstance(source, Image.Image):
        return _from_pil(source, limits)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(bytes(source), "<bytes>", limits)
    if isinstance(source, str):
        match = _SCHEME.match(source)
        if match:
            scheme = (match[1] or match[2]).lower()
            if scheme == "data":
                return _decode(_data_url_bytes(source, limits), "<data URL>", limits)
            raise _refused_scheme(source, scheme)
    if isinstance(source, str | Path):
        return _decode(_file_bytes(source, limits, root), _shown(source), limits)
    raise error("E525", got=type(source).__name__)


def _shown(name: object) -> str:
    """A name fit for a terminal: control characters escaped, long ones shortened in the middle."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))
    return text if len(text) <= _SHOWN_NAME else f"{text[: _SHOWN_NAME // 2]}…{text[-_SHOWN_NAME // 4 :]}"


def _refused_scheme(source: str, scheme: str) -> XverseError:
    if scheme in ("http", "https"):
        return error("E506", url=_shown(source))
    return error("E507" if scheme == "file" else "E508", url=_shown(source), scheme=scheme)


# Files ----------------------------------------------------------------------------------------------------------------


def _file_bytes(source: str | Path, limits: MediaLimits, root: Path | None) -> bytes:
    name, path = _shown(source), _checked_path(source, root)
    # Never wait for a writer (a named pipe) and, since links are resolved by now, never follow one that appeared since.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(path, flags)
    except OSError as reason:
        raise _path_error(name, reason) from reason
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        _refuse_unless_regular(status, name)
        if status.st_size > limits.max_bytes:
            raise error("E511", name=name, bytes=status.st_size, limit=limits.max_bytes)
        try:
            return file.read(limits.max_bytes + 1)
        except OSError as reason:
            raise _path_error(name, reason) from reason


def _checked_path(source: str | Path, root: Path | None) -> Path:
    """The real path, links resolved. Raises E504 for a name no file can have and E505 for a file outside `root`."""
    if str(source) in ("", "."):
        raise error("E504", name=_shown(source), reason="the name is empty", reason_zh="名称为空")
    if "\0" in str(source):
        raise error("E504", name=_shown(source), reason="it holds a NUL character", reason_zh="其中有 NUL 字符")
    try:
        path = (root / source if root else Path(source)).resolve()
        if root and not path.is_relative_to(root.resolve()):
            raise error("E505", name=_shown(source), root=_shown(root))
        # Looked at before it is opened, because opening a device can already do something.
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):  # still a link once resolved: a loop, which Python 3.13 no longer raises
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        _refuse_unless_regular(status, _shown(source))
    except (OSError, RuntimeError) as reason:  # RuntimeError: a loop of links, before Python 3.13
        raise _path_error(_shown(source), reason) from reason
    return path


def _refuse_unless_regular(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise error("E501", name=name)
    if not stat.S_ISREG(status.st_mode):
        raise error("E502", name=name, kind=_file_kind(status.st_mode))


def _path_error(name: str, reason: OSError | RuntimeError) -> XverseError:
    number = getattr(reason, "errno", None) or errno.ELOOP
    if number in (errno.ENOENT, errno.ENOTDIR):
        return error("E500", name=name)
    if number == errno.ENAMETOOLONG:
        return error("E504", name=name, reason="it is too long for a file name", reason_zh="超出文件名的长度上限")
    return error("E503", name=name, reason=os.strerror(number))


def _file_kind(mode: int) -> str:
    names = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "char device", stat.S_IFBLK: "block device"}
    return names.get(stat.S_IFMT(mode), "special file")


# Data URLs ------------------------------------------------------------------------------------------------------------


def _data_url_bytes(url: str, limits: MediaLimits) -> bytes:
    head = _DATA_URL.match(url[: _BASE64_OVERHEAD + 1])
    if head is None or head[2].lower().rsplit(";")[-1] != "base64":
        raise error("E522", start=_shown(url[:40]))
    if not head[1].lower().startswith("image/"):
        raise error("E523", media_type=_shown(head[1]) or "text/plain")
    estimate = (len(url) - head.end()) * 3 // 4
    if estimate > limits.max_bytes + limits.max_bytes // 16:  # the slack is for line breaks inside the payload
        raise error("E511", name="<data URL>", bytes=estimate, limit=limits.max_bytes)
    payload = re.sub(r"\s", "", url[head.end() :])
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as reason:
        raise error("E524", characters=len(payload), reason=str(reason)) from reason


# Decoding -------------------------------------------------------------------------------------------------------------


def _decode(data: bytes, name: str, limits: MediaLimits) -> Image.Image:
    if not data:
        raise error("E510", name=name)
    if len(data) > limits.max_bytes:
        raise error("E511", name=name, bytes=len(data), limit=limits.max_bytes)
    kind = recognise(data)
    if kind is None:
        raise error("E521", name=name, bytes=len(data), head=data[:8].hex(" "))
    if kind not in DECODABLE:
        raise error("E520", name=name, kind=kind, bytes=len(data))
    frames = count_frames(data, kind, limits.max_frames)
    if frames > limits.max_frames:
        raise error("E514", name=name, kind=kind, limit=limits.max_frames)
    if kind == "WEBP" and (size := webp_size(data)):
        _check_size(*size, name, limits)
    if ImageFile.LOAD_TRUNCATED_IMAGES and is_cut_short(data, kind):
        # Somebody else in this process asked Pillow to paint over missing ends; here they stay an error.
        raise error("E517", name=name, kind=kind, bytes=len(data))
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
            _check_size(lazy.width, lazy.height, name, limits)
            lazy.load()
            return _detached(lazy, kind, name, limits)
    except (XverseError, MemoryError):
        raise
    except Exception as reason:  # decoders raise a dozen types on hostile bytes; each means the same to the user
        if is_cut_short(data, kind) or "truncated" in str(reason).lower():
            raise error("E517", name=name, kind=kind, bytes=len(data)) from reason
        raise error("E516", name=name, kind=kind, bytes=len(data), reason=_shown(reason)) from reason


def _from_pil(image: Image.Image, limits: MediaLimits) -> Image.Image:
    _check_size(image.width, image.height, _PIL_IMAGE, limits)
    try:
        image.load()
    except Exception as reason:  # a lazily opened file decodes here
        raise error("E519", reason=_shown(reason)) from reason
    return _detached(image, image.format, _PIL_IMAGE, limits)


def _detached(image: Image.Image, kind: str | None, name: str, limits: MediaLimits) -> Image.Image:
    """A plain copy with no file behind it, its EXIF reduced to the orientation tag (see `open_image`)."""
    _check_size(image.width, image.height, name, limits)
    if image.mode == "F":
        raise error("E518", name=name, kind=kind or "PIL")
    plain = Image.Image.copy(image)
    plain.format = kind
    for key in ("exif", "Raw profile type exif"):
        plain.info.pop(key, None)
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF is a file format of its own, and a damaged one must not cost a sound image
        plain.info["exif_unreadable"] = True
        return plain
    if turn in range(2, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = turn
        plain.info["exif"] = exif.tobytes()
    return plain


def _check_size(width: int, height: int, name: str, limits: MediaLimits) -> None:
    if width < 1 or height < 1:
        raise error("E515", name=name, width=width, height=height)
    if max(width, height) > limits.max_side:
        raise error("E513", name=name, width=width, height=height, limit=limits.max_side)
    if width * height > limits.max_pixels:
        raise error("E512", name=name, width=width, height=height, pixels=width * height, limit=limits.max_pixels)
