"""The gate's bounds over real HTTP: bytes of one body and of all, seconds, requests a minute, clients that leave."""

import http.client
import socket

import pytest

from tests.serving.requests_to_gate import ASK, CHAT, limited, raw_request, shape
from tests.serving.servers import KEY, OTHER_KEY, never, wait_for
from xverse_v.serving.metrics import Metrics


def test_a_body_at_the_limit_passes_and_one_over_it_does_not(ask_echo, echo):
    client = ask_echo(limited(body_bytes=1000))
    body = b'{"model": "nano", "messages": [{"role": "user", "content": "%s"}]}'
    fill = 1000 - len(body % b"")
    json = {"Content-Type": "application/json"}
    assert client.post(CHAT, content=body % (b"x" * fill), headers=json).status_code == 200
    shape(client.post(CHAT, content=body % (b"x" * (fill + 1)), headers=json), 413, "E607")
    shape(client.post(CHAT, content=iter([body % (b"x" * fill), b" "]), headers=json), 413, "E607")
    assert len(echo.calls) == 1


def test_a_large_body_gets_its_answer_while_it_is_still_sent(ask_echo):
    client = ask_echo(limited(body_bytes=100_000))
    shape(client.post(CHAT, content=b"x" * 400_000, headers={"Content-Type": "application/json"}), 413, "E607")


def test_a_slow_body_is_ended(ask_echo):
    client = ask_echo(limited(body_seconds=0.2))
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=10)
    connection.putrequest("POST", CHAT)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"{")
    response = connection.getresponse()
    assert response.status == 408
    assert b"E608" in response.read()
    connection.close()


def test_all_bodies_together_are_bounded(ask_echo, echo):
    async def wait(_):
        await never()

    echo.act = wait
    client = ask_echo(limited(held_bytes=150))
    waiting = socket.create_connection((client.base_url.host, client.base_url.port))
    waiting.sendall(raw_request(ASK))
    wait_for(lambda: echo.calls)
    response = client.post(CHAT, json=ASK)
    shape(response, 429, "E623")
    assert response.headers["retry-after"] == "1"
    waiting.close()
    wait_for(lambda: echo.ended == 1)
    echo.act = None
    assert client.post(CHAT, json=ASK).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_the_work(ask_echo, echo, stream):
    async def wait(_):
        await never()

    echo.act = wait
    metrics = Metrics()
    client = ask_echo(metrics=metrics)
    leaving = socket.create_connection((client.base_url.host, client.base_url.port))
    leaving.sendall(raw_request(ASK, stream))
    wait_for(lambda: echo.calls)
    assert echo.ended == 0
    leaving.close()
    wait_for(lambda: echo.ended == 1)
    wait_for(lambda: 'route="/v1/chat/completions",status="499"} 1.0' in client.get("/metrics").text)


def test_a_rate_is_kept_for_each_key(ask_echo):
    client = ask_echo(limited(per_minute=60, burst=2), keys=[KEY, OTHER_KEY])
    mine, theirs = ({"Authorization": f"Bearer {key}"} for key in (KEY, OTHER_KEY))
    statuses = [client.post(CHAT, json=ASK, headers=mine).status_code for _ in range(2)]
    assert statuses == [200, 200]
    response = client.post(CHAT, json=ASK, headers=mine)
    problem = shape(response, 429, "E615")
    assert problem["type"] == "rate_limit_error"
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert client.post(CHAT, json=ASK, headers=theirs).status_code == 200
    assert client.get("/v1/models", headers=mine).status_code == 200
