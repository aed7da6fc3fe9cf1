"""What is let in over HTTP, before Gradio sees it, and what a browser may do with the page.

What crosses: ASGI requests. Refused: a foreign Host name on loopback (a page on the web can point its own name at
127.0.0.1), a foreign Origin, a missing name and password where one is set, and every request that would make Gradio
fetch an address for its sender. Every answer carries a policy that keeps the browser from asking anybody but this
server for anything. The file knows no model and nothing of what Gradio's routes mean beyond that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xverse_v.errors import XverseError, error

MOST_JSON_BYTES = 8_000_000
#: Gradio's page is made of inline scripts and styles and compiles small functions; all else comes from this server.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; media-src 'self' blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


_REMOTE = re.compile(r"proxy=|=[A-Za-z][A-Za-z0-9+.-]*:/")  # routes that have Gradio fetch what a path names


class Guard:
    """ASGI middleware. ``loopback``: bound to this machine alone. ``passwords``: name -> password; none asks for
    none.
    """

    def __init__(self, app: ASGIApp, *, loopback: bool, passwords: Mapping[str, str]) -> None:
        self._app = app
        self._loopback = loopback
        self._digests = [_digest(name, password) for name, password in passwords.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # the demo has no web sockets

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        if self._digests and not self._known(headers.get("authorization", "")):
            realm = {"WWW-Authenticate": 'Basic realm="XVERSE-V", charset="UTF-8"'}
            await PlainTextResponse("name and password, please", 401, realm)(scope, receive, with_headers)
            return
        problem = self._problem(scope, headers)
        body: bytes | None = None
        if problem is None and headers.get("content-type", "").split(";")[0].strip().lower() != "multipart/form-data":
            body = await _whole(receive) if scope["method"] not in ("GET", "HEAD") else None
            problem = _body_problem(body) if body else None
        if problem is not None:
            refusal = JSONResponse({"error": problem.as_dict()}, 413 if problem.facts.get("large") else 403)
            await refusal(scope, receive, with_headers)
            return
        await self._app(scope, receive if body is None else _again(body, receive), with_headers)

    def _known(self, authorization: str) -> bool:
        """Whether a Basic authorization is one of ours; all are always compared."""
        scheme, _, given = authorization.partition(" ")
        try:
            name, _, password = base64.b64decode(given, validate=True).decode("utf-8").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        digest = _digest(name, password)
        return scheme.lower() == "basic" and any([hmac.compare_digest(digest, known) for known in self._digests])

    def _problem(self, scope: Scope, headers: Headers) -> XverseError | None:
        host = headers.get("host", "")
        if self._loopback and not is_loopback(_name_of(host)):
            return _refusal(f"its Host is {host[:100]!r}", f"其 Host 为 {host[:100]!r}")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return _refusal(f"it comes from {origin[:100]!r}", f"它来自 {origin[:100]!r}")
        if _REMOTE.search(unquote(scope["path"])):
            return _refusal("it names a remote file", "它指向远程文件")
        return None


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name_of(host: str) -> str:
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _digest(name: str, password: str) -> bytes:
    return hashlib.sha256(f"{len(name)}:{name}:{password}".encode()).digest()


async def _whole(receive: Receive) -> bytes:
    """A request's body, read no further than one byte beyond what is taken."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body") or len(body) > MOST_JSON_BYTES or message["type"] == "http.disconnect":
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once and then goes on as before."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _body_problem(body: bytes) -> XverseError | None:
    if len(body) > MOST_JSON_BYTES:
        return _refusal(f"it is longer than {MOST_JSON_BYTES} bytes", f"它超过 {MOST_JSON_BYTES} 字节", large=True)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return _refusal("its body is not JSON", "其正文不是 JSON")
    return _refusal("it names a remote file", "它指向远程文件") if _names_remote_file(document) else None


def _names_remote_file(document: Any) -> bool:
    """Whether any object in it has a ``path`` that is an address; Gradio would fetch it."""
    waiting = [document]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            path = item.get("path")
            if isinstance(path, str) and "://" in path:
                return True
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return False


def _refusal(reason: str, reason_zh: str, **facts: object) -> XverseError:
    return error("E669", reason=reason, reason_zh=reason_zh, **facts)
