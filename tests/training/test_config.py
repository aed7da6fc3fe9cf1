"""Recipes: what is accepted, what is refused, and where each value came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from tests.training.conftest import settings
from xverse_v.errors import XverseError
from xverse_v.training import config as module
from xverse_v.training.config import read_config

HERE = Path(__file__).parents[2]
RECIPES = sorted((HERE / "recipes").rglob("*.yaml"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings(Path("model"), Path("data.json"), Path("run"))), encoding="utf-8")
    return path


def test_every_setting_is_explained() -> None:
    found = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, BaseModel)]
    assert len(found) > 8
    for kind in found:
        for name, field in kind.model_fields.items():
            assert field.description, f"{kind.__name__}.{name}"


def test_overrides_replace_values_in_dictionaries_and_lists(recipe: Path) -> None:
    resolved = read_config(
        recipe, ["optimisation.steps=20", "data.sources.0.path=other.json", "stage.rules.1.lr=2e-4", "logs.wandb=x"]
    )
    assert resolved.config.optimisation.steps == 20
    assert resolved.config.data.sources[0].path == Path("other.json")
    assert resolved.config.stage.rules[1].lr == 2e-4
    assert resolved.config.logs.wandb == "x"


def test_each_value_knows_where_it_came_from(recipe: Path) -> None:
    origins = read_config(recipe, ["optimisation.steps=20", "stage.lora=null"]).origins
    line = next(i for i, text in enumerate(recipe.read_text().splitlines(), 1) if text.startswith("seed:"))
    assert origins["seed"] == f"recipe.yaml:{line}"
    assert origins["optimisation.steps"] == origins["stage.lora"] == "command line"
    assert origins["optimisation.beta1"] == "default"


def test_the_resolved_settings_read_back_as_themselves(recipe: Path, tmp_path: Path) -> None:
    resolved = read_config(recipe, ["seed=9"])
    again = tmp_path / "run.yaml"
    again.write_text(resolved.as_yaml(), encoding="utf-8")
    assert read_config(again).config == resolved.config
    assert "seed: 9  # command line" in resolved.as_yaml()


def test_settings_cannot_be_changed_afterwards(recipe: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_config(recipe).config.seed = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("optimisation.step=3", "steps"),
        ("checkpoint.every=3", "checkpoints"),
        ("stage.lora.rnk=3", "rank"),
        ("stage.rules.0.learning=3", "name, match, lr, min_lr, weight_decay"),
        ("validation={dta: 1, every: 1, steps: 1}", "data"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(recipe: Path, override: str, nearest: str) -> None:
    with pytest.raises(XverseError) as caught:
        read_config(recipe, [override])
    assert caught.value.code == "E251" and caught.value.exit_code == 2
    assert caught.value.facts["nearest"] == nearest


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("optimisation.steps=many", "E252"),
        ("optimisation.steps=0", "E252"),
        ("optimisation.warmup_steps=7", "E252"),
        ("stage.rules=[]", "E252"),
        ("distribution.shard=zero3", "E252"),
        ("seed", "E253"),
        ("stage.rules.5.lr=1", "E253"),
        ("stage.rules.x.lr=1", "E253"),
    ],
)
def test_what_does_not_fit_is_refused(recipe: Path, override: str, code: str) -> None:
    with pytest.raises(XverseError) as caught:
        read_config(recipe, [override])
    assert caught.value.code == code


@pytest.mark.parametrize("content", ["just words", "a: [", None])
def test_what_is_no_recipe_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "r.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(XverseError, match="E250"):
        read_config(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.relative_to(HERE).as_posix())
def test_every_recipe_is_read(path: Path) -> None:
    resolved = read_config(path)
    assert {rule.name for rule in resolved.config.stage.rules}
    assert set(resolved.origins.values()) - {"default"}, "a recipe that sets nothing"


def test_there_are_recipes_for_both_stages_of_both_models() -> None:
    names = {path.relative_to(HERE / "recipes").as_posix() for path in RECIPES}
    stages = {f"{stage}_13b.yaml" for stage in ("pretrain", "finetune", "full", "lora")}
    assert names >= stages | {"single_24gb.yaml", "8x80gb.yaml", "nano/pretrain.yaml", "nano/finetune.yaml"}
