"""Run the server: bind, serve, and stop in good order.

What crosses: an ASGI application and its backend in; nothing comes back until the server was told to stop (SIGTERM,
SIGINT, or a backend that failed to load). The socket is bound here rather than by uvicorn, so a taken port is an error
with a code, and port 0 is known before anybody asks.
"""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from xverse_v.errors import error

from .backend import Backend
from .gate import Gate
from .settings import ServeSettings

_AFTER_GRACE = 5.0  # for the last error events to get out
_BACKLOG = 1024
_KEEP_ALIVE = 75  # seconds; clients let go of idle connections after 5 to 60, and whoever is later sees no torn request


class Server(uvicorn.Server):
    """uvicorn's, with one difference: the backend begins to close when the server does, not when the last answer is
    done, so that answers which take too long are ended with an error their clients can read."""

    def __init__(self, config: uvicorn.Config, backend: Backend, grace_seconds: float) -> None:
        super().__init__(config)
        self._backend = backend
        self._grace_seconds = grace_seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        closing = asyncio.create_task(self._backend.close(self._grace_seconds))
        await super().shutdown(sockets)
        await closing


def make_server(app: Gate, backend: Backend, settings: ServeSettings) -> Server:
    """A server that is ready to run; ``server.should_exit = True`` stops it from any thread."""
    grace = settings.limits.grace_seconds
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # the gate writes its own line, which knows the tenant and the error code
        server_header=False,
        proxy_headers=False,  # nobody's word about who he is
        lifespan="on",
        ws="none",
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=round(grace + _AFTER_GRACE),
    )
    return Server(config, backend, grace)


def listen(settings: ServeSettings) -> socket.socket:
    """A bound socket; port 0 is a free one by now. Raises E606 if the address cannot be had."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        bound = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        # asyncio sets this on sockets that it makes itself. Without it the second of two small writes, which is every
        # token of a stream, waits up to 40 ms for the other side's acknowledgement of the first.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return bound
    except OSError as reason:
        why = reason.strerror or str(reason)
        raise error("E606", host=settings.host, port=settings.port, reason=why) from reason


def url_of(bound: socket.socket) -> str:
    """Where the socket answers: ``http://127.0.0.1:8000``."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
