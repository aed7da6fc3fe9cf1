"""How much and how fast: a request's body, all bodies together, and requests a minute for each tenant.

What crosses: ASGI messages and tenants' names in; bytes, waits in seconds or errors out. No route, no model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from xverse_v.errors import error

from .settings import Limits

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_DRAIN_SECONDS = 5.0
_KEPT_BUCKETS = 10_000


class Disconnected(Exception):
    """The client left before its request was whole; there is nobody to answer."""


class RateLimit:
    """A token bucket for each tenant: it holds ``burst`` requests and gains ``per_minute`` a minute."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = (limits.per_minute or 0.0) / 60
        self._burst = limits.burst or max(1, round((limits.per_minute or 0.0) / 10))
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # tenant -> tokens, when that was true

    def take(self, tenant: str) -> None:
        """One request of this tenant. Raises E615 with ``retry_after`` in seconds when its bucket is empty."""
        if self._rate == 0:
            return
        now = self._clock()
        tokens, then = self._buckets.get(tenant, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        if tokens < 1:
            self._buckets[tenant] = (tokens, now)
            wait = (1 - tokens) / self._rate
            raise error("E615", per_minute=f"{self._rate * 60:g}", burst=self._burst, retry_after=seconds_up(wait))
        if len(self._buckets) >= _KEPT_BUCKETS:  # a full bucket says no more than none
            full = [name for name, (left, at) in self._buckets.items() if left + (now - at) * self._rate >= self._burst]
            for name in full:
                del self._buckets[name]
        self._buckets[tenant] = (tokens - 1, now)


class BodyReader:
    """Reads bodies whole, counting while they come in. One for a server, since it also counts what all of them hold."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held = 0

    @contextmanager
    def holding(self) -> Iterator[_Share]:
        """Counts what is read inside the block until the block is left."""
        share = _Share(self)
        try:
            yield share
        finally:
            self.held -= share.bytes

    async def read(self, share: _Share, announced: int | None, receive: Receive) -> bytes:
        """The body. ``announced`` is its Content-Length, if the client said one.

        Raises E607 for too many bytes, at once if they are announced; E608 for a client that is too slow; E623 when
        all bodies together hold too much; `Disconnected`.
        """
        limit = self._limits.body_bytes
        coming = _pieces(receive)
        if announced is not None and announced > limit:
            await _drain(coming, announced)
            raise error("E607", bytes=announced, limit=limit)
        pieces: list[bytes] = []
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for piece in coming:
                    share.add(len(piece))
                    pieces.append(piece)
                    if share.bytes > limit:
                        pieces.clear()
                        await _drain(coming, limit)
                        raise error("E607", bytes=share.bytes, limit=limit)
                    if self.held > self._limits.held_bytes:
                        raise error("E623", held=self.held, limit=self._limits.held_bytes, retry_after=1)
        except TimeoutError as reason:
            raise error("E608", seconds=f"{self._limits.body_seconds:g}", bytes=share.bytes) from reason
        return b"".join(pieces)


class _Share:
    """Bytes that one request holds of its server's total."""

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        self.bytes = 0

    def add(self, count: int) -> None:
        self.bytes += count
        self._reader.held += count


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body", False):
            return


async def _drain(coming: AsyncIterator[bytes], most: int) -> None:
    """Read on for a while and forget it. A client that is still sending when its connection closes sees a broken
    connection instead of the answer that tells it why.
    """
    seen = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for piece in coming:
                seen += len(piece)
                if seen > 4 * most:
                    return
    except TimeoutError:
        return


def seconds_up(seconds: float) -> int:
    """Whole seconds, rounded up, at least 1: what a Retry-After header can say."""
    return max(1, int(-(-seconds // 1)))
