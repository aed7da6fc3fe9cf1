"""What fails behind the gate: its status, its event in a stream, and no word of a prompt in the log."""

import asyncio
import logging
import time

import pytest

from tests.serving.requests_to_gate import ASK, CHAT, shape
from tests.serving.servers import KEY
from xverse_v.errors import error


def test_a_bug_is_500_without_its_words_anywhere(ask_echo, echo, caplog):
    async def fail(call):
        raise RuntimeError(f"it happened at {call.request.messages[0].content}")

    echo.act = fail
    client = ask_echo()
    with caplog.at_level(logging.DEBUG):
        response = client.post(CHAT, json=ASK)
        assert "E619" in shape(response, 500, "E619")["message"]
        assert client.get("/health").status_code == 200
    assert "a word nobody else says" not in response.text + caplog.text
    assert "RuntimeError" in caplog.text
    assert "test_gate_failures.py" in caplog.text, "the log says where"


def test_no_word_of_a_prompt_is_logged(ask_echo, caplog):
    client = ask_echo(keys=[KEY])
    with caplog.at_level(logging.DEBUG):
        client.post(CHAT, json=ASK, headers={"Authorization": f"Bearer {KEY}"})
        client.post(
            CHAT, json=ASK | {"temperature": "a word nobody else says"}, headers={"Authorization": f"Bearer {KEY}"}
        )
    assert CHAT in caplog.text
    assert "a word nobody else says" not in caplog.text
    assert KEY not in caplog.text


def test_a_failure_before_the_first_piece_has_its_own_status(ask_echo, echo):
    async def stream(call):
        raise error("E618", retry_after=3)
        yield

    echo.stream = stream
    response = ask_echo().post(CHAT, json=ASK | {"stream": True})
    shape(response, 503, "E618")
    assert response.headers["retry-after"] == "3"


@pytest.mark.parametrize("ours", [True, False])
def test_a_failure_in_mid_stream_is_an_event_and_no_done(ask_echo, echo, ours):
    async def fail(_):
        await asyncio.sleep(0)
        raise error("E618", retry_after=3) if ours else RuntimeError("a bug")

    echo.act = fail
    client = ask_echo()
    response = client.post(CHAT, json=ASK | {"stream": True})
    assert response.status_code == 200
    events = [event for event in response.text.split("\n\n") if event]
    assert len(events) == 2
    assert events[-1].startswith('data: {"error":')
    assert ("E618" if ours else "E619") in events[-1]
    assert "[DONE]" not in response.text
    counted = f'xverse_v_errors_total{{code="{"E618" if ours else "E619"}"}} 1.0'
    until = time.monotonic() + 10  # the books are written behind the last event, which may be read before
    while counted not in client.get("/metrics").text:
        assert time.monotonic() < until, client.get("/metrics").text
        time.sleep(0.01)


def test_pings_keep_a_silent_stream_open(monkeypatch, ask_echo, echo):
    monkeypatch.setattr("xverse_v.serving.stream.PING_SECONDS", 0.05)

    async def stream(call):
        await asyncio.sleep(0.3)
        yield {"choices": []}

    echo.stream = stream
    began = time.monotonic()
    response = ask_echo().post(CHAT, json=ASK | {"stream": True})
    assert time.monotonic() - began < 10
    assert response.text.count(": waiting\n\n") >= 2
    assert response.text.endswith("data: [DONE]\n\n")
