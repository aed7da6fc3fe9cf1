"""The log: what is counted, what is written, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from tests.training.conftest import LORA, PROJECTOR, small_config
from xverse_v.errors import XverseError
from xverse_v.model import XverseVForConditionalGeneration
from xverse_v.training.config import Logs, LoraSettings, Stage
from xverse_v.training.logs import Journal, Meter, Work, in_words, peak_tflops
from xverse_v.training.lora import add_lora
from xverse_v.training.stage import apply_stage


def linears(model: XverseVForConditionalGeneration) -> int:
    return sum(
        p.numel() for n, p in model.named_parameters() if ".layers." in n and "language_model" in n and p.ndim == 2
    )


def test_frozen_linears_cost_four_and_trained_ones_six_operations() -> None:
    model = XverseVForConditionalGeneration(small_config())
    body = linears(model)
    stage = {"name": "s", "rules": [PROJECTOR]}
    apply_stage(model, Stage.model_validate(stage))
    work = Work(model)
    projector = model.model.multi_modal_projector
    weights = projector.linear_1.weight.numel() + projector.linear_2.weight.numel()
    tower = sum(p.numel() for p in model.model.vision_tower.encoder.parameters() if p.ndim == 2)
    assert work.flops(10, 0, 0) == 10 * 4 * body
    assert work.flops(0, 3, 0) == 3 * 4 * model.lm_head.weight.numel()
    assert work.flops(0, 0, 2) == 2 * 4 * (2 * tower + 6 * weights)
    add_lora(model, LoraSettings.model_validate(LORA), seed=0)
    rules = [PROJECTOR, {"name": "a", "match": r".*\.lora_.*", "lr": 1}]
    apply_stage(model, Stage.model_validate({"name": "s", "rules": rules}))
    adapters = sum(p.numel() for n, p in model.named_parameters() if ".lora_" in n)
    assert Work(model).per_token == 4 * body + 6 * adapters


def test_rates_are_over_the_steps_since_the_last_line() -> None:
    model = XverseVForConditionalGeneration(small_config())
    meter = Meter(Work(model), devices=2, peak=1.0)
    meter.add(tokens=100, supervised=10, views=2, waited=0.0)
    meter.add(tokens=300, supervised=10, views=2, waited=0.0)
    first = meter.numbers(remaining=6)
    ratio = first["tokens_per_second"] * first["seconds_per_step"] * 2
    assert ratio == pytest.approx(400)
    assert first["eta_seconds"] == pytest.approx(6 * first["seconds_per_step"])
    assert first["mfu"] == pytest.approx(first["tflops_per_device"]) and first["mfu"] > 0
    assert meter.numbers(1)["tokens_per_second"] == 0
    assert Meter(Work(model), 1, None).numbers(1)["mfu"] is None


def test_the_peak_is_as_set_or_not_said_on_a_cpu() -> None:
    assert peak_tflops(Logs(peak_tflops=5), torch.device("cpu")) == 5
    assert peak_tflops(Logs(), torch.device("cpu")) is None


def test_a_line_for_people_has_every_rate_and_says_what_was_skipped() -> None:
    numbers = {"mfu": 0.5, "tokens_per_second": 1234.0, "data_wait": 0.25, "peak_memory_gb": 1.5, "eta_seconds": 3725.0}
    line = in_words(3, 9, {"loss": 1.5, "skipped": 2.0}, {"projector": 1e-3, "adapters": 2e-4}, numbers)
    for part in ("step 3/9", "1.5000", "projector 0.001", "adapters 0.0002", "1,234 tokens/s", "MFU 50.0 %"):
        assert part in line
    for part in ("data wait 25 %", "peak 1.5 GB", "1:02:05 to go", "2 samples skipped"):
        assert part in line


def test_json_lines_are_added_by_the_leading_rank_alone(tmp_path: Path) -> None:
    for leads in (True, False, True):
        journal = Journal(tmp_path, Logs(), leads=leads, name="run")
        journal.step(1, {"loss": 2.0, "mfu": None})
        journal.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["event"], line["step"], line["loss"]) for line in lines] == [("step", 1, 2.0)] * 2
    assert "mfu" not in lines[0]


@pytest.mark.parametrize(
    ("logs", "module", "package"),
    [(Logs(tensorboard=True), "torch.utils.tensorboard", "tensorboard"), (Logs(wandb="p"), "wandb", "wandb")],
)
def test_a_missing_optional_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: Logs, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(XverseError) as caught:
        Journal(tmp_path, logs, leads=True, name="run")
    assert caught.value.code == "E263" and caught.value.facts["package"] == package
