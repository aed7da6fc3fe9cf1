"""From a row's image reference to a PIL image or to the bytes that are sent: below the image root, or not at all.

What crosses: `ImageRef`s in, images of the media door out, with one switch for parity: `jpeg75`. The VLMEvalKit of
April 2024 stored each image of a TSV as a JPEG of quality 75 and showed the model that file, so every number of the
released card was measured on recompressed images.
"""

from __future__ import annotations

import base64
import io
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

from PIL import Image

from xverse_v.media import DEFAULT_LIMITS, MediaLimits, open_image

from ..contract import ImageRef

T = TypeVar("T")
Reencode = Literal["none", "jpeg75"]

_SENT_AS_THEY_ARE = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
_STILL_OPEN = 8  # images kept between rows: questions about one image come one after another


@dataclass(frozen=True)
class ImageRule:
    """How images are opened. ``root``: files are read below it only. ``reencode``: "jpeg75" recompresses images that
    came inside a data file, when a row has one; those of several kept their own format there."""

    root: Path | None = None
    reencode: Reencode = "none"
    limits: MediaLimits = DEFAULT_LIMITS

    def open(self, ref: ImageRef, *, alone: bool = True) -> Image.Image:
        """Raises E5xx of the media door; `ValueError` for a reference that refers to nothing, a mistake of ours."""
        image = open_image(_source(ref), limits=self.limits, root=self.root if ref.data is None else None)
        if self.reencode == "jpeg75" and ref.data is not None and alone:
            return open_image(_jpeg75(image), limits=self.limits)
        return image

    def data_url(self, ref: ImageRef, *, alone: bool = True) -> str:
        """The image as a data URL: its own bytes where every endpoint reads the format, else PNG. Raises as `open`."""
        image = self.open(ref, alone=alone)
        kind = _SENT_AS_THEY_ARE.get(image.format or "")
        if self.reencode == "none" and kind is not None and ref.data is not None:
            data = ref.data
        else:
            packed, kind = io.BytesIO(), "image/png"
            (image if image.mode in ("RGB", "RGBA", "L", "LA", "P", "1") else image.convert("RGB")).save(packed, "PNG")
            data = packed.getvalue()
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@dataclass
class Recent(Generic[T]):
    """What was last made of an image, so that neighbours with the same image share it."""

    make: Callable[[ImageRef, bool], T]
    _kept: OrderedDict[tuple[ImageRef, bool], T] = field(default_factory=OrderedDict)

    def get(self, ref: ImageRef, alone: bool) -> T:
        key = (ref, alone)
        if key not in self._kept:
            self._kept[key] = self.make(ref, alone)
            if len(self._kept) > _STILL_OPEN:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def _source(ref: ImageRef) -> bytes | Path:
    if ref.data is not None:
        return ref.data
    if ref.path is None:
        raise ValueError("an image reference holds neither data nor a path")
    return ref.path.absolute()  # rows name files with their root in front: it must not be put there twice


def _jpeg75(image: Image.Image) -> bytes:
    """The file VLMEvalKit wrote: alpha dropped, not composited, and Pillow's JPEG defaults (quality 75)."""
    packed = io.BytesIO()
    (image.convert("RGB") if image.mode not in ("RGB", "L", "CMYK") else image).save(packed, "JPEG")
    return packed.getvalue()
