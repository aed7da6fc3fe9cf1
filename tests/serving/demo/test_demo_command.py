"""`xverse-v demo` and the release's own line: what is checked before a page is opened, and a real process."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import typer
import yaml

from tests.weights.tiny_parts import copied_parts
from xverse_v.cli.release_parts import folder_of_parts
from xverse_v.errors import XverseError
from xverse_v.weights.release_yaml import MODEL_YAML

# The package's name `demo` is the verb itself.
command = importlib.import_module("xverse_v.cli.demo")
ROOT = Path(__file__).parents[3]
SHIPPED = "./eval_configs/vxverse_xverse_hd_eval.yaml"


@pytest.fixture
def project(tmp_path):
    """A project whose two YAML files name the recordings' tiny parts. Returns the evaluation YAML."""
    parts = copied_parts(tmp_path)
    (tmp_path / MODEL_YAML).parent.mkdir(parents=True)
    (tmp_path / MODEL_YAML).write_text(yaml.safe_dump({"model": {"llama_model": str(parts.llm)}}))
    model = {"vit_path": str(parts.clip), "ckpt": str(parts.adapters), "lora_r": 8, "lora_alpha": 16}
    (tmp_path / "eval.yaml").write_text(yaml.safe_dump({"model": model}))
    return tmp_path / "eval.yaml"


@pytest.fixture
def served(monkeypatch):
    """What would have been served."""
    calls = []
    monkeypatch.setattr(command, "run", lambda *arguments: calls.append(arguments))
    return calls


def test_a_placeholder_in_the_shipped_yaml_is_a_clear_error():
    line = [sys.executable, "demo.py", "--cfg-path", SHIPPED, "--gpu-id", "0"]
    environment = os.environ | {"XVERSE_V_LANG": "en"}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("E320") and "vxverse_xverse_hd_eval.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_releases_line_converts_once_and_serves(project, tmp_path, served, capsys):
    out = tmp_path / "model"
    line = ["--cfg-path", str(project), "--gpu-id", "0", "--out", str(out), "--server_port", "1234"]
    assert command.release_main(line) == 0
    assistant, name, host, port, passwords = served[0]
    assert (name, host, port, passwords) == ("model", "127.0.0.1", 1234, {})
    assert assistant.engine.conditions.orientation == "release"
    made = (out / "manifest.json").stat().st_mtime_ns
    capsys.readouterr()
    assert command.release_main(line) == 0
    assert (out / "manifest.json").stat().st_mtime_ns == made and "Using" in capsys.readouterr().err


def test_a_folder_of_other_parts_is_not_taken_for_them(project, tmp_path, served):
    out = tmp_path / "model"
    assert folder_of_parts(project, out) == out
    adapters = Path(yaml.safe_load(project.read_text())["model"]["ckpt"])
    adapters.write_bytes(adapters.read_bytes() + b"0")
    with pytest.raises(XverseError, match="E670"):
        folder_of_parts(project, out)


def test_mistakes_on_the_line(served, capsys):
    assert command.release_main(["--gpu-id", "0"]) == 2
    assert command.release_main(["--cfg-path", "missing.yaml"]) != 0
    assert "E801" in capsys.readouterr().err and not served


def test_the_verb_reads_its_flags(served, tmp_path, monkeypatch):
    names = tmp_path / "names"
    names.write_text("ann:correct horse\n")
    names.chmod(0o600)
    app = typer.Typer()
    app.command()(command.demo)
    app(["--host", "0.0.0.0", "--port", "0", "--auth-file", str(names), "--device", "cpu"], standalone_mode=False)
    _, name, host, port, passwords = served[0]
    assert (name, host, port, passwords) == ("nano", "0.0.0.0", 0, {"ann": "correct horse"})


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr("xverse_v.serving.demo.options.find_spec", lambda name: None)
    with pytest.raises(XverseError, match=r"E663.*gradio") as caught:
        command.demo()
    assert 'pip install "xverse-v[demo]"' in caught.value.text("en")


def test_the_language_of_the_page(monkeypatch):
    monkeypatch.delenv("XVERSE_V_LANG", raising=False)
    assert command.chosen_language() is None
    monkeypatch.setenv("XVERSE_V_LANG", "zh")
    assert command.chosen_language() == "zh"


def test_examples_are_drawn_with_questions_in_both_languages(tmp_path):
    found = command.examples(tmp_path)
    assert 2 <= len(found) <= command.MOST_EXAMPLES and len({example.path for example in found}) == len(found)
    for example in found:
        assert example.path.is_file() and example.questions["en"].isascii() and not example.questions["zh"].isascii()


def test_a_process_serves_and_cleans_up_when_it_is_ended(tmp_path):
    line = [sys.executable, "-m", "xverse_v", "demo", "--port", "0", "--device", "cpu"]
    environment = os.environ | {"TMPDIR": str(tmp_path), "XVERSE_V_LANG": "en"}
    with subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = next(text for text in process.stderr if "http://" in text)
            address = said.split("http://")[1].split(" ")[0]
            with urllib.request.urlopen(f"http://{address}/config", timeout=120) as answer:
                assert answer.status == 200
            assert any(path.name.startswith("xverse-v-demo-") for path in tmp_path.iterdir())
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)
        finally:
            process.kill()
    assert [path for path in tmp_path.iterdir() if path.name.startswith("xverse-v-")] == []
