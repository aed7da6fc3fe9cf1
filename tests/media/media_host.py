"""A web host for tests: TLS on loopback, one function a path that writes whatever bytes it likes, good or evil.

The door is shown a public address for it: a `Names` in place of the name service, and a connector that leads every
address to this host. Both write down what was asked of them.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from media_authority import DAY, Key, certificate

PUBLIC, PUBLIC_V6 = "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"

Behaviour = Callable[["Visit"], None]


class Visit:
    """One connection: what was asked, and a way to answer. `send` is False once the other side has gone."""

    def __init__(self, connection: ssl.SSLSocket, request: bytes, over: threading.Event) -> None:
        self.connection, self.request, self.over = connection, request, over

    def send(self, data: bytes) -> bool:
        try:
            self.connection.sendall(data)
        except OSError:
            return False
        return not self.over.is_set()

    def answer(self, body: bytes, *headers: str, status: str = "200 OK") -> None:
        self.send(head(f"Content-Length: {len(body)}", *headers, status=status) + body)


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1")


class Host:
    """Serves until closed. `pages` maps a path to its behaviour; `requests` holds what was asked."""

    def __init__(self, folder: Path) -> None:
        self.pages: dict[str, Behaviour] = {}
        self.requests: list[bytes] = []
        self.connected: list[tuple[str, int]] = []
        self.ca_file = folder / "authority.pem"
        self._contexts = self._certificates(folder)
        self._over = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=32)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def connect(self, address: str, port: int, seconds: float) -> socket.socket:
        """A connector that leads everywhere to this host."""
        self.connected.append((address, port))
        return socket.create_connection(self._server.getsockname(), timeout=seconds)

    def close(self) -> None:
        self._over.set()
        with socket.create_connection(self._server.getsockname()):
            pass  # wakes the accepting thread
        for thread in self._threads:
            thread.join(10)
        self._server.close()
        assert not any(thread.is_alive() for thread in self._threads)

    def _certificates(self, folder: Path) -> dict[str, ssl.SSLContext]:
        authority, stranger = Key.made(), Key.made()
        self.ca_file.write_text(certificate("test authority", authority, "test authority", authority, ca=True))
        made = {}
        for host in ("images.example.com", "other.example.com", "a.images.example.com"):
            key = Key.made()
            made[host] = key, certificate(host, key, "test authority", authority)
        key = Key.made()
        made["self-signed.example.com"] = key, certificate("self-signed.example.com", key, "stranger", stranger)
        made["expired.example.com"] = (
            key,
            certificate("expired.example.com", key, "test authority", authority, ends=-DAY),
        )
        made["misnamed.example.com"] = made["other.example.com"]
        contexts = {}
        for host, (key, text) in made.items():
            file = folder / f"{host}.pem"
            file.write_text(key.pem() + text)
            contexts[host] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            contexts[host].load_cert_chain(file)
        return contexts

    def _accept(self) -> None:
        while True:
            plain, _ = self._server.accept()
            if self._over.is_set():
                plain.close()
                return
            self._threads.append(threading.Thread(target=self._serve, args=(plain,)))
            self._threads[-1].start()

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(10)

        def chosen(connection: ssl.SSLSocket, host: str | None, _: ssl.SSLContext) -> None:
            connection.context = self._contexts[host or ""]

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = chosen  # type: ignore[assignment]
        try:
            with plain, context.wrap_socket(plain, server_side=True) as connection:
                request = b""
                while b"\r\n\r\n" not in request and (piece := connection.recv(4096)):
                    request += piece
                if request:
                    self.requests.append(request)
                    path = request.split(b" ", 2)[1].decode("ascii").partition("?")[0]
                    self.pages[path](Visit(connection, request, self._over))
        except OSError:
            return  # the door has hung up, which is what most of these tests want


class Names:
    """A name service that knows what it is told; several lists for a name are given one after another."""

    def __init__(self) -> None:
        self.known: dict[str, list[Sequence[str]]] = {}
        self.asked: list[str] = []

    def tell(self, host: str, *answers: Sequence[str]) -> None:
        self.known[host] = list(answers)

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self.known.get(host, [[PUBLIC]])
        return answers.pop(0) if len(answers) > 1 else answers[0]
