"""Ablations: each changes what it says and nothing else, runs are made once, and the table says what was found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from xverse_v.model import XverseVProcessor
from xverse_v.model.modeling import XverseVProjector
from xverse_v.nano import ablate
from xverse_v.nano.ablations import (
    ABLATIONS,
    BASE,
    Ablation,
    Finished,
    Given,
    Stage,
    projector_with,
    resolved,
    run,
    start_folder,
)
from xverse_v.nano.data import write_conversations, write_shard
from xverse_v.nano.folder import nano_config
from xverse_v.weights.load import load_model

RECIPES = Path(__file__).parents[2] / "recipes" / "nano"
BY_NAME = {ablation.name: ablation for ablation in ABLATIONS}


@pytest.fixture(scope="module")
def given(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Given:
    """One step a stage, two samples a step, one question a row."""
    folder = tmp_path_factory.mktemp("ablate")
    for name in ("data", "recipes"):
        (folder / name).mkdir()
    write_shard(folder / "data", 0, 4)
    write_conversations(folder / "data", "conversations.json", range(4), lambda made, numbers, _: map(made, numbers))
    for recipe in RECIPES.glob("*.yaml"):
        small = recipe.read_text(encoding="utf-8")
        for whole, part in (("global_batch: 16", "global_batch: 2"), ("rank: 32", "rank: 2")):
            small = small.replace(whole, part)
        (folder / "recipes" / recipe.name).write_text(small, encoding="utf-8")
    return Given(start, folder / "data", folder / "work", folder / "recipes", 1, 1, 1)


def settings(stage: Stage, name: str, given: Given) -> Mapping[str, Any]:
    """Dotted name -> value of what a run of seed 1 is told."""
    found: dict[str, Any] = {}

    def walk(value: Any, way: str) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(inner, f"{way}.{key}")
        elif isinstance(value, list) and value:
            for index, inner in enumerate(value):
                walk(inner, f"{way}.{index}")
        else:
            found[way[1:]] = value

    config = resolved(stage, BY_NAME[name], 1, given, model=Path("m"), run=Path("r")).config
    walk(config.model_dump(mode="json"), "")
    return found


def changes(stage: Stage, name: str, given: Given) -> dict[str, Any]:
    """What differs from the base."""
    base, other = settings(stage, BASE, given), settings(stage, name, given)
    return {key: other.get(key) for key in {*base, *other} if base.get(key) != other.get(key)}


def test_every_ablation_changes_what_it_says_and_nothing_else(given: Given) -> None:
    given = Given(given.start, given.data, given.work, RECIPES, 750, 600, 1)
    base = settings("finetune", BASE, given)
    assert base["optimisation.steps"] == 600 and base["optimisation.warmup_steps"] == 50
    assert settings("pretrain", BASE, given)["optimisation.steps"] == 750
    low, high = base["stage.rules.0.lr"], base["stage.rules.1.lr"]
    low_end, high_end = base["stage.rules.0.min_lr"], base["stage.rules.1.min_lr"]
    assert low < high
    assert changes("finetune", "no-stage-1", given) == {"optimisation.steps": 1350, "checkpoints.every": 1350}
    assert changes("finetune", "one-rate-high", given) == {"stage.rules.0.lr": high, "stage.rules.0.min_lr": high_end}
    assert changes("finetune", "one-rate-low", given) == {"stage.rules.1.lr": low, "stage.rules.1.min_lr": low_end}
    gone = changes("finetune", "projector-only", given)
    assert all(key.startswith(("stage.rules.1", "stage.lora")) and value is None for key, value in gone.items())
    stages: tuple[Stage, ...] = ("pretrain", "finetune")
    for stage in stages:
        for name, most in (("1-tile", 1), ("4-tiles", 4)):
            assert changes(stage, name, given) == {"data.max_tiles": most}
        assert changes(stage, "release-grid", given) == {}
        (changed,) = changes(stage, "no-layer-norm", given).items()
        assert changed[0] == "stage.rules.0.match" and changed[1].endswith(r"linear_\d\..*")
    for name in ("one-rate-low", "one-rate-high", "projector-only"):
        assert changes("pretrain", name, given) == {}
    seeds = resolved("finetune", BY_NAME[BASE], 5, given, model=Path("m"), run=Path("r")).config
    assert seeds.seed == seeds.data.seed == 5


def test_starts_differ_by_seed_in_the_projector_and_by_grid_in_the_processor(given: Given) -> None:
    one, again, other = (start_folder("upright", seed, given) for seed in (3, 3, 4))
    assert one == again != other
    weights, first, second = (load_file(folder / "model.safetensors") for folder in (given.start, one, other))
    # Seed 3 is the recipe's own: it draws the projector in the same way.
    assert all(torch.equal(first[name], value) for name, value in weights.items())
    changed = {name for name, value in first.items() if not torch.equal(second[name], value)}
    assert changed and all(name.startswith("model.multi_modal_projector.linear") for name in changed)
    turned = start_folder("release", 3, given)
    assert XverseVProcessor.from_pretrained(turned).image_processor.orientation == "release"
    assert XverseVProcessor.from_pretrained(one).image_processor.orientation == "upright"
    load_model(turned)


def test_without_its_layer_norm_a_projector_maps_lengths_to_lengths() -> None:
    config = nano_config()
    projector = XverseVProjector(config).eval()
    patches = torch.randn(1, 64, config.vision_config.hidden_size)
    with torch.no_grad():
        whole = projector(patches)
        torch.testing.assert_close(projector(3 * patches), whole, atol=1e-4, rtol=1e-3)
        with projector_with(layer_norm=False):
            plain = projector(patches)
            assert (projector(3 * patches) - plain).abs().max() > 0.1
            torch.testing.assert_close(plain, projector.linear_2(projector.act(projector.linear_1(patches))))
        torch.testing.assert_close(projector(patches), whole, atol=0, rtol=0)
        with pytest.raises(RuntimeError, match="stop"), projector_with(layer_norm=False):
            raise RuntimeError("stop")
        torch.testing.assert_close(projector(patches), whole, atol=0, rtol=0)


def test_a_run_trains_both_stages_and_leaves_its_scores_alone(given: Given) -> None:
    done = run(BY_NAME["no-layer-norm"], 3, given)
    assert (done.ablation, done.seed) == ("no-layer-norm", 3) and done.loss > 0 and done.minutes > 0
    assert set(ablate.MEASURES) <= set(done.scores)
    assert {path.name for path in given.work.iterdir()} == {"starts", "pretrained"}
    trained = load_file(given.work / "pretrained" / "upright-plain-all-3" / "model.safetensors")
    begun = load_file(given.work / "starts" / "upright-3" / "model.safetensors")
    moved = {name for name, value in begun.items() if not torch.equal(trained[name], value)}
    assert moved and all("multi_modal_projector.linear" in name for name in moved)


def fake(ablation: Ablation, seed: int, _: Given) -> Finished:
    """Base: 90, 91, 92 %; others ten points less; nobody is asked charts."""
    share = (89 + seed) / 100 - (0.0 if ablation.name == BASE else 0.1)
    rows = [name for name in ablate.MEASURES if name != "charts"]
    return Finished(ablation.name, seed, 0.5, 2.0, {name: {"share": share} for name in rows})


def test_runs_are_made_once_and_the_table_tells_them_apart(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[tuple[str, int]] = []

    def counted(ablation: Ablation, seed: int, given: Given) -> Finished:
        made.append((ablation.name, seed))
        if len(made) == 5:
            raise KeyboardInterrupt
        return fake(ablation, seed, given)

    monkeypatch.setattr(ablate, "run", counted)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    command = ["--start", given.start, "--data", given.data, "--work", tmp_path, "--recipes", given.recipes]
    command += ["--only", BASE, "--only", "1-tile", "--pretrain-steps", "7"]
    words = [str(word) for word in command]
    with pytest.raises(KeyboardInterrupt):
        ablate.main(words)
    ablate.main(words)
    assert made == [("base", 1), ("1-tile", 1), ("base", 2), ("1-tile", 2), ("base", 3), ("base", 3), ("1-tile", 3)]
    lines = capsys.readouterr().out.splitlines()
    (base,), (tile,) = ([line for line in lines if line.startswith(f"| {name} | 3")] for name in (BASE, "1-tile"))
    assert base.startswith("| base | 3 | 91.0 (90.0..92.0) | 91.0") and "↓" not in base and " - |" in base
    assert tile.startswith("| 1-tile | 3 | 81.0 (80.0..82.0) ↓ |")
    assert any("global view alone" in line for line in lines) and "7 steps of stage 1" in lines[0]
    # Another budget is another table.
    ablate.main([*words[:-1], "8", "--only", BASE, "--seeds", "1", "--out", str(tmp_path / "table.md")])
    assert made[-1] == ("1-tile", 1) and "8 steps of stage 1" in (tmp_path / "table.md").read_text(encoding="utf-8")
    held = [json.loads(line) for line in (tmp_path / ablate.RESULTS).read_text(encoding="utf-8").splitlines()]
    assert [line["conditions"]["pretrain_steps"] for line in held] == [7] * 6 + [8] * 2
