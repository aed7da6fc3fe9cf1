"""Images from the web: off unless a program names the hosts that may be asked, and then as narrow as it can be.

What crosses: a URL and a `RemotePolicy` in, at most `max_bytes` bytes out, or an error of its own code (E528 to E543).
https only; hosts and ports by the policy's list; each redirect is a new URL and checked like the first. The answer's
headers decide nothing about the content: what the bytes are is told from the bytes, elsewhere.
"""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import XverseError, error
from .limits import MediaLimits, shown
from .transport import Connector, Deadline, Resolver, ask, system_resolver, tcp_connect
from .urls import HostRule, WebAddress, joined_url, parse_url

_REDIRECTS = (301, 302, 303, 307, 308)
_PIECE = 65_536  # bytes read at a time


@dataclass(frozen=True)
class RemotePolicy:
    """Which hosts may be asked for images, and how long.

    hosts: `images.example.com`, `*.example.com` (every host below, not itself), `images.example.com:8443`; the port is
    443 unless it is named. There is no rule for every host. seconds: for everything together, look-up, redirects and
    body. max_redirects: 0 refuses them. ca_file: authorities (PEM) to trust in place of the system's.
    resolver, connector: how names are looked up and connections made; the defaults ask the operating system. Every
    address that a resolver gives has to be public, whichever it is.

    Raises E543 for a rule that is none, and for no rule at all.
    """

    hosts: tuple[str, ...]
    seconds: float = 5.0
    max_redirects: int = 3
    ca_file: Path | None = None
    resolver: Resolver = system_resolver
    connector: Connector = tcp_connect
    _rules: tuple[HostRule, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.hosts, tuple) or not self.hosts:
            raise error("E543", rule=shown(repr(self.hosts)))
        object.__setattr__(self, "_rules", tuple(HostRule.parse(text) for text in self.hosts))

    def check(self, where: WebAddress) -> None:
        """Raises E532 (a host that is not listed) and E533 (a port that is not)."""
        ports = sorted({rule.port for rule in self._rules if rule.names(where.host)})
        if not ports:
            raise error("E532", host=where.host, allowed=shown(", ".join(self.hosts)))
        if where.port not in ports:
            raise error("E533", host=where.host, port=where.port, allowed=", ".join(map(str, ports)))


def fetch(url: str, policy: RemotePolicy, limits: MediaLimits) -> bytes:
    """The bytes at an https URL. Raises E511 and E528 to E543."""
    deadline, current = Deadline(policy.seconds), url
    try:
        for _ in range(policy.max_redirects + 1):
            where = parse_url(current)
            policy.check(where)
            with ask(where, deadline, policy.resolver, policy.connector, policy.ca_file) as answer:
                if answer.status not in _REDIRECTS:
                    return _body(answer, where, limits)
                current = _next_url(answer, where)
    except TimeoutError as reason:
        raise error("E542", url=shown(url), seconds=policy.seconds) from reason
    except (OSError, http.client.HTTPException, ValueError) as reason:
        raise _broken(where, f"{type(reason).__name__}: {reason}".rstrip(": ")) from reason
    raise error("E537", url=shown(url), limit=policy.max_redirects)


def _next_url(answer: http.client.HTTPResponse, where: WebAddress) -> str:
    places = answer.headers.get_all("Location", [])
    if len(places) != 1:
        raise _broken(where, f"{len(places)} Location headers")
    return joined_url(where, places[0])


def _body(answer: http.client.HTTPResponse, where: WebAddress, limits: MediaLimits) -> bytes:
    if answer.status != 200:
        raise error("E538", url=shown(where.url), status=answer.status, reason=shown(answer.reason))
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise _broken(where, f"Content-Encoding {encoding}")
    stated = answer.length  # None where the body is chunked, or ends with the connection
    if stated is not None and stated > limits.max_bytes:
        raise error("E511", name=shown(where.url), bytes=stated, limit=limits.max_bytes)
    data = bytearray()
    while piece := answer.read(_PIECE):
        data += piece
        if len(data) > limits.max_bytes:
            raise error("E511", name=shown(where.url), bytes=len(data), limit=limits.max_bytes)
    if stated is not None and len(data) != stated:
        raise _broken(where, f"{len(data)} of {stated} bytes")
    return bytes(data)


def _broken(where: WebAddress, reason: str) -> XverseError:
    return error("E539", url=shown(where.url), reason=shown(reason))
