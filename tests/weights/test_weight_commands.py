"""The commands convert, inspect and verify: what they print, on which stream, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.weights.tiny_parts import Parts, change_safetensors, golden_parts
from xverse_v.cli import main


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XVERSE_V_LANG", "en")


def flags(parts: Parts) -> list[str]:
    return ["--clip", str(parts.clip), "--llm", str(parts.llm), "--adapters", str(parts.adapters)]


def test_convert_reports_every_tensor(tmp_path, capsys):
    assert main(["convert", *flags(golden_parts()), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "89 tensors in bfloat16" in printed
    assert "read 177, placed 89, LoRA 42, dropped 46, made here 0, unexpected 0, missing 0" in printed
    assert "LoRA on 21 linears: rank 8, alpha 16, peft 0.2 names, merged in float32" in printed
    assert "tile grid: release" in printed and "parity check passed: 89 tensors" in printed


def test_convert_as_json_with_every_flag(tmp_path, capsys):
    out = tmp_path / "out"
    chosen = ["--keep-lora", "--lora-alpha", "4", "--grid", "upright", "--dtype", "float16", "--json"]
    assert main(["convert", *flags(golden_parts()), "--out", str(out), *chosen]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["dtype"], report["orientation"]) == ("float16", "upright")
    assert report["lora"]["kept"] and report["lora"]["alpha"] == 4 and (out / "adapter").is_dir()


def test_convert_reads_the_releases_yaml(tmp_path, capsys):
    parts = golden_parts()
    model_yaml = tmp_path / "vxverse/configs/models/vxverse_13bchat.yaml"
    model_yaml.parent.mkdir(parents=True)
    model_yaml.write_text(f"model:\n  llama_model: {parts.llm}\n")
    config = tmp_path / "eval.yaml"
    text = f"model:\n  vit_path: {parts.clip}\n  ckpt: {parts.adapters}\n  lora_alpha: 8\n  low_resource: True\n"
    config.write_text(text)
    assert main(["convert", "--cfg-path", str(config), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "alpha 8" in printed.out and "model.low_resource has no meaning here" in printed.err
    config.write_text(text.replace(str(parts.adapters), "Your ckpt path"))
    assert main(["convert", "--cfg-path", str(config), "--out", str(tmp_path / "other")]) == 2
    assert "E320" in capsys.readouterr().err


def test_convert_says_which_part_was_not_named(tmp_path, capsys):
    assert main(["convert", "--clip", "x", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "E322" in said and "missing: --llm, --adapters" in said


def test_inspect_and_verify_a_good_folder(converted, capsys):
    assert main(["inspect", str(converted), "--hash"]) == 0
    printed = capsys.readouterr().out
    assert "expected 89, found 89, missing 0, unexpected 0, wrong shape 0" in printed and "problems: none" in printed
    assert main(["inspect", str(converted), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []
    assert main(["verify", str(converted)]) == 0
    assert capsys.readouterr().out.count("passed") == 4
    assert main(["verify", str(converted), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True


def test_inspect_and_verify_a_broken_folder(folder: Path, capsys):
    name = "model.language_model.norm.weight"
    change_safetensors(folder, lambda state: state.update({name: torch.zeros(95), "model.odd": torch.zeros(1)}))
    assert main(["inspect", str(folder)]) == 1
    printed = capsys.readouterr()
    assert f"wrong shape: {name} is [95], expected [96]" in printed.out and "unexpected: model.odd" in printed.out
    assert "E303" in printed.err and "E304" in printed.err
    assert main(["verify", str(folder), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [problem["code"] for problem in report["problems"]] == ["E304", "E303"]
    assert {check["name"]: check["state"] for check in report["checks"]}["parity"] == "skipped"


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_nothing_there(command, tmp_path, capsys):
    assert main([command, str(tmp_path / "nowhere")]) == 1
    assert "E300" in capsys.readouterr().err
