"""The gate in front of every route: request id, Host, key, rate, body, one log line and one count for each request.

What crosses: an ASGI request from outside; inside, the same request with its body read and its `Facts` in
``scope["facts"]``. What does not get past it never reaches a route, also no route that does not exist, so a caller
without a key cannot even learn which there are. Only /health passes without a key. Nothing of a body is logged.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

from xverse_v.errors import Language, XverseError, error

from .auth import Keys, check_host
from .errors import CLOSED_BY_CLIENT, as_error, error_response, reader_language
from .limits import BodyReader, Disconnected, RateLimit, Receive
from .metrics import Metrics
from .settings import ServeSettings

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

HEALTH = "/health"
_COSTLY = frozenset({"/v1/chat/completions", "/v1/tiles"})  # what a rate is counted for
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LONGEST_NOTES = 2000
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@dataclass
class Facts:
    """What is known of one request besides its body. Routes add ``notes``: what was ignored or done another way."""

    request_id: str
    language: Language
    began: float
    tenant: str = ""
    notes: list[str] = field(default_factory=list)
    seed: int | None = None
    code: str | None = None
    status: int | None = None  # of the response, once it has begun


class Gate:
    """ASGI middleware, the outermost."""

    def __init__(self, app: App, settings: ServeSettings, keys: Keys, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._metrics = metrics
        self._rate = RateLimit(settings.limits)
        self._bodies = BodyReader(settings.limits)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:  # a WebSocket: refused before it is one
            await send({"type": "websocket.close", "code": 1008})

    async def _request(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        facts = Facts(_request_id(headers), reader_language(headers), time.perf_counter())
        scope["facts"] = facts
        answer = _with_headers(send, facts)
        route = self._metrics.route(scope["path"])
        with self._metrics.in_flight(route), self._bodies.holding() as share:
            try:
                self._admit(scope, headers, facts)
                body = b""
                announced = _content_length(headers)
                if announced or "transfer-encoding" in headers:
                    _check_type(headers)
                    body = await self._bodies.read(share, announced, receive)
                    _check_text(body)
                await self._app(scope, _replay(body, receive), answer)
            except Disconnected:
                facts.status = CLOSED_BY_CLIENT
            except Exception as problem:
                await self._fail(problem, facts, scope, receive, answer)
        self._note(scope, route, facts)

    def _admit(self, scope: MutableMapping[str, Any], headers: Headers, facts: Facts) -> None:
        check_host(headers.get("host"), self._settings)
        if scope["path"] != HEALTH:
            facts.tenant = self._keys.tenant(headers.get("authorization"))
        if scope["path"] in _COSTLY:
            self._rate.take(facts.tenant)

    async def _fail(
        self, problem: Exception, facts: Facts, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        """Answer with the error, if nothing was answered yet. A bug is logged here, without its words: they may hold
        a piece of somebody's prompt."""
        if not isinstance(problem, XverseError):
            frames = "".join(traceback.format_tb(problem.__traceback__))
            words = f": {problem}" if self._settings.log_prompts else ""
            facts.notes.clear()  # whatever they say, the answer is an error now
            log.error("%s failed with %s%s\n%s", facts.request_id, type(problem).__name__, words, frames)
        known = as_error(problem)
        facts.code = known.code
        if facts.status is None:
            await error_response(known, facts.language)(scope, receive, send)

    def _note(self, scope: MutableMapping[str, Any], route: str, facts: Facts) -> None:
        status = facts.status or CLOSED_BY_CLIENT
        seconds = time.perf_counter() - facts.began
        self._metrics.finished(route, status, facts.code, seconds)
        log.info(
            "%s %s %s %s %.0f ms tenant=%s%s",
            facts.request_id,
            scope["method"],
            route,
            status,
            seconds * 1000,
            facts.tenant[:8] or "-",
            f" {facts.code}" if facts.code else "",
        )


def _request_id(headers: Headers) -> str:
    """The client's own, if it can stand in a log line and a header as it is."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req-{secrets.token_hex(12)}"


def _check_type(headers: Headers) -> None:
    """Raises E609 unless the body is JSON. Browsers send any other type to any address without asking first."""
    kind = headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise error("E609", got=repr(kind[:100]))


def _check_text(body: bytes) -> None:
    """Raises E610 for half a surrogate pair. JSON can spell one, but no text can hold it, so it would fail later, at
    some place that writes text."""
    if _SURROGATE.search(body) is None:
        return
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError as reason:
        raise error("E610", param=None, field="body", problem="half a surrogate pair is no character") from reason
    except (ValueError, RecursionError):
        return  # not JSON at all, which the route says better


def _content_length(headers: Headers) -> int | None:
    given = headers.get("content-length", "")
    return int(given) if given.isascii() and given.isdigit() else None


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body that was read already, then whatever comes."""
    waiting: list[bytes] = [body]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


def _with_headers(send: Send, facts: Facts) -> Send:
    """A ``send`` that adds our headers to the response's start and notes its status."""

    async def sending(message: Message) -> None:
        starts = message["type"] == "http.response.start"
        if starts:
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = facts.request_id
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Cache-Control"] = "no-store"
            if facts.notes:
                # Field names are the client's: escaped, none can end the header or begin another.
                headers["X-Notes"] = "; ".join(facts.notes).encode("unicode_escape").decode()[:_LONGEST_NOTES].strip()
            if facts.seed is not None:
                headers["X-Seed"] = str(facts.seed)
        await send(message)
        if starts:
            facts.status = message["status"]

    return sending
