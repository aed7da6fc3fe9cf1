"""The nano recipes as they are shipped, shortened: they run, they learn, they export, and the command line says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.training import ranks
from tests.training.conftest import lines
from xverse_v.nano.data import HELD_OUT, write_conversations, write_shard
from xverse_v.training.build import describe, model_folder
from xverse_v.training.config import TrainConfig, read_config
from xverse_v.training.export import export

RECIPES = Path(__file__).parents[2] / "recipes"
SAMPLES = 16


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `python -m xverse_v.nano.data FOLDER` writes, sixteen samples of each."""
    folder = tmp_path_factory.mktemp("nano-data")
    write_shard(folder, 0, SAMPLES)
    for name, first in (("conversations.json", 0), ("held_out.json", HELD_OUT)):
        write_conversations(folder, name, range(first, first + SAMPLES), lambda make, numbers, _: map(make, numbers))
    return folder


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: the built-in weights may be made anew while these tests run."""
    return shutil.copytree(model_folder("nano"), tmp_path_factory.mktemp("models") / "nano")


def shortened(name: str, data: Path, run: Path, *more: str) -> TrainConfig:
    config = read_config(RECIPES / "nano" / f"{name}.yaml").config
    source = config.data.sources[0].path
    overrides = [
        f"run={run}",
        f"data.sources.0.path={data / source.name}",
        "optimisation.steps=10",
        "optimisation.warmup_steps=2",
    ]
    overrides += ["logs.every=1", "checkpoints.every=5", "data.global_batch=8"]
    if name == "pretrain":  # the shipped model has its projector; the recipe's own start has a new one
        overrides.append(r"stage.fresh=model\.multi_modal_projector\..*")
    if config.validation is not None:
        overrides += [
            f"validation.data.sources.0.path={data / 'held_out.json'}",
            "validation.steps=1",
            "validation.every=5",
        ]
    return read_config(RECIPES / "nano" / f"{name}.yaml", [*overrides, *more]).config


@pytest.mark.parametrize(("name", "merge"), [("pretrain", False), ("finetune", True)])
def test_a_nano_recipe_learns_and_exports(data: Path, nano: Path, tmp_path: Path, name: str, merge: bool) -> None:
    config = shortened(name, data, tmp_path / "run", f"model={nano}")
    assert ranks.train(config.model_dump(mode="json")) == [0]
    losses = [line["loss"] for line in lines(tmp_path / "run") if "loss" in line]
    assert len(losses) == 10
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2]), "an epoch is two steps"
    report = export(tmp_path / "run", tmp_path / "out", merge=merge)
    assert [check.state for check in report.verified.checks] == ["passed"] * 4


@pytest.mark.parametrize(
    ("name", "words"),
    [("pretrain", "stage pretrain: "), ("finetune", "adapters: ")],
)
def test_a_dry_run_says_what_would_train(data: Path, tmp_path: Path, name: str, words: str) -> None:
    assert words in "\n".join(describe(shortened(name, data, tmp_path / "run", "model=nano")))


def test_the_command_line_trains_exports_and_explains(
    data: Path, nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from xverse_v.cli import main

    run, recipe = tmp_path / "run", str(RECIPES / "nano" / "pretrain.yaml")
    overrides = [
        f"run={run}",
        f"data.sources.0.path={data}/pairs-*.tar",
        "optimisation.steps=1",
        "optimisation.warmup_steps=0",
    ]
    overrides += ["data.global_batch=2", f"model={nano}"]
    assert main(["train", recipe, *overrides, "--dry-run"]) == 0
    assert "optimisation" in (said := capsys.readouterr().out) and "steps: 1  # command line" in said
    assert not run.exists()
    assert main(["train", recipe, *overrides]) == 0
    said = capsys.readouterr()
    assert f"{run}: step 1, loss " in said.out and "frozen: model.vision_tower" in said.err
    assert main(["train", recipe, *overrides]) == 2
    assert "E258" in capsys.readouterr().err
    assert main(["export", str(run), "--out", str(tmp_path / "out")]) == 0
    assert "passed  parity: " in capsys.readouterr().out
    assert main(["train", recipe, "optimisation.stps=1"]) == 2
    assert "steps" in capsys.readouterr().err
