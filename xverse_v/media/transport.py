"""One https request to one address: look the name up once, check every answer, connect to what was checked.

What crosses: a `WebAddress` and a deadline in, the beginning of an answer out, its body still to be read. Nothing of
the process's surroundings takes part: no proxy variables, no .netrc, no cookies. Every wait (look-up, connection,
handshake, each read) ends at the one deadline, so a server that sends a byte now and then gains nothing by it.
Redirects and the meaning of the answer are not known here.
"""

from __future__ import annotations

import http.client
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

from ..errors import error
from .addresses import is_public
from .limits import shown
from .urls import WebAddress

#: Host name and port to the texts of its IP addresses. Raises `OSError` for a name that has none.
Resolver = Callable[[str, int], Sequence[str]]
#: IP address, port and seconds to a connected socket. Raises `OSError`.
Connector = Callable[[str, int, float], socket.socket]

_MOST_ADDRESSES = 4  # of one host that are tried


class Deadline:
    """The moment by which all has to be done, `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then. Raises `TimeoutError` when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def system_resolver(host: str, port: int) -> list[str]:
    """What the operating system answers for a name."""
    return [str(answer[4][0]) for answer in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def tcp_connect(address: str, port: int, seconds: float) -> socket.socket:
    """A TCP connection to an IP address, never to a name."""
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        connection.settimeout(seconds)
        connection.connect((address, port))
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def ask(
    where: WebAddress, deadline: Deadline, resolver: Resolver, connector: Connector, ca_file: Path | None
) -> Iterator[http.client.HTTPResponse]:
    """GET `where`; the answer's status and headers are read, its body is not.

    Raises E534 (the host has no address, or no connection), E535 (an address of it is not public), E536 (TLS), and
    what `http.client`, sockets and the deadline raise once the connection stands.
    """
    addresses = _public_addresses(where, deadline, resolver)
    with (
        _connection(where, addresses, deadline, connector) as plain,
        _encrypted(plain, where, deadline, ca_file) as tls,
    ):
        tls.settimeout(deadline.left())
        tls.sendall(_request(where))
        # http.client asks its socket for nothing but `makefile`; this one keeps the deadline.
        with http.client.HTTPResponse(cast(socket.socket, _Incoming(tls, deadline)), method="GET") as answer:
            answer.begin()
            yield answer


def _request(where: WebAddress) -> bytes:
    host = where.url.removeprefix("https://").partition("/")[0]
    lines = [f"GET {where.target} HTTP/1.1", f"Host: {host}", "User-Agent: xverse-v", "Accept: image/*"]
    # What comes is the file itself: a compressed transfer could be any number of times larger than what was counted.
    lines += ["Accept-Encoding: identity", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("ascii")


def _public_addresses(where: WebAddress, deadline: Deadline, resolver: Resolver) -> list[str]:
    try:
        found = list(dict.fromkeys(_in_time(lambda: resolver(where.host, where.port), deadline)))
    except TimeoutError:
        raise
    except (OSError, UnicodeError) as reason:
        raise error("E534", host=where.host, port=where.port, reason=shown(reason)) from reason
    if not found:
        raise error("E534", host=where.host, port=where.port, reason="the name has no address")
    if private := [address for address in found if not is_public(address)]:
        # One is enough: a name that answers with both is either broken or made to slip through.
        raise error("E535", host=where.host, address=shown(private[0]), count=len(found))
    return found[:_MOST_ADDRESSES]


def _in_time(work: Callable[[], Sequence[str]], deadline: Deadline) -> Sequence[str]:
    """Run `work`, which knows no deadline of its own, and stop waiting for it at ours."""
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put(work())
        except Exception as reason:
            done.put(reason)

    threading.Thread(target=run, name="look-up", daemon=True).start()
    try:
        result = done.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(result, Exception):
        raise result
    return cast(Sequence[str], result)


def _connection(where: WebAddress, addresses: Sequence[str], deadline: Deadline, connector: Connector) -> socket.socket:
    """Connected to the first of the checked addresses that answers; the later ones share what time is left."""
    for number, address in enumerate(addresses, 1):
        try:
            return connector(address, where.port, deadline.left() / (len(addresses) - number + 1))
        except OSError as reason:
            deadline.left()
            failed = reason
    raise error("E534", host=where.host, port=where.port, reason=shown(failed)) from failed


def _encrypted(plain: socket.socket, where: WebAddress, deadline: Deadline, ca_file: Path | None) -> ssl.SSLSocket:
    plain.settimeout(deadline.left())
    try:
        return _trust(ca_file).wrap_socket(plain, server_hostname=where.host)
    except TimeoutError:
        raise
    except OSError as reason:  # ssl.SSLError, a certificate that does not fit, or a connection that ends here
        raise error("E536", host=where.host, reason=shown(reason)) from reason


@cache
def _trust(ca_file: Path | None) -> ssl.SSLContext:
    """Certificates are checked against the name that was asked for, with the system's authorities or `ca_file`."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _Incoming(io.RawIOBase):
    """What arrives on a socket; every read ends at the deadline."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection, self._deadline = connection, deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(self._deadline.left())
        return self._connection.recv_into(buffer)
