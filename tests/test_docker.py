"""The container's files, read as text: known instructions, nothing as root, and commands that the command line takes.

Images cannot be built where these tests run; the server's start command and its health check run as plain processes.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from xverse_v.cli import app

ROOT = Path(__file__).parent.parent
KNOWN = {"ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """Instruction and its rest, lines that end in a backslash joined, comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line.strip()]


def the_only(name: str) -> str:
    (found,) = [rest for instruction, rest in instructions() if instruction == name]
    return found


def compose() -> dict[str, Any]:
    text = (ROOT / "compose.yaml").read_text()
    document: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{\w+:-(\w+)\}", r"\1", text))
    return document


def accepts(arguments: list[str]) -> dict[str, Any]:
    """What `xverse-v` understands of an argument list. Raises a usage error if it does not take it."""
    verb, *rest = arguments
    command = get_command(app).commands[verb]  # type: ignore[attr-defined]
    with command.make_context(verb, rest) as context:
        parameters: dict[str, Any] = context.params
        return parameters


def start_command() -> list[str]:
    entry, command = json.loads(the_only("ENTRYPOINT")), json.loads(the_only("CMD"))
    assert entry == ["xverse-v"]
    assert all(isinstance(word, str) for word in command)
    return list(command)


def health_check() -> list[str]:
    options, _, command = the_only("HEALTHCHECK").partition("CMD ")
    assert {option.partition("=")[0] for option in shlex.split(options)} == {
        "--interval",
        "--timeout",
        "--start-period",
        "--retries",
    }
    return list(json.loads(command))


def test_every_instruction_is_known_and_in_order() -> None:
    names = [name for name, _ in instructions()]
    assert set(names) == KNOWN
    assert names[:2] == ["ARG", "FROM"] and names[-2:] == ["ENTRYPOINT", "CMD"]
    assert max(index for index, name in enumerate(names) if name in ("RUN", "COPY")) < names.index("USER")


def test_the_base_is_a_plain_image_name() -> None:
    default = instructions()[0][1].removeprefix("BASE_IMAGE=")
    assert the_only("FROM") == "${BASE_IMAGE}"
    assert re.fullmatch(r"python:3\.1[123]-slim", default)


def test_every_build_argument_is_declared_and_used() -> None:
    declared = {rest.partition("=")[0] for name, rest in instructions() if name == "ARG"}
    used = {word for name, rest in instructions() if name != "ARG" for word in re.findall(r"\$\{?([A-Z_]+)", rest)}
    assert used == declared == {"BASE_IMAGE", "TORCH_INDEX", "EXTRAS"}


def test_nothing_runs_as_root() -> None:
    assert the_only("USER") == "10001"  # a number, so that it can be checked without the image's list of users
    assert any("useradd --uid 10001" in rest for name, rest in instructions() if name == "RUN")


def test_what_is_copied_is_there_and_not_ignored() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for rest in (rest for name, rest in instructions() if name == "COPY"):
        *sources, target = rest.split()
        assert target.startswith("./")
        for source in sources:
            assert (ROOT / source).exists(), source
            kept = False
            for rule in rules:
                if fnmatch.fnmatch(source, rule.removeprefix("!")):
                    kept = rule.startswith("!")
            assert kept, source
    assert "*" in rules, "an allow-list: secrets, models and the history of the repository stay out"


def test_every_extra_exists() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    (extras,) = [rest for name, rest in instructions() if name == "ARG" and rest.startswith("EXTRAS=")]
    for extra in extras.removeprefix("EXTRAS=").split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def test_the_start_command_is_one_the_command_line_takes() -> None:
    parameters = accepts(start_command())
    assert (parameters["host"], parameters["port"]) == ("0.0.0.0", 8000)
    assert str(parameters["api_key_file"]) == "/run/secrets/api_keys"
    assert the_only("EXPOSE") == "8000"


def test_the_services_start_with_commands_the_command_line_takes() -> None:
    services = compose()["services"]
    assert set(services) == {"server", "server-gpu", "demo"}
    for name, service in services.items():
        parameters = accepts(service["command"])
        assert service["command"][0] == ("demo" if name == "demo" else "serve")
        assert (parameters["model"], parameters["host"]) == ("nano", "0.0.0.0")
        secret = parameters["auth_file"] if name == "demo" else parameters["api_key_file"]
        assert str(secret) == f"/run/secrets/{service['secrets'][0]}"
        assert service["ports"] == [f"127.0.0.1:{parameters['port']}:{parameters['port']}"]


def test_the_services_are_locked_up() -> None:
    document = compose()
    for service in document["services"].values():
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["volumes"] == ["./models:/models:ro"]
        assert "privileged" not in service and service["image"] == "xverse-v"
        assert set(service["secrets"]) <= set(document["secrets"])
    assert all(set(secret) == {"file"} for secret in document["secrets"].values())


def test_the_health_check_is_python_that_compiles() -> None:
    check = compose()["services"]["demo"]["healthcheck"]["test"]
    assert check[:3] == ["CMD", *health_check()[:2]] == ["CMD", "python", "-c"]
    for text in (check[3], health_check()[2]):
        compile(text, "health check", "exec")


@pytest.mark.slow
def test_the_start_command_serves_and_the_health_check_sees_it(tmp_path: Path) -> None:
    keys = tmp_path / "api_keys"
    keys.write_text("a-key-of-a-test-0123456789abcdefghij\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    start = [word.replace("/run/secrets/api_keys", str(keys)).replace("8000", port) for word in start_command()]
    check = [sys.executable, "-c", health_check()[2].replace("8000", port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-m", "xverse_v", *start], env=environment, cwd=tmp_path) as process:
        try:
            ends = time.monotonic() + 300
            while subprocess.run(check, capture_output=True, check=False).returncode:
                assert process.poll() is None, "the server has ended"
                assert time.monotonic() < ends, "not healthy within 300 s"
                time.sleep(0.5)
        finally:
            process.terminate()
        assert process.wait(60) == 0
    assert subprocess.run(check, capture_output=True, check=False).returncode == 1
