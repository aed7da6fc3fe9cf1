"""What the gate lets through and what it says to the rest, over real HTTP."""

from dataclasses import replace

import pytest

from tests.serving.requests_to_gate import ASK, CHAT, SETTINGS, shape
from tests.serving.servers import KEY, OTHER_KEY


def test_every_route_but_health_needs_a_key(ask_echo):
    client = ask_echo(keys=[KEY])
    assert client.get("/health").status_code == 200
    for path in ("/v1/models", "/v1/models/nano", "/metrics", "/version", "/openapi.json", "/docs", "/no/such/route"):
        response = client.get(path)
        shape(response, 401, "E601")
        assert response.headers["www-authenticate"] == "Bearer"
    for path in (CHAT, "/v1/tiles", "/health/", "/v1/completions"):
        shape(client.post(path, json=ASK), 401, "E601")


@pytest.mark.parametrize(
    "header", ["Bearer " + KEY[:-1], "Bearer", KEY, "Basic " + KEY, "Bearer " + KEY.upper(), "Bearer " + "é" * 20]
)
def test_a_wrong_key_is_no_key(ask_echo, header):
    client = ask_echo(keys=[KEY, OTHER_KEY])
    shape(client.get("/version", headers={"Authorization": header.encode("latin-1")}), 401, "E601")


def test_the_tenant_is_the_key_and_not_its_text(ask_echo, echo):
    client = ask_echo(keys=[KEY, OTHER_KEY])
    for key in (KEY, OTHER_KEY, KEY):
        assert client.post(CHAT, json=ASK, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    one, two, three = [call.facts.tenant for call in echo.calls]
    assert one == three != two
    assert KEY not in one


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "[2001:db8::1]", "0x7f.1"]
)
def test_another_name_than_loopbacks_is_refused(ask_echo, host):
    client = ask_echo()
    shape(client.get("/health", headers={"Host": host}), 403, "E602")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "127.9.9.9", "[::1]:8000"])
def test_loopbacks_own_names_pass(ask_echo, host):
    assert ask_echo().get("/health", headers={"Host": host}).status_code == 200


def test_a_name_can_be_allowed(ask_echo):
    client = ask_echo(replace(SETTINGS, allowed_hosts=("model.example",)))
    assert client.get("/health", headers={"Host": "Model.Example:443"}).status_code == 200
    assert client.get("/health", headers={"Host": "other.example"}).status_code == 403


def test_request_ids_come_back_or_are_made(ask_echo):
    client = ask_echo()
    assert client.get("/health", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/nothing", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = {
        client.get("/health", headers={"X-Request-Id": bad}).headers["x-request-id"] for bad in ("a b", "", "x" * 200)
    }
    assert len(made) == 3
    assert all(name.startswith("req-") for name in made)


def test_unknown_routes_and_methods(ask_echo):
    client = ask_echo()
    shape(client.get("/v1/completions"), 404, "E613")
    shape(client.post("/v1/embeddings", json={}), 404, "E613")
    response = client.get(CHAT)
    shape(response, 405, "E614")
    assert response.headers["allow"] == "POST"
    shape(client.request("DELETE", "/v1/models"), 405, "E614")
    shape(client.get("/v1/models/other"), 404, "E612")
    shape(client.options(CHAT, headers={"Origin": "http://evil.example"}), 405, "E614")


def test_no_cors_headers(ask_echo):
    response = ask_echo().post(CHAT, json=ASK, headers={"Origin": "http://evil.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_bodies_a_browser_may_send_anywhere_are_refused(ask_echo, echo, kind):
    headers = {"Content-Type": kind} if kind else {}
    client = ask_echo()
    request = client.build_request("POST", CHAT, content=b'{"model": "nano"}', headers=headers)
    shape(client.send(request), 415, "E609")
    assert not echo.calls


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b'{"model": "nano"}', "messages"),
        (b'{"model": "nano", "messages": []}', "messages"),
        (b'{"model": "nano", "messages": [{"role": "user", "content": 3}]}', "messages[0].content"),
        (
            b'{"model": "nano", "messages": [{"role": "user", "content": [{"type": "text"}]}]}',
            "messages[0].content[0].text",
        ),
        (b'{"model": "nano", "messages": [{"role": "user", "content": [{"type": "x"}]}]}', "messages[0].content[0]"),
        (b'{"model": "nano", "messages": [{"role": "user", "content": "\\ud800"}]}', None),
        (b'{"model": "nano", "messages": [{"role": "king", "content": "a"}]}', "messages[0].role"),
        (b'{"model": "nano", "messages": [{"role": "user", "content": "a"}], "temperature": NaN}', "temperature"),
        (b'{"model": "nano", "messages": [{"role": "user", "content": "a"}], "seed": 1' + b"0" * 5000 + b"}", None),
        (b'{"model": "nano", "messages": [{"role": "user", "content": "a"}], "max_tokens": true}', "max_tokens"),
    ],
)
def test_what_is_no_request_is_400_and_names_the_field(ask_echo, body, field):
    client = ask_echo()
    problem = shape(client.post(CHAT, content=body, headers={"Content-Type": "application/json"}), 400, "E610")
    assert problem["type"] == "invalid_request_error"
    assert problem["param"] == field


def test_messages_are_in_the_readers_language(ask_echo):
    client = ask_echo()
    assert "没有" in client.get("/nothing", headers={"Accept-Language": "zh-CN,zh;q=0.9"}).json()["error"]["message"]
    assert "没有" not in client.get("/nothing").json()["error"]["message"]


def test_ignored_fields_are_named_and_counted(ask_echo):
    client = ask_echo()
    body = ASK | {"user": "me", "messages": [{"role": "user", "name": "Ann", "content": "a"}], "x-\u4e2d": 1}
    response = client.post(CHAT, json=body)
    assert response.status_code == 200
    assert response.headers["x-notes"] == "ignored: user, x-\\u4e2d, messages[0].name"
    assert "xverse_v_ignored_fields_total 3.0" in client.get("/metrics").text


@pytest.mark.parametrize("name", ["", " ", "a\r\nSet-Cookie: b=c", "\x00", "x" * 5000, "\U0001f600 "])
def test_a_fields_name_cannot_break_out_of_the_header(ask_echo, name):
    response = ask_echo().post(CHAT, json=ASK | {name: 1})
    assert response.status_code == 200
    assert response.headers["x-notes"].startswith("ignored: ")
    assert "set-cookie" not in response.headers


def test_metrics_never_hold_a_made_up_path(ask_echo):
    client = ask_echo()
    client.get("/a/made/up/path")
    page = client.get("/metrics").text
    assert "made" not in page
    assert 'route="other",status="404"' in page


def test_health_says_what_state_it_is_in(ask_echo, echo):
    client = ask_echo()
    for state in ("loading", "stopping", "failed"):
        echo.state = state
        response = client.get("/health")
        assert (response.status_code, response.json()) == (503, {"status": state})


def test_websockets_are_refused(ask_echo):
    client = ask_echo()
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "x" * 22,
        "Sec-WebSocket-Version": "13",
    }
    assert client.get("/v1/models", headers=headers).status_code < 500
