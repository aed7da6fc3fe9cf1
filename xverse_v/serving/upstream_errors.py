"""What another server's failure means to our client: its mistake, a full house, or a server that is out of order.

A status with headers and body in, our error out. The other server's words are passed on only where they are about the
client's own request; of anything else a client learns that it failed and no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from xverse_v.errors import XverseError, error

_ABOUT_THE_REQUEST = frozenset({400, 413, 415, 422})
_SHOWN = 500  # characters of its words


def refusal_of(status: int, headers: Mapping[str, str], body: bytes) -> XverseError:
    """E631 what the client sent, E634 it is full, E630 it is not there yet, E635 it does not know us, else E632."""
    if status in _ABOUT_THE_REQUEST:
        return error("E631", status=status, words=_words(body))
    if status == 429:
        return error("E634", retry_after=_seconds(headers.get("retry-after")))
    if status == 503:
        return error("E630", retry_after=_seconds(headers.get("retry-after")))
    if status in (401, 403):
        return error("E635", status=status)
    return failure_of(f"HTTP {status}")


def failure_of(what: str) -> XverseError:
    """E632: it answered, but not as this protocol has it."""
    return error("E632", what=what)


def _words(body: bytes) -> str:
    """The message of an OpenAI-shaped error, else the beginning of the body."""
    text = body[: 16 * _SHOWN].decode("utf-8", "replace")
    try:
        document = json.loads(text)
        inner = document.get("error", document)
        found = inner if isinstance(inner, str) else inner.get("message") or inner.get("detail")
        text = found if isinstance(found, str) else text
    except (ValueError, AttributeError):
        pass  # not JSON, or JSON of another shape: its own text is what there is to show
    return " ".join(text.split())[:_SHOWN] or "-"


def _seconds(given: str | None) -> int:
    return int(given) if given is not None and given.isascii() and given.isdigit() else 2
