"""Images as data URLs: panels carry their own pixels, so nothing of them lies on disk or has an address."""

from __future__ import annotations

import base64
import io
from html import escape

from PIL import Image

_LONGEST = 960  # pixels of the longer side of an image on a panel


def image_tag(image: Image.Image, name: str, *, exact: bool = False) -> str:
    """An ``<img>`` holding the image: reduced and compressed, or ``exact``, pixel for pixel."""
    file = io.BytesIO()
    if exact:
        image.save(file, "PNG", compress_level=1)
        kind = "png"
    else:
        small = image.copy()
        small.thumbnail((_LONGEST, _LONGEST))
        small.save(file, "JPEG", quality=88)
        kind = "jpeg"
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="{escape(name, quote=True)}" src="data:image/{kind};base64,{data}">'


def frame(width: int, height: int, content: str) -> str:
    """A box true to the shape of a ``width`` x ``height`` image, for things placed on it by shares of its sides."""
    # Narrow enough that the height stays in bounds, too; a strip is drawn thicker than it is.
    ratio = min(8.0, max(0.15, width / height))
    return f'<div class="xv-frame" style="aspect-ratio: {ratio:.4f}; max-width: {ratio * 380:.0f}px">{content}</div>'


def placed(left: float, top: float, right: float, bottom: float) -> str:
    """The style of a box on a frame, in shares of its sides."""
    return f"left: {left:.3%}; top: {top:.3%}; width: {right - left:.3%}; height: {bottom - top:.3%}"
