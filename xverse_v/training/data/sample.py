"""One training sample in one shape, whatever it was stored as.

What crosses: frozen values only. `messages` are in the form the chat template takes: each content is a list of parts,
image parts bare and first, one for each entry of `images` in order. This file knows no file format and no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from xverse_v.media import DEFAULT_LIMITS, MediaLimits, open_image

Message = Mapping[str, Any]

_SHOWN_NAME = 120


@dataclass(frozen=True)
class ImageRef:
    """Where an image is: a path below `root`, a data URL, or the bytes of a file that were stored with the text."""

    source: str | bytes
    root: Path | None = None

    def open(self, limits: MediaLimits = DEFAULT_LIMITS) -> Image.Image:
        """The decoded image. Raises `XverseError` E500 to E549; never leaves `root`."""
        return open_image(self.source, limits=limits, root=self.root)

    @property
    def name(self) -> str:
        """What a message calls it: the path, or what kind of bytes it is."""
        if isinstance(self.source, bytes):
            return f"<{len(self.source)} bytes>"
        if self.source[:5].lower() == "data:":
            return "<data URL>"
        return self.source if len(self.source) <= _SHOWN_NAME else self.source[:_SHOWN_NAME] + "…"


@dataclass(frozen=True)
class Sample:
    """`id` as the data names it, else "file:line"; `source` and `line` say where it stands (line from 1; in a tar or
    parquet file the sample's number from 1)."""

    id: str
    messages: tuple[Message, ...]
    images: tuple[ImageRef, ...] = ()
    source: str = ""
    line: int = 0
    where: str = field(default="", repr=False)

    @property
    def place(self) -> str:
        """ "data.jsonl:1188", for messages."""
        return self.where or f"{self.source}:{self.line}"


def text_of(message: Message) -> str:
    """The text of a message, its text parts joined as the chat template joins them."""
    return "\n".join(part["text"] for part in message["content"] if part["type"] == "text")
