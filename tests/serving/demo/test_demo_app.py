"""The demo over HTTP, without a browser: what is let in, what is not, and what is left behind."""

from __future__ import annotations

import base64
import json
import os
import socket
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.inference.small_model import noise, small_assistant
from xverse_v.errors import XverseError
from xverse_v.serving.demo.app import build, open_port
from xverse_v.serving.demo.options import DemoOptions, Example


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    path = tmp_path_factory.mktemp("examples") / "one.png"
    noise(40, 40, 1).save(path)
    return (Example(path, {"en": "What?", "zh": "什么？"}),)


@pytest.fixture(scope="module")
def demo(examples):
    demo = build(small_assistant(), DemoOptions(examples=examples, language="en"))
    yield demo
    demo.close()


@pytest.fixture(scope="module")
def client(demo):
    with TestClient(demo.app, base_url="http://127.0.0.1:20029") as client:
        yield client


def test_the_page_names_no_foreign_server_that_is_asked(client):
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    config = client.get("/config").json()
    assert config["analytics_enabled"] is False and config.get("run_history") is False
    assert not config.get("enable_queue_api", False) or not config.get("api_open", False)


def test_settings_on_the_page_are_the_models(client):
    config = client.get("/config").json()
    props = [component["props"] for component in config["components"]]
    labels = {prop.get("label"): prop for prop in props if prop.get("label")}
    assert labels["Top-p"]["value"] == 1.0 and labels["Temperature"]["interactive"] is False
    chat = next(component["props"] for component in config["components"] if component["type"] == "chatbot")
    assert chat["render_markdown"] is False and chat["latex_delimiters"] == [] and chat["sanitize_html"] is True


@pytest.mark.parametrize("host", ["evil.example", "evil.example:20029", "192.168.1.9:20029", "127.0.0.1.evil.example"])
def test_a_foreign_host_is_refused(client, host):
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 403 and answer.json()["error"]["code"] == "E669"


@pytest.mark.parametrize("host", ["localhost:9", "127.0.0.1", "[::1]:20029", "127.0.0.53:1"])
def test_names_of_this_machine_pass(client, host):
    assert client.get("/config", headers={"host": host}).status_code == 200


def test_a_foreign_page_cannot_post(client):
    foreign = {"origin": "https://evil.example"}
    assert client.post("/gradio_api/queue/join", json={}, headers=foreign).status_code == 403
    assert client.post("/gradio_api/upload", files={"files": b"x"}, headers=foreign).status_code == 403
    assert client.get("/config", headers={"origin": "http://127.0.0.1:20029"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=https://example.com/a.png",
        "/gradio_api/file=http%3A%2F%2Fexample.com/a.png",
        "/gradio_api/file=ftp://example.com/a.png",
        "/gradio_api/proxy=https://example.com/a.png",
    ],
)
def test_gradio_fetches_nothing_for_anybody(client, path):
    answer = client.get(path)
    assert answer.status_code == 403 and answer.json()["error"]["code"] == "E669"


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ"])
def test_files_of_the_machine_are_not_served(client, path):
    assert client.get(f"/gradio_api/file={path}").status_code == 403


def test_a_body_that_names_a_remote_file_is_refused(client):
    file = {"path": "http://169.254.169.254/latest", "meta": {"_type": "gradio.FileData"}}
    body = {"data": [{"text": "a", "files": [file]}], "fn_index": 0, "session_hash": "s"}
    answer = client.post("/gradio_api/queue/join", json=body)
    assert answer.status_code == 403 and "remote" in answer.json()["error"]["fact"]
    assert client.post("/gradio_api/queue/join", content=b"no json").status_code == 403
    assert client.post("/gradio_api/queue/join", content=json.dumps("x" * 9_000_000)).status_code == 413


def test_uploads_are_bounded_and_lie_in_the_demos_folder(client, demo):
    small = client.post("/gradio_api/upload", files={"files": ("a.png", b"1234")})
    assert Path(small.json()[0]).is_relative_to(demo.folder)
    assert client.post("/gradio_api/upload", files={"files": ("a.png", b"1" * 20_000_001)}).status_code == 413


def test_closing_removes_everything(examples):
    before = os.environ.get("GRADIO_TEMP_DIR")
    demo = build(small_assistant(), DemoOptions(examples=examples))
    assert os.environ["GRADIO_TEMP_DIR"] == str(demo.folder) and demo.folder.is_dir()
    assert demo.folder.stat().st_mode & 0o077 == 0, "nobody else on the machine may look"
    demo.visits.of("somebody")
    demo.close()
    assert not demo.folder.exists() and os.environ.get("GRADIO_TEMP_DIR") == before and len(demo.visits) == 0


def test_beyond_this_machine_only_with_a_password(examples):
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.com"):
        with pytest.raises(XverseError, match="E664"):
            build(small_assistant(), DemoOptions(host=host))
    demo = build(small_assistant(), DemoOptions(host="0.0.0.0", passwords={"ann": "correct horse"}))
    try:
        with TestClient(demo.app, base_url="http://somewhere:20029") as client:
            for path in ("/", "/config", "/gradio_api/upload", "/gradio_api/heartbeat/x", "/theme.css", "/nothing"):
                assert client.get(path).status_code == 401, path
            for pair in (
                "ann:wrong horse",
                "ann:",
                ":",
                "bob:correct horse",
                "ann:correct horse ",
                "an:n:correct horse",
            ):
                token = base64.b64encode(pair.encode()).decode()
                assert client.get("/", headers={"authorization": f"Basic {token}"}).status_code == 401, pair
            assert client.get("/", headers={"authorization": "Basic ###"}).status_code == 401
            token = base64.b64encode(b"ann:correct horse").decode()
            assert client.get("/", headers={"authorization": f"Basic {token}"}).status_code == 200
    finally:
        demo.close()


def test_a_port_that_is_taken_is_an_error_with_a_number():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(XverseError, match=f"E668.*{port}") as caught:
            open_port("127.0.0.1", port)
        assert f"--port {port + 1}" in caught.value.text("en")
    with open_port("127.0.0.1", 0) as free:
        assert free.getsockname()[1] > 0
