"""What fits and what would, how memory is written and found, how time is counted."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import tiny_processor
from tests.weights.plan_runs import network
from xverse_v.errors import XverseError
from xverse_v.inference import cache, kv, prefilling
from xverse_v.model.tiling import choose_grid
from xverse_v.weights import plan as plan_module
from xverse_v.weights import plan_machine
from xverse_v.weights.plan import InferenceOptions, cache_columns, plan_inference, views_of
from xverse_v.weights.plan_activations import cutting_phase
from xverse_v.weights.plan_fit import Change, changes_for_inference, changes_for_training
from xverse_v.weights.plan_machine import free_memory, parse_bytes
from xverse_v.weights.plan_table import Device, Stage
from xverse_v.weights.plan_time import Rates, measure_rates, time_inference, time_training
from xverse_v.weights.plan_training import TrainingOptions, plan_training
from xverse_v.weights.shapes import PUBLISHED, shape_from_config, shape_from_folder

GB = 10**9
SHAPE = PUBLISHED["13b"]
GPU = Device("cuda")
LARGE = InferenceOptions(images=((1920, 1080),), device=GPU)


def flags(changes: list[Change]) -> list[str]:
    return [change.flags for change in changes]


def error_code(action: object, *arguments: object, **named: object) -> str:
    assert callable(action)
    with pytest.raises(XverseError) as raised:
        action(*arguments, **named)
    return raised.value.code


def test_a_plan_adds_up() -> None:
    plan = plan_inference(SHAPE, LARGE)
    assert sum(item.bytes for item in plan.rows()) == plan.total_bytes
    assert plan.total_bytes - plan.tensor_bytes == plan.margin.bytes + plan.runtime.bytes
    assert plan.worst.bytes == max(phase.bytes for phase in plan.phases)
    document = plan.as_dict()
    assert sum(item["bytes"] for item in document["items"]) == document["total_bytes"]


def test_nothing_to_change_when_it_fits() -> None:
    assert changes_for_inference(SHAPE, LARGE, 80 * GB) == []


def test_every_change_fits_and_is_the_smallest_of_its_kind() -> None:
    memory = 80 * GB
    options = replace(LARGE, images=LARGE.images * 2, batch=8, requests=8)
    now = plan_inference(SHAPE, options).total_bytes
    changes = changes_for_inference(SHAPE, options, memory)
    assert now > memory
    assert all(change.total <= memory and change.total == now - change.saves for change in changes)
    batch = next(int(change.flags.split()[1]) for change in changes if change.flags.startswith("--batch"))
    assert plan_inference(SHAPE, replace(options, batch=batch + 1)).total_bytes > memory
    tiles = next(int(change.flags.split()[1]) for change in changes if change.flags.startswith("--max-tiles"))
    assert plan_inference(SHAPE, replace(options, max_tiles=tiles + 1)).total_bytes > memory
    assert flags(changes).index(f"--batch {batch}") < flags(changes).index(f"--max-tiles {tiles}")


def test_int8_saves_one_byte_a_weight() -> None:
    change = next(c for c in changes_for_inference(SHAPE, LARGE, 24 * GB) if c.flags == "--dtype int8")
    assert change.saves == pytest.approx(SHAPE.decoder.linear_parameters, rel=0.01)


def test_fewer_tiles_save_their_part_of_the_cache() -> None:
    short = replace(LARGE, new_tokens=200)
    saved = plan_inference(SHAPE, short).total_bytes - plan_inference(SHAPE, replace(short, max_tiles=4)).total_bytes
    views = views_of(LARGE.images, 9)[0] - views_of(LARGE.images, 4)[0]
    assert views == 5
    # The tokens leave the working cache and what is kept of it for the next question.
    assert saved == pytest.approx(2 * SHAPE.decoder.cache_bytes(256 * views, 2), rel=0.07)


def test_one_combination_when_nothing_helps_alone() -> None:
    options = replace(LARGE, batch=4, requests=4, device=Device("cpu"))
    changes = changes_for_inference(SHAPE, options, 17 * GB)
    assert len(changes) == 1
    assert len(changes[0].flags.split("--")) > 2
    assert changes[0].total <= 17 * GB


def test_nothing_is_offered_when_nothing_helps() -> None:
    assert changes_for_inference(SHAPE, replace(LARGE, device=Device("cpu")), GB) == []


def test_checkpointing_is_the_first_thing_to_change_in_training() -> None:
    options = TrainingOptions(images=((1920, 1080),), micro_tokens=8192, checkpointing=False, device=GPU)
    changes = changes_for_training(SHAPE, options, 80 * GB)
    assert changes[0].flags == "--checkpointing"
    assert changes[0].total == plan_training(SHAPE, replace(options, checkpointing=True)).total_bytes


def test_a_sample_is_never_cut_to_fit() -> None:
    options = TrainingOptions(images=((1920, 1080),), micro_tokens=4096, checkpointing=False, device=GPU)
    sample = plan_training(SHAPE, options).facts["sample_tokens"]
    tried = [flag for change in changes_for_training(SHAPE, options, 24 * GB) for flag in change.flags.split("--")]
    counts = [int(flag.split()[1]) for flag in tried if flag.startswith("micro-tokens")]
    assert tried
    assert all(count >= sample for count in counts)


def test_more_gpus_hold_a_part_each() -> None:
    whole = plan_inference(SHAPE, LARGE)
    half = plan_inference(SHAPE, replace(LARGE, device=Device("cuda", 2, "full")))
    assert half.resident[0].bytes == pytest.approx(whole.resident[0].bytes / 2, rel=1e-3)
    same = plan_inference(SHAPE, replace(LARGE, device=Device("cuda", 2, "replicate")))
    assert same.total_bytes == whole.total_bytes
    split = plan_training(SHAPE, TrainingOptions(images=LARGE.images, device=Device("cuda", 8, "full")))
    assert split.resident_bytes < 10 * GB


def test_views_come_from_the_tiler() -> None:
    sizes = [(224, 224), (1920, 1080), (20_000, 200), (448, 672)]
    wanted = [choose_grid(*size, orientation="release").views for size in sizes]
    assert views_of(sizes, 9) == wanted


def test_the_engine_sizes_its_caches_as_the_plan_says() -> None:
    assert plan_module.EXPECTED_ANSWER == prefilling._EXPECTED_ANSWER
    assert plan_module.COLUMN_BLOCK == kv._COLUMN_BLOCK
    assert (plan_module.PREFIX_BYTES, plan_module.FEATURE_BYTES) == (
        cache.DEFAULT_PREFIX_BYTES,
        cache.DEFAULT_FEATURE_BYTES,
    )
    assert cache_columns(100, 20) == (128, 0)
    assert cache_columns(2624, 512) == (4352, 2880)


def test_cutting_takes_what_it_is_said_to_take() -> None:
    """These are numpy's arrays: they are traced, tensors are not."""
    shape = shape_from_config(network().config, name="small")
    image = Image.effect_noise((672, 672), 60).convert("RGB")
    processor = tiny_processor().image_processor
    processor.preprocess([image])
    tracemalloc.start()
    processor.preprocess([image], return_tensors="pt")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cutting_phase(shape, [10], 4).bytes == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("24GB", 24 * GB), ("24 GiB", 24 * 2**30), ("1.5tb", 1500 * GB), ("512M", 512_000_000), ("1000", 1000)],
)
def test_sizes_as_people_write_them(given: str, expected: int) -> None:
    assert parse_bytes(given) == expected


