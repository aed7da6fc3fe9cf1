"""The whole server beside its answers: loading, a full queue, streams that are left, requests that take too long."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import openai
import pytest

from tests.serving.servers import (
    KEY,
    NANO,
    SETTINGS,
    ask,
    data_url,
    local_backend,
    question,
    served,
    wait_for,
    wait_until_ready,
)
from xverse_v.errors import error
from xverse_v.serving.backend_local import LocalBackend
from xverse_v.serving.metrics import Metrics
from xverse_v.serving.run import listen
from xverse_v.serving.settings import Limits, ServeSettings


def test_leaving_a_stream_frees_its_row(server, client):
    headers = {"Authorization": f"Bearer {KEY}"}

    def running():
        page = httpx.get(f"{server}/metrics", headers=headers, trust_env=False).text
        return 'xverse_v_engine{what="running"} 1.0' in page

    stream = ask(client, question("Tell me all."), max_tokens=900, stream=True)
    next(stream)
    wait_for(running)
    stream.close()
    wait_for(lambda: not running())


def test_a_full_queue_is_429_with_a_time_to_wait(assistant):
    settings = replace(SETTINGS, limits=Limits(batch=1, queue=1))
    with served(local_backend(assistant, settings), settings) as url:
        wait_until_ready(url)
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            streams = [ask(client, question("Tell me all."), max_tokens=900, stream=True)]
            next(streams[0])
            with ThreadPoolExecutor(4) as pool:
                asked = [pool.submit(ask, client, question("Tell me."), max_tokens=2) for _ in range(4)]
                wait_for(lambda: sum(done.done() for done in asked) == 3)
                streams[0].close()
                failures = [done.exception() for done in asked if done.exception()]
            assert len(failures) == 3
            assert all(isinstance(failure, openai.RateLimitError) for failure in failures)
            assert all(int(failure.response.headers["retry-after"]) >= 1 for failure in failures)


def test_a_request_ends_at_its_wall_clock(assistant):
    settings = replace(SETTINGS, limits=Limits(request_seconds=0.3))
    with served(local_backend(assistant, settings), settings) as url:
        wait_until_ready(url)
        body = {"model": NANO, "messages": [question("Tell me all.")], "max_tokens": 950}
        response = httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False, timeout=30)
        assert (response.status_code, response.json()["error"]["code"]) == (504, "E145")
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        with client, pytest.raises(openai.APIError, match="E145"):
            list(ask(client, question("Tell me all."), max_tokens=950, stream=True))


def test_while_loading_it_says_so(assistant):
    loaded = threading.Event()

    def load():
        assert loaded.wait(30)
        return assistant

    with served(LocalBackend(load, SETTINGS, Metrics())) as url:
        response = httpx.get(f"{url}/health", trust_env=False)
        assert (response.status_code, response.json()) == (503, {"status": "loading"})
        body = {"model": NANO, "messages": [question("?")]}
        for path in ("/v1/chat/completions", "/v1/tiles"):
            sent = body if "chat" in path else {"image": data_url()}
            response = httpx.post(f"{url}{path}", json=sent, trust_env=False)
            assert (response.status_code, response.json()["error"]["code"]) == (503, "E600")
            assert int(response.headers["retry-after"]) >= 1
        assert httpx.get(f"{url}/v1/models", trust_env=False).status_code == 503
        loaded.set()
        wait_until_ready(url)


def test_a_model_that_cannot_be_loaded_is_told_to_who_started_it():
    told = []

    def load():
        raise error("E105", model="x", kind="missing", kind_zh="", near="nano")

    backend = LocalBackend(load, SETTINGS, Metrics(), lambda: told.append(True))
    with served(backend) as url:
        wait_for(lambda: told)
        assert httpx.get(f"{url}/health", trust_env=False).json() == {"status": "failed"}
    assert backend.failure.code == "E105"


def test_small_writes_leave_at_once():
    """Else each token of a stream waits for the acknowledgement of the one before, up to 40 ms."""
    with listen(ServeSettings(port=0)) as bound, socket.create_connection(bound.getsockname()[:2]):
        accepted, _ = bound.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
