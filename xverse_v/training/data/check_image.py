"""What can be wrong with an image of a sample: it is opened through the media door, once, and its facts are kept.

What crosses: an `ImageRef` in, `ImageFacts` out: what was found, the size the tiler will see, and a key of its pixels.
Facts of the last images are remembered by path, since many rows share an image.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from xverse_v.errors import XverseError
from xverse_v.media import DEFAULT_LIMITS, MediaLimits

from .sample import ImageRef

_REMEMBERED = 20_000  # images; about 10 MB
_TINY, _EXTREME = 14, 9
_BY_MEDIA_CODE = {
    "E500": "D320", "E505": "D322", "E506": "D324", "E507": "D324", "E508": "D324", "E510": "D326", "E511": "D330",
    "E512": "D330", "E513": "D330", "E514": "D330", "E515": "D328", "E516": "D328", "E517": "D327", "E518": "D328",
    "E519": "D328", "E520": "D329", "E521": "D329", "E522": "D325", "E523": "D325", "E524": "D325",
    "E526": "D330", "E527": "D329",
}  # fmt: skip
_OTHER = "D331"


@dataclass(frozen=True)
class ImageFacts:
    """`size`: width and height in the file, (0, 0) if it cannot be opened; `turn`: EXIF orientation, 1 to 8; `key`: 16
    bytes of its pixels, or of its name if there are none."""

    problems: tuple[tuple[str, dict[str, Any]], ...]
    size: tuple[int, int]
    turn: int
    key: bytes


class ImageCheck:
    """Looks at images, remembering the last ones."""

    def __init__(self, limits: MediaLimits = DEFAULT_LIMITS) -> None:
        self.limits = limits
        self.opened = 0
        self._known: OrderedDict[tuple[str, Path | None], ImageFacts] = OrderedDict()

    def facts(self, image: ImageRef) -> ImageFacts:
        """Opens and decodes the image unless it was seen lately."""
        if isinstance(image.source, bytes) or image.source[:5].lower() == "data:":
            return self._look(image)
        name = image.source, image.root
        if name not in self._known:
            self._known[name] = self._look(image)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(name)
        return self._known[name]

    def _look(self, image: ImageRef) -> ImageFacts:
        self.opened += 1
        try:
            opened = image.open(self.limits)
        except XverseError as problem:
            key = hashlib.blake2b(repr(image.source).encode("utf-8", "replace"), digest_size=16).digest()
            return ImageFacts((_failed(image, problem),), (0, 0), 1, key)
        turn = opened.getexif().get(ExifTags.Base.Orientation, 1)
        problems = tuple((code, {"image": image.name, **facts}) for code, facts in _oddities(image, opened, turn))
        return ImageFacts(problems, opened.size, turn, pixel_key(opened))


def pixel_key(image: Image.Image) -> bytes:
    """16 bytes that name an image's pixels as 8-bit RGB."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return hashlib.blake2b(f"{rgb.width}x{rgb.height} ".encode() + rgb.tobytes(), digest_size=16).digest()


def _failed(image: ImageRef, problem: XverseError) -> tuple[str, dict[str, Any]]:
    code = _BY_MEDIA_CODE.get(problem.code, _OTHER)
    facts = {"image": image.name, "root": str(image.root or "."), "reason": problem.parts()["fact"].rstrip("。.")}
    source = image.source
    if isinstance(source, str) and "\\" in source:
        path = (image.root or Path()) / source.replace("\\", "/")
        if path.is_file():
            code = "D321"
    return code, facts


def _oddities(image: ImageRef, opened: Image.Image, turn: int) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    if isinstance(image.source, str) and os.path.isabs(image.source):
        found.append(("D323", {}))
    if turn != 1:
        found.append(("D340", {"turn": turn}))
    if opened.info.get("exif_unreadable"):
        found.append(("D345", {}))
    if opened.mode != "RGB" or "transparency" in opened.info:
        found.append(("D341", {"mode": opened.mode}))
    if opened.info.get("frames", 1) > 1:
        found.append(("D342", {"frames": opened.info["frames"]}))
    size = {"width": opened.width, "height": opened.height}
    if min(opened.size) < _TINY:
        found.append(("D343", size))
    if max(opened.size) > _EXTREME * min(opened.size):
        found.append(("D344", size))
    return found
