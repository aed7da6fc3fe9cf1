"""`xverse-v plan` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.weights.plan_runs import network
from xverse_v.cli.plan import plan
from xverse_v.errors import XverseError

GB = 10**9


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XVERSE_V_LANG", "en")
    monkeypatch.setenv("COLUMNS", "150")


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(plan)
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, XverseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def document(*arguments: str) -> dict[str, Any]:
    found = json.loads(run(*arguments, "--json"))
    assert isinstance(found, dict)
    return found


def test_a_large_image_on_a_small_card() -> None:
    said = run("--model", "13b", "--image", "1920x1080", "--device-memory", "24GB")
    assert "13b: infer, bfloat16, cuda; published shape, not loaded here" in said
    assert "1920x1080: 10 views = 2,560 image tokens = 1.95 GiB of KV cache" in said
    assert "12,688,184,320 parameters x 2 bytes" in said
    assert "Does not fit: " in said
    assert "--dtype int8: saves 12.7 GB" in said
    assert "No time without rates" in said


def test_the_document_says_what_was_asked_and_adds_up() -> None:
    found = document("--model", "13b", "--image", "448x448", "--batch", "2", "--device-memory", "80GB")
    assert found["fits"] is True
    assert found["changes"] == []
    assert found["facts"]["views"] == [5]
    assert found["facts"]["batch"] == 2
    assert found["memory_bytes"] == 80 * GB
    assert found["times_at_least"] == []
    assert sum(item["bytes"] for item in found["items"]) == found["total_bytes"]


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_training_stages(stage: str) -> None:
    found = document(stage, "--model", "13b", "--image", "448x448", "--micro-tokens", "8192", "--device-memory", "80GB")
    assert found["stage"] == stage
    assert found["fits"] is True
    said = run(stage, "--model", "13b", "--image", "448x448", "--no-checkpointing", "--device-memory", "24GB")
    assert "checkpointing off" in said
    assert "Does not fit" in said


def test_a_folder_needs_its_configuration_only(tmp_path: Path) -> None:
    network().config.save_pretrained(tmp_path)
    found = document("--model", str(tmp_path), "--image", "224x224")
    assert found["facts"]["dtype"] == "float32"
    assert found["fits"] is True
    assert "free" in found["memory_source"]


def test_the_format_is_the_one_ask_would_take() -> None:
    assert document("--model", "13b", "--device", "cpu")["facts"]["dtype"] == "float32"
    assert document("--model", "13b", "--device-memory", "80GB")["facts"]["dtype"] == "bfloat16"


def test_time_needs_both_rates_and_says_where_they_come_from() -> None:
    given = ("--model", "13b", "--device-memory", "80GB", "--tflops", "989")
    with pytest.raises(XverseError) as raised:
        run(*given)
    assert raised.value.code == "E161"
    assert "Time, at least (989 TFLOP/s, 3.35e+03 GB/s, given" in run(*given, "--bandwidth", "3350")
    with pytest.raises(XverseError) as raised:
        run(*given, "--bandwidth", "0")
    assert raised.value.code == "E155"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--model", "14b"), "E150"),
        (("--model", "13b", "--image", "photo.jpg"), "E153"),
        (("--model", "13b", "--device-memory", "lots"), "E154"),
    ],
)
def test_mistakes_have_codes(arguments: tuple[str, ...], code: str) -> None:
    with pytest.raises(XverseError) as raised:
        run(*arguments)
    assert raised.value.code == code
    for language in ("en", "zh"):
        assert arguments[-1] in raised.value.text(language)
