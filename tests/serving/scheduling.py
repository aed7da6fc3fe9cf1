"""Requests for a scheduler, a gate in front of its decode steps, and waiting for what it does."""

import asyncio
import threading
import time

import pytest

from xverse_v.errors import XverseError
from xverse_v.inference import engine as engine_module
from xverse_v.inference.assistant import Request
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.serving.scheduler_ticket import Ticket

PATIENCE = 120  # seconds; a bound for what must happen, never a measure


def ask(question: str = "What is it?", tokens: int = 6, **more) -> Request:
    return Request(question, settings=SamplingSettings(max_new_tokens=tokens), **more)


class Gate:
    """Holds every decode step until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        original = engine_module.decode

        def held(*args):
            self.reached.set()
            assert self.open.wait(PATIENCE)
            return original(*args)

        monkeypatch.setattr(engine_module, "decode", held)


def result(ticket: Ticket):
    """The answer or the error, waited for in this thread."""

    async def wait():
        return await asyncio.wait_for(ticket.wait(), PATIENCE)

    try:
        return asyncio.run(wait())
    except XverseError as problem:
        return problem


def eventually(true) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.002)
