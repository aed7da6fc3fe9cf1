"""Fixtures of the server's tests; what they are made of stands in servers.py."""

import contextlib
from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.inference.small_model import small_assistant
from tests.serving.scheduling import Gate
from tests.serving.servers import KEY, OTHER_KEY, SETTINGS, Echo, local_backend, served, wait_until_ready
from xverse_v.inference.assistant import Assistant
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.serving.metrics import Metrics
from xverse_v.serving.scheduler import Scheduler, SchedulerLimits


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


@pytest.fixture(scope="module")
def assistant():
    # No end token that greedy decoding would meet: answers are as long as they are asked to be.
    return small_assistant(profiles={"demo": SamplingSettings(max_new_tokens=12)})


@pytest.fixture(scope="module")
def server(assistant):
    """The base URL of a server of the small model with two tenants."""
    metrics = Metrics()
    with served(local_backend(assistant, SETTINGS, metrics), SETTINGS, [KEY, OTHER_KEY], metrics) as url:
        wait_until_ready(url)
        yield url


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server}/v1", api_key=KEY, max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.open.set()


@pytest.fixture
def started() -> Iterator:
    """Makes started schedulers and closes them; none may leave a thread behind."""
    made: list[Scheduler] = []

    def start(assistant: Assistant | None = None, **limits) -> Scheduler:
        scheduler = Scheduler(assistant or small_assistant(), SchedulerLimits(**limits))
        scheduler.start()
        made.append(scheduler)
        return scheduler

    yield start
    for scheduler in made:
        scheduler.close(0.0)
        assert not any(thread.is_alive() for thread in scheduler._threads)
