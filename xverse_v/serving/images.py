"""Images on their way in: which addresses a client may name, and the bytes behind them.

What crosses: an address out of a request in; something the media door opens out. A file name is refused here and by the
door, so no request reaches the disk; the network is reached only under the operator's policy. Nothing is decoded here
but for a backend that sends images on.
"""

from __future__ import annotations

import base64
import io

from PIL import Image

from xverse_v.errors import XverseError
from xverse_v.media import DEFAULT_LIMITS, MediaLimits, RemotePolicy, open_image, read_source

_DATA = "data:"
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


def refuse_address(url: str, remote: RemotePolicy | None, param: str) -> None:
    """Raises what the door says of a path, a ``file:`` URL, another scheme, or any address while ``remote`` is None."""
    if is_inline(url) or (remote is not None and url[:8].lower() == "https://"):
        return
    try:
        read_source(url, remote=remote, paths=False)
    except XverseError as problem:
        problem.facts.setdefault("param", param)
        raise


def image_source(url: str, remote: RemotePolicy | None, limits: MediaLimits = DEFAULT_LIMITS) -> str | bytes:
    """What `open_image` is to be given: a data URL as it is, the bytes of anything else. Blocks on the network.

    Raises E5xx. What comes back is never a path.
    """
    if is_inline(url):
        return url
    data, _ = read_source(url, limits=limits, remote=remote, paths=False)
    return data


def png_data_url(url: str, remote: RemotePolicy | None) -> str:
    """The image behind an address, opened by the door and written as a PNG of the same pixels and EXIF turn. Blocks.

    Modes a PNG cannot hold (CMYK, YCbCr, ...) become RGB. Raises E5xx.
    """
    image = open_image(image_source(url, remote), paths=False)
    exif = image.info.get("exif")
    return encode_png(image if image.mode in _PNG_MODES else image.convert("RGB"), exif)


def encode_png(image: Image.Image, exif: bytes | None = None) -> str:
    """A PNG data URL, quick rather than small."""
    buffer = io.BytesIO()
    if exif is None:
        image.save(buffer, "PNG", compress_level=1)
    else:
        image.save(buffer, "PNG", compress_level=1, exif=exif)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def is_inline(url: str) -> bool:
    """Whether the image is in the request itself."""
    return url[: len(_DATA)].lower() == _DATA
