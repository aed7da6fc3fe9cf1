"""The local web host, the door's policy for it, and a watchdog over everything hostile."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from media_host import Host, Names

from xverse_v.media import RemotePolicy

WATCHDOG = 30  # seconds; a refusal takes milliseconds, and without its rule some of these inputs take minutes


class Hung(BaseException):
    """Not an `Exception`: the door takes those from a decoder for damage."""


@pytest.fixture
def watchdog() -> Iterator[None]:
    def bark(*_: object) -> None:
        raise Hung(f"not refused within {WATCHDOG} s")

    before = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, WATCHDOG)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def _host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(tmp_path_factory.mktemp("host"))
    yield host
    host.close()


@pytest.fixture
def host(_host: Host) -> Host:
    _host.requests.clear()
    _host.connected.clear()
    return _host


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def policy(host: Host, names: Names) -> RemotePolicy:
    return RemotePolicy(
        hosts=("*.example.com", "*.images.example.com:8443"),
        seconds=2.0,
        ca_file=host.ca_file,
        resolver=names,
        connector=host.connect,
    )
