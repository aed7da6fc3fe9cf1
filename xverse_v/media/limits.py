"""What one image may cost, and how an error names it. Numbers and short texts only; nothing is opened here."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import error

_SHOWN_NAME = 200  # characters of a name or reason that an error repeats


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


def shown(name: object) -> str:
    """A name fit for a terminal: control characters escaped, long ones shortened in the middle."""
    given = str(name)
    if len(given) > 2 * _SHOWN_NAME:  # what came as a name may be a whole file
        given = given[:_SHOWN_NAME] + given[-_SHOWN_NAME:]
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in given)
    return text if len(text) <= _SHOWN_NAME else f"{text[: _SHOWN_NAME // 2]}…{text[-_SHOWN_NAME // 4 :]}"


def check_size(width: int, height: int, name: str, limits: MediaLimits) -> None:
    """Raises E515 (no pixels), E513 (a side too long), E512 (too many pixels)."""
    if width < 1 or height < 1:
        raise error("E515", name=name, width=width, height=height)
    if max(width, height) > limits.max_side:
        raise error("E513", name=name, width=width, height=height, limit=limits.max_side)
    if width * height > limits.max_pixels:
        raise error("E512", name=name, width=width, height=height, pixels=width * height, limit=limits.max_pixels)
