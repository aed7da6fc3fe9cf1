"""Images written as text: base64, alone or inside a data URL, becomes bytes. What they mean is decided elsewhere."""

from __future__ import annotations

import base64
import binascii
import re

from ..errors import error
from .limits import MediaLimits, shown

_DATA_URL = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)
_HEAD_LENGTH = 200  # characters a data URL's head may take before its payload


def data_url_bytes(url: str, limits: MediaLimits, media_type: str = "image/") -> bytes:
    """The payload of `data:image/...;base64,...`. `media_type` is how its stated type must start.

    The type is asked for because it says what the sender means; what the bytes are is told from the bytes. Raises E522
    (no base64 part), E523 (another type), E524 (not base64), E511 (too long, told before it is decoded).
    """
    head = _DATA_URL.match(url[: _HEAD_LENGTH + 1])
    if head is None or head[2].lower().rsplit(";")[-1] != "base64":
        raise error("E522", start=shown(url[:40]))
    if not head[1].lower().startswith(media_type):
        raise error("E523", media_type=shown(head[1]) or "text/plain")
    return base64_bytes(url, limits, start=head.end(), name="<data URL>")


def base64_bytes(text: str, limits: MediaLimits, *, start: int = 0, name: str = "<base64>") -> bytes:
    """The bytes that `text[start:]` spells in base64; white space in it is allowed. Raises E511 and E524."""
    estimate = (len(text) - start) * 3 // 4
    if estimate > limits.max_bytes + limits.max_bytes // 16:  # the slack is for line breaks inside the payload
        raise error("E511", name=name, bytes=estimate, limit=limits.max_bytes)
    payload = re.sub(r"\s", "", text[start:])
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as reason:
        raise error("E524", characters=len(payload), reason=str(reason)) from reason
