"""What a server is started with: addresses, limits and switches, as one frozen value.

Plain data, checked when it is made. It reads no environment, no file and no argument list: the command line does, and
a test may make its own. Seconds and bytes throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from xverse_v.errors import error
from xverse_v.media import RemotePolicy

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """What clients may cost. Raises E605 for a number out of its range.

    - ``body_bytes``: most bytes of one request's body; ``held_bytes``: of all bodies held at the same time.
    - ``body_seconds``: time a client has to send its body.
    - ``messages``, ``images``: most of one request.
    - ``answer_tokens``: most tokens of an answer, whatever is asked for; None is the model's context.
    - ``batch``: most requests that share a decode step; ``queue``: most that wait behind them.
    - ``request_seconds``: wall clock of one request, waiting included.
    - ``per_minute``: requests a key may send a minute, as a bucket that refills steadily; None is no limit.
    - ``burst``: what the bucket holds; None is a tenth of ``per_minute``, at least 1.
    - ``grace_seconds``: how long running answers may go on after the server was told to stop.
    """

    body_bytes: int = 32 * MIB
    held_bytes: int = 512 * MIB
    body_seconds: float = 60.0
    messages: int = 256
    images: int = 16
    answer_tokens: int | None = None
    batch: int = 8
    queue: int = 256
    request_seconds: float = 300.0
    per_minute: float | None = None
    burst: int | None = None
    grace_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("body_bytes", "held_bytes", "body_seconds", "messages", "batch", "queue", "request_seconds"):
            self._refuse_unless(name, getattr(self, name) > 0)
        for name in ("images", "grace_seconds"):
            self._refuse_unless(name, getattr(self, name) >= 0)
        for name in ("answer_tokens", "per_minute", "burst"):
            self._refuse_unless(name, getattr(self, name) is None or getattr(self, name) > 0)

    def _refuse_unless(self, name: str, good: bool) -> None:
        if not good:
            raise error("E605", name=name, got=getattr(self, name))


@dataclass(frozen=True)
class Upstream:
    """Another server to pass questions on to. ``url`` ends where its ``/chat/completions`` begins, mostly in ``/v1``;
    ``model`` is its name there, None the first it lists; ``key`` is ours for it.
    """

    url: str
    model: str | None = None
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ServeSettings:
    """One server.

    - ``host``, ``port``: where it listens; port 0 takes a free one.
    - ``allowed_hosts``: names besides loopback's own that a request's Host header may carry; ``("*",)`` allows any.
    - ``model_name``: the name clients ask for.
    - ``remote``: which hosts may be asked for images by URL; None touches no network.
    - ``log_prompts``: write questions and answers to the log. Off, no log line holds a word of either.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    model_name: str = "nano"
    allowed_hosts: tuple[str, ...] = ()
    remote: RemotePolicy | None = None
    log_prompts: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server. A name other than localhost counts as not."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """``host`` is localhost or a loopback address (127.0.0.0/8, ::1)."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
