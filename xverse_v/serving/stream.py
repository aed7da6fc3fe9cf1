"""Server-sent events: documents to bytes, for as long as somebody listens.

What crosses: an iterator of JSON documents in; ``data: {...}`` events out, closed by ``data: [DONE]``. A failure before
the first document is an ordinary error response with its own status; a later one is an event that holds the error,
and then no ``[DONE]``, so nobody takes half an answer for a whole one. A client that leaves ends the iterator, which
ends the work behind it. Nothing here knows what the documents say.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from xverse_v.errors import XverseError

from .errors import as_error, error_event
from .gate import Facts
from .limits import Disconnected

T = TypeVar("T")
Documents = AsyncGenerator[Mapping[str, Any], None]

PING_SECONDS = 15.0  # proxies commonly close a connection that is silent for 30 or 60
_PING = b": waiting\n\n"
_DONE = b"data: [DONE]\n\n"


class EventStream(Response):
    """An ASGI response that streams documents."""

    media_type = "text/event-stream"

    def __init__(self, documents: Documents, facts: Facts, ping_seconds: float | None = None) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._documents = documents
        self._facts = facts
        self._ping_seconds = PING_SECONDS if ping_seconds is None else ping_seconds
        self._started = False
        self._sent_at = 0.0
        self._turn = asyncio.Lock()  # events and pings come from two tasks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises `Disconnected` when the client leaves, after the iterator was closed."""
        work = asyncio.create_task(self._stream(send))
        others = {asyncio.create_task(_gone(receive)), asyncio.create_task(self._ping(send))}
        try:
            await asyncio.wait({work, *others}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise Disconnected
            work.result()
        finally:
            for other in others:
                other.cancel()
            await _end(work)
            await self._documents.aclose()

    async def _stream(self, send: Send) -> None:
        try:
            async for document in self._documents:
                await self._send(event(document), send)
        except Exception as reason:
            if not self._started:
                raise  # the gate answers it as any other failure
            problem = as_error(reason)
            self._facts.code = problem.code
            await self._send(error_event(problem, self._facts.language), send, last=True)
            if not isinstance(reason, XverseError):
                raise  # a bug: the gate logs it
        else:
            await self._send(_DONE, send, last=True)

    async def _ping(self, send: Send) -> None:
        """A comment, which clients skip, whenever nothing was sent for a while."""
        self._sent_at = time.monotonic()
        while True:
            silent = time.monotonic() - self._sent_at
            if silent >= self._ping_seconds:
                await self._send(_PING, send)
            else:
                await asyncio.sleep(self._ping_seconds - silent)

    async def _send(self, body: bytes, send: Send, *, last: bool = False) -> None:
        async with self._turn:
            if not self._started:
                self._started = True
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": body, "more_body": not last})
            self._sent_at = time.monotonic()


async def unless_gone(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """The result of ``work``, which is cancelled when the client leaves before it is there: then `Disconnected`."""
    pending, gone = asyncio.ensure_future(work), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({pending, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not pending.done():
            raise Disconnected
        return pending.result()
    finally:
        gone.cancel()
        await _end(pending)


def event(document: Mapping[str, Any]) -> bytes:
    """One event. JSON text has no line ends of its own, which would end the event early."""
    return b"data: " + json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def _end(pending: asyncio.Future[Any]) -> None:
    """Cancel what is not done and wait until it has let go of what it held."""
    if not pending.done():
        pending.cancel()
        await asyncio.wait({pending})
    if not pending.cancelled():
        pending.exception()  # looked at, so that asyncio does not report it as forgotten


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
