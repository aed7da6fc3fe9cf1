"""A small request, settings with other limits, and the shape every error has."""

import json
from dataclasses import replace

from xverse_v.serving.settings import Limits, ServeSettings

CHAT = "/v1/chat/completions"
ASK = {"model": "nano", "messages": [{"role": "user", "content": "a word nobody else says"}]}
SETTINGS = ServeSettings(port=0)


def limited(**limits):
    return replace(SETTINGS, limits=Limits(**limits))


def shape(response, status, code):
    """The response is an OpenAI error with this status and code; returns the error."""
    assert response.status_code == status, response.text
    problem = response.json()["error"]
    assert set(problem) == {"message", "type", "param", "code", "name"}
    assert problem["code"] == code
    assert problem["message"].startswith(f"{code} ")
    return problem


def raw_request(body, stream=False):
    text = json.dumps(body | {"stream": stream}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text