@pytest.mark.parametrize("given", ["", "GB", "0GB", "-3GB", "24 apples", "24GBs", "0.0000001B"])
def test_sizes_nobody_means(given: str) -> None:
    assert error_code(parse_bytes, given) == "E154"


def test_free_memory_is_the_containers_if_that_is_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4000 kB\n", encoding="ascii")
    monkeypatch.setattr(plan_machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(plan_machine, "CGROUPS", ((tmp_path / "max", tmp_path / "current"),))
    assert free_memory("cpu").bytes == 4000 * 1024
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "current").write_text("1000\n")
    assert free_memory("cpu").bytes == 4000 * 1024
    (tmp_path / "max").write_text("5000\n")
    assert free_memory("cpu").bytes == 4000
    assert "container" in free_memory("cpu").source


def test_bad_options_are_refused() -> None:
    assert error_code(plan_inference, SHAPE, replace(LARGE, images=((0, 5),))) == "E153"
    assert error_code(plan_inference, SHAPE, replace(LARGE, batch=0)) == "E155"
    assert error_code(plan_inference, SHAPE, replace(LARGE, images=LARGE.images * 4)) == "E156"
    assert error_code(plan_inference, SHAPE, replace(LARGE, device=Device("cuda", 3, "full"))) == "E157"
    assert error_code(plan_inference, SHAPE, replace(LARGE, dtype="int3")) == "E159"
    training = TrainingOptions(images=LARGE.images, device=GPU)
    assert error_code(plan_training, SHAPE, replace(training, micro_tokens=1000)) == "E158"
    assert error_code(plan_training, SHAPE, replace(training, dtype="int8")) == "E159"
    assert error_code(plan_training, SHAPE, replace(training, dropout=1.0)) == "E155"


