"""Fixtures of the server's tests; what they are made of stands in servers.py."""

import contextlib

import httpx
import pytest

from tests.serving.servers import Echo, served


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def ask_echo(echo):
    """A client of a server in front of `echo`; ``ask_echo(settings, keys)`` for another one."""
    with contextlib.ExitStack() as stack:

        def start(settings=None, keys=(), metrics=None):
            url = stack.enter_context(served(echo, settings, keys, metrics))
            return stack.enter_context(httpx.Client(base_url=url, timeout=20, trust_env=False))

        yield start
