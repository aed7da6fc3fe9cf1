"""`xverse-v serve` as a process: where it listens, what it refuses, and how it stops."""

import os
import re
import signal
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import httpx
import pytest

from tests.serving.servers import KEY, wait_for
from xverse_v.cli import main

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "xverse_v", "serve"]


class Process:
    """The command, running; ``url`` once it listens."""

    def __init__(self, log, *arguments, **environment):
        self.log = log
        variables = os.environ | {"OMP_NUM_THREADS": "1", "XVERSE_V_LANG": "en", "XVERSE_V_API_KEYS": ""} | environment
        with log.open("w") as target:
            self.process = subprocess.Popen([*COMMAND, *arguments], cwd=REPOSITORY, env=variables, stderr=target)

    @property
    def said(self):
        return self.log.read_text(encoding="utf-8")

    @property
    def url(self):
        wait_for(lambda: "http://" in self.said or self.process.poll() is not None, 120)
        found = re.search(r"http://\S+?:\d+", self.said)
        assert found, self.said
        return found[0]


@pytest.fixture
def start(tmp_path):
    running = []

    def begin(*arguments, **environment):
        running.append(Process(tmp_path / f"log-{len(running)}", *arguments, **environment))
        return running[-1]

    yield begin
    for each in running:
        each.process.kill()
        each.process.wait()


@pytest.mark.slow
def test_it_answers_and_sigterm_lets_the_running_answer_end(start):
    server = start("--port", "0", XVERSE_V_API_KEYS=KEY)
    url = server.url
    wait_for(lambda: httpx.get(f"{url}/health", trust_env=False).status_code == 200, 300)
    headers = {"Authorization": f"Bearer {KEY}"}
    body = {"model": "nano", "messages": [{"role": "user", "content": "What can you see?"}], "max_tokens": 5}
    assert httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False).status_code == 401
    with httpx.Client(headers=headers, trust_env=False, timeout=300) as client:
        request = body | {"stream": True, "max_tokens": 400, "temperature": 2, "top_p": 1, "top_k": 0}
        with client.stream("POST", f"{url}/v1/chat/completions", json=request) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            rest = list(lines)
    assert [line for line in rest if line][-1] == "data: [DONE]"
    assert server.process.wait(120) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health", trust_env=False)
    assert "What can you see" not in server.said
    assert KEY not in server.said
    assert "/v1/chat/completions 200" in server.said


@pytest.mark.slow
def test_answers_that_outlast_the_grace_end_with_an_error(start):
    server = start("--port", "0", "--grace-seconds", "0")
    url = server.url
    wait_for(lambda: httpx.get(f"{url}/health", trust_env=False).status_code == 200, 300)
    body = {"model": "nano", "messages": [{"role": "user", "content": "?"}], "max_tokens": 3000, "stream": True}
    schema = {"type": "array", "minItems": 3000, "items": {"enum": [1]}}
    body["response_format"] = {"type": "json_schema", "json_schema": {"name": "long", "schema": schema}}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, trust_env=False, timeout=300) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: {")
        server.process.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
    assert "E146" in rest[-1]
    assert server.process.wait(120) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (("--host", "0.0.0.0"), "E603", 2),
        (("--api-key-file", "/no/such/file"), "E604", 2),
        (("--host", "203.0.113.7", "--port", "0"), "E606", 1),
        (("--model", "/no/such/folder"), "E105", 2),
        (("--backend", "openai"), "E641", 2),
        (("--upstream", "http://127.0.0.1:1/v1"), "E641", 2),
        (("--backend", "openai", "--upstream", "127.0.0.1:1"), "E641", 2),
        (("--backend", "openai", "--upstream", "http://127.0.0.1:1", "--model", "x"), "E641", 2),
        (("--max-seconds", "0"), "E605", 2),
        (("--remote-host", "*"), "E543", 2),
    ],
)
def test_what_it_refuses_before_it_listens(arguments, code, exit_code, monkeypatch, capsys):
    monkeypatch.setenv("XVERSE_V_LANG", "en")
    monkeypatch.setenv("XVERSE_V_API_KEYS", KEY if code == "E606" else "")
    assert main(["serve", *arguments]) == exit_code
    assert capsys.readouterr().err.startswith(code)


def test_a_taken_port_is_said(monkeypatch, capsys):
    monkeypatch.setenv("XVERSE_V_LANG", "en")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 1
    assert capsys.readouterr().err.startswith("E606")


def test_a_missing_extra_names_what_to_install(monkeypatch, capsys):
    monkeypatch.setenv("XVERSE_V_LANG", "en")
    command = import_module("xverse_v.cli.serve")  # the package's attribute of this name is the verb itself
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "uvicorn" else object())
    assert main(["serve"]) == 1
    assert 'pip install "xverse-v[serve]"' in capsys.readouterr().err


def test_a_model_that_fails_to_load_ends_the_command_with_its_error(tmp_path, tiny_folder, monkeypatch, capsys):
    monkeypatch.setenv("XVERSE_V_LANG", "en")
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in tiny_folder.iterdir():
        data = path.read_bytes()
        (broken / path.name).write_bytes(data[:1000] if path.suffix == ".safetensors" else data)
    assert main(["serve", "--model", str(broken), "--port", "0"]) == 1
    assert re.search(r"^E3\d\d ", capsys.readouterr().err, re.MULTILINE)