def test_a_folder_is_planned_from_its_configuration_alone(tmp_path: Path) -> None:
    config = network().config
    config.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    shape = shape_from_folder(tmp_path, name="small")
    assert replace(shape, dtype="float32") == replace(shape_from_config(config, name="small"), dtype="float32")


def test_grouped_heads_and_ties_are_counted() -> None:
    model = network(width=128, heads=8, kv_heads=2)
    shape = shape_from_config(model.config, name="grouped")
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    tied = replace(shape.decoder, tied=True)
    assert shape.decoder.parameters - tied.parameters == tied.vocabulary * tied.width


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    assert error_code(shape_from_folder, tmp_path) == "E151"
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    assert error_code(shape_from_folder, tmp_path) == "E151"
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    assert error_code(shape_from_folder, tmp_path) == "E152"
    (tmp_path / "config.json").write_text('{"model_type": "xverse_v", "image_token_id": -1}', encoding="utf-8")
    assert error_code(shape_from_folder, tmp_path) == "E151"


H100 = Rates(989e12, 3.35e12, "given")


def test_time_of_an_answer_is_the_roofline() -> None:
    vision, prefill, decode = time_inference(SHAPE, LARGE, H100)
    assert vision.flops == pytest.approx(10 * 0.16e12, rel=0.1)
    assert prefill.flops == pytest.approx(2 * 12.69e9 * 2624, rel=0.07)
    assert (prefill.bound, decode.bound) == ("matrix rate", "bandwidth")
    step = decode.seconds / LARGE.new_tokens
    assert step == pytest.approx((26.4e9 + 819_200 * 2880) / 3.35e12, rel=0.01)


@pytest.mark.parametrize(("stage", "operations"), [("pretrain", 50.8e9), ("finetune", 53.8e9)])
def test_time_of_training_counts_what_the_recipe_counts(stage: Stage, operations: float) -> None:
    """Four operations a frozen weight and token, six one that trains; attention, head and tower come on top."""
    options = TrainingOptions(stage=stage, question_tokens=500, new_tokens=12, micro_tokens=512, checkpointing=False)
    [found] = time_training(SHAPE, options, H100)
    assert found.flops / 512 == pytest.approx(operations, rel=0.02)
    [again] = time_training(SHAPE, replace(options, checkpointing=True), H100)
    assert again.flops / found.flops == pytest.approx(1.5, rel=0.02)


def test_rates_are_measured_on_this_machine() -> None:
    rates = measure_rates("cpu", "float32")
    assert rates.flops > 0
    assert rates.bandwidth > 0
    assert "measured here" in rates.source
