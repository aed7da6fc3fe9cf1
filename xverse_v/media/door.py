"""The only door through which an image enters: whatever somebody has of an image becomes one decoded PIL image.

What crosses: a path, an https URL, a data URL, base64, bytes or a PIL image in; a fully loaded image out, in its own
colour mode, with `.info` (EXIF) and `.format`; or an error of its own code (E500 to E549), never a half-read image.
Content decides what a file is, never its name and never a header of the network. Here stands only who may come in by
which way; files.py, encoded.py, remote.py and decode.py do the work. Tiles, turning and colour are not its business.
"""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from ..errors import error
from .decode import decode, from_pil
from .encoded import base64_bytes, data_url_bytes
from .files import file_bytes
from .limits import DEFAULT_LIMITS, MediaLimits, shown
from .remote import RemotePolicy, fetch

ImageSource = str | Path | bytes | Image.Image

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{1,30})://|(file|data|https?):", re.IGNORECASE)


def open_image(
    source: ImageSource,
    *,
    limits: MediaLimits = DEFAULT_LIMITS,
    root: Path | None = None,
    remote: RemotePolicy | None = None,
    paths: bool = True,
) -> Image.Image:
    """Open one image and decode its first frame.

    `source`: a path (str or Path), a `data:image/...;base64,` URL, an https URL, the bytes of a file, or a PIL image
    (copied).
    `root`: when given, only files inside this folder are opened, after every symbolic link is followed; a relative path
    starts there. Other sources need no file and are not affected.
    `remote`: which hosts may be asked for images; None, the default, means the network is never touched.
    `paths`: False refuses every file name, as a server must: its callers have no business with its disk.

    Returns an image of its own mode ("RGB", "CMYK", "I;16", "1", "P", "LA", ...), loaded and free of any file.
    `.format` is the sniffed format. `.info` is kept, with three changes: EXIF holds only the orientation tag, the one
    that later steps read; `exif_unreadable` is True if it could not be read; `frames` counts an animation's frames. The
    turn that EXIF asks for is not applied, except to TIFF, where Pillow's decoder does it.

    Raises `XverseError` E500 to E549.
    """
    if isinstance(source, Image.Image):
        return from_pil(source, limits)
    data, name = read_source(source, limits=limits, root=root, remote=remote, paths=paths)
    return decode(data, name, limits)


def open_base64(text: str, *, limits: MediaLimits = DEFAULT_LIMITS) -> Image.Image:
    """Open an image that is given as base64, with or without the head of a data URL.

    `open_image` takes no bare base64, because the text of a JPEG ("/9j/4AAQ...") is also the name of a file. Returns
    and raises what `open_image` does.
    """
    if not isinstance(text, str):
        raise error("E525", got=type(text).__name__)
    if text[:5].lower() == "data:":
        return decode(data_url_bytes(text, limits), "<data URL>", limits)
    return decode(base64_bytes(text, limits), "<base64>", limits)


def read_source(
    source: str | Path | bytes,
    *,
    limits: MediaLimits = DEFAULT_LIMITS,
    root: Path | None = None,
    remote: RemotePolicy | None = None,
    paths: bool = True,
    media_type: str = "image/",
) -> tuple[bytes, str]:
    """The bytes behind a source and the name that errors give it; nothing is decoded.

    For those who pass the bytes on, or open them with another program. Arguments as for `open_image`; `media_type` is
    how the type that a data URL states must start. Raises E500 to E511, E522 to E525 and those of remote.py.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), "<bytes>"
    if isinstance(source, str) and (match := _SCHEME.match(source)):
        scheme = (match[1] or match[2]).lower()
        if scheme == "data":
            return data_url_bytes(source, limits, media_type), "<data URL>"
        return _from_web(source, scheme, limits, remote), shown(source)
    if isinstance(source, str | Path):
        if not paths:
            raise error("E509", name=shown(source))
        return file_bytes(source, limits, root), shown(source)
    raise error("E525", got=type(source).__name__)


def _from_web(source: str, scheme: str, limits: MediaLimits, remote: RemotePolicy | None) -> bytes:
    if scheme == "file":
        raise error("E507", url=shown(source))
    if scheme not in ("http", "https"):
        raise error("E508", url=shown(source), scheme=scheme)
    if remote is None:
        raise error("E506", url=shown(source))
    return fetch(source, remote, limits)
