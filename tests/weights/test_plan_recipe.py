"""`xverse-v plan train RECIPE`: every recipe that is shipped, and what a recipe may ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.weights.test_plan_command import document, english, run  # noqa: F401
from xverse_v.cli import main
from xverse_v.errors import XverseError
from xverse_v.weights.shapes import PUBLISHED

RECIPES = Path(__file__).parents[2] / "recipes"
GB = 10**9
SHAPE = PUBLISHED["13b"]
PROJECTOR, LORA = SHAPE.projector_parameters, SHAPE.decoder.lora_parameters
RULE = r"{name: it, match: '%s', lr: 1.0e-4}"

# recipe -> devices, memory of one, stage by its claims, what trains, whether it fits.
PLANNED: dict[str, tuple[int, str, str, int, bool]] = {
    "8x80gb": (8, "80GB", "finetune", PROJECTOR + LORA(128), True),
    "finetune_13b": (8, "80GB", "finetune", PROJECTOR + LORA(128), True),
    "full_13b": (32, "80GB", "full", PROJECTOR + SHAPE.decoder.parameters, True),
    "lora_13b": (8, "80GB", "finetune", LORA(32), True),
    "pretrain_13b": (32, "80GB", "pretrain", PROJECTOR, True),
    "single_24gb": (1, "24GB", "finetune", PROJECTOR + LORA(16), True),
}


def planned(name: str, *more: str) -> dict[str, Any]:
    return document("train", str(RECIPES / f"{name}.yaml"), *more)


def test_no_recipe_is_left_out() -> None:
    assert {path.stem for path in RECIPES.glob("*.yaml")} == set(PLANNED)
    assert {path.stem for path in (RECIPES / "nano").glob("*.yaml")} == {"pretrain", "finetune", "polish"}


@pytest.mark.parametrize("name", list(PLANNED))
def test_every_recipe_is_planned(name: str) -> None:
    gpus, memory, stage, trains, fits = PLANNED[name]
    found = planned(name, "--model", "13b", "--gpus", str(gpus), "--device-memory", memory)
    facts, recipe = found["facts"], found["facts"]["recipe"]
    print(f"{name}: {found['total_bytes'] / GB:.1f} GB of {memory}")
    assert (found["stage"], facts["trainable_parameters"], found["fits"]) == (stage, trains, fits)
    assert sum(recipe["trains"].values()) == trains
    assert sum(item["bytes"] for item in found["items"]) == found["total_bytes"]
    assert any("13b stands in for" in note for note in recipe["notes"])


@pytest.mark.parametrize("name", ["pretrain", "finetune", "polish"])
def test_a_nano_recipe_is_planned_with_its_own_model(name: str) -> None:
    found = planned(f"nano/{name}", "--model", "nano", "--device-memory", "2GB")
    stage = "pretrain" if name == "pretrain" else "finetune"
    assert (found["stage"], found["device"], found["facts"]["dtype"]) == (stage, "cpu", "float32")
    assert found["fits"] is True
    recipe = found["facts"]["recipe"]
    steps, longest = {"pretrain": (1600, 512), "finetune": (1400, 1536), "polish": (500, 1536)}[name]
    assert (recipe["steps"], recipe["tokens_per_step_at_most"]) == (steps, 16 * longest)
    assert any("one device" in note for note in recipe["notes"])


NANO = ("--model", "nano")  # the recipes name folders that only `make nano` makes


def nano(*more: str) -> dict[str, Any]:
    return planned("nano/finetune", *more, "--model", "nano", "--device-memory", "2GB")


def test_the_rules_decide_and_not_the_stages_name() -> None:
    found = nano("stage.lora=null", "stage.rules=[" + RULE % r"model\.language_model\..*|lm_head\.weight" + "]")
    assert (found["stage"], found["facts"]["recipe"]["stage"]) == ("full", "finetune")
    alone = nano("stage.rules=[" + RULE % r".*\.lora_[AB]\..*" + "]")
    assert (alone["stage"], alone["facts"]["claimed"]) == ("finetune", 0)
    some = nano(r"stage.lora.linears=model\.language_model\.layers\.0\.self_attn\.q_proj")
    assert some["facts"]["recipe"]["trains"]["adapters"] == 32 * (192 + 256)
    assert some["facts"]["trainable_parameters"] == sum(some["facts"]["recipe"]["trains"].values())


def test_overrides_reach_the_plan() -> None:
    more = ("data.packing=false", "data.micro_batch=3", "distribution.activation_checkpointing=true")
    facts = nano(*more, "distribution.loss_chunk=64", "distribution.dtype=bfloat16", "stage.lora.rank=4")["facts"]
    assert (facts["samples"], facts["tokens"], facts["packing"]) == (3, 3 * 1536, False)
    assert (facts["checkpointing"], facts["loss_chunk"], facts["dtype"]) == (True, 64, "bfloat16")
    assert (facts["lora_rank"], facts["dropout"]) == (4, 0.0)
    shared = nano("distribution.shard=hybrid", "distribution.shard_size=2", "--gpus", "4")["facts"]
    assert (shared["gpus"], shared["shard"]) == (2, "full")


def test_a_sample_that_was_asked_for_is_taken() -> None:
    asked = ("--image", "224x224", "--new-tokens", "20", "--question-tokens", "30")
    facts = nano("data.packing=true", *asked)["facts"]
    assert facts["sample_tokens"] == 64 + 30 + 20
    assert facts["samples"] == 1536 // facts["sample_tokens"]
    assert nano(*asked)["facts"]["samples"] == 2, "padded, as the recipe is"


def test_no_device_has_more_samples_than_its_part_of_a_step() -> None:
    few = nano("data.global_batch=2", "--gpus", "2", "--image", "224x224", "--new-tokens", "20")
    assert few["facts"]["samples"] == 1


def test_changes_are_overrides_of_the_recipe() -> None:
    said = run("train", str(RECIPES / "lora_13b.yaml"), "--model", "13b", "--device-memory", "24GB")
    assert "Does not fit: " in said
    assert "distribution.shard=full distribution.cpu_offload=true: saves" in said
    assert "--cpu-offload" not in said
    shorter = planned(
        "nano/finetune",
        "data.packing=true",
        "data.pack_length=2048",
        "distribution.dtype=bfloat16",
        "--model",
        "nano",
        "--device-memory",
        "700MB",
    )
    assert "data.pack_length=" in " ".join(change["flags"] for change in shorter["changes"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("full_13b",), "E162"),
        (("nano/pretrain", *NANO, "--lora-rank", "8"), "E164"),
        (("nano/pretrain", *NANO, "--image", "224x224", "--new-tokens", "900"), "E165"),
        (("nano/pretrain", *NANO, "--gpus", "0"), "E155"),
        (
            (
                "nano/pretrain",
                "--model",
                "nano",
                "distribution.shard=hybrid",
                "distribution.shard_size=3",
                "--gpus",
                "4",
            ),
            "E267",
        ),
        (("nano/pretrain", *NANO, "optimisation.stps=1"), "E251"),
        (("nano/pretrain", *NANO, "stage.rules.0.match=model.vision_tower.*"), "E163"),
        (("nano/finetune", *NANO, "stage.rules.0.match=model.language_model.norm.weight"), "E163"),
    ],
)
def test_mistakes_have_codes(arguments: tuple[str, ...], code: str) -> None:
    with pytest.raises(XverseError) as raised:
        planned(*arguments)
    assert raised.value.code == code
    for language in ("en", "zh"):
        assert raised.value.text(language)


@pytest.mark.parametrize("arguments", [("infer", "recipe.yaml"), ("train",)])
def test_a_recipe_belongs_to_train_and_train_needs_one(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments]) == 2
    assert "E801" in capsys.readouterr().err
