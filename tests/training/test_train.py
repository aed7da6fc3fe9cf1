"""The loop: what ranks, micro-batches, kills and restarts may not change, and what stops it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import ranks
from tests.training.conftest import PROJECTOR, config_of, lines, settings, small_processor
from xverse_v.training.checkpoint import complete_steps, folder_of, read_weights
from xverse_v.training.data.batches import StepData

SAME = 1e-6


def weights_hash(run: Path, step: int) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(read_weights(run, step).items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def numbers(run: Path, name: str = "loss") -> list[float]:
    """The last value of each step."""
    return list({line["step"]: line[name] for line in lines(run) if name in line}.values())


def assert_same(one: Path, two: Path, step: int) -> None:
    """Losses and gradient norms to 1e-6; weights by the norm of the difference, as AdamW turns a gradient of nearly
    nothing into a step of either sign."""
    for name in ("loss", "gradient_norm"):
        assert numbers(one, name) == pytest.approx(numbers(two, name), abs=SAME, rel=0)
    first, second = read_weights(one, step), read_weights(two, step)
    assert first.keys() == second.keys()
    for name in first:
        assert (first[name] - second[name]).norm() <= 1e-4 * second[name].norm(), name


@pytest.fixture(scope="module")
def reference(small_folder: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps on one process, dropout on."""
    run = tmp_path_factory.mktemp("runs") / "reference"
    assert ranks.train(settings(small_folder, samples, run)) == [0]
    return run


def test_the_reference_learns_and_says_so(reference: Path) -> None:
    losses = numbers(reference)
    assert len(losses) == 6 and losses[-1] < losses[0] - 0.05
    line = lines(reference)[-1]
    for name in (
        "rate/projector",
        "rate/adapters",
        "tokens_per_second",
        "data_wait",
        "peak_memory_gb",
        "eta_seconds",
        "supervised",
    ):
        assert name in line
    assert complete_steps(reference) == [3, 6]
    [start] = lines(reference, "start")
    assert len(start["trained"]["adapters"]) == 28 and "lm_head.weight" in start["frozen"]
    assert "seed: 3" in (reference / "run.yaml").read_text()


@pytest.mark.parametrize(
    "changes",
    [
        {"data__micro_batch": 1},
        {"data__micro_batch": 8, "distribution__loss_chunk": 3, "distribution__activation_checkpointing": True},
        {"data__packing": True},
    ],
    ids=["one sample", "one micro-batch, recomputed", "packed"],
)
def test_micro_batches_change_nothing(
    reference: Path, small_folder: Path, samples: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert ranks.train(settings(small_folder, samples, tmp_path, **changes)) == [0]
    assert_same(tmp_path, reference, 6)


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        (2, {}),
        (2, {"distribution__shard": "full", "checkpoints__background": True}),
        (2, {"distribution__shard": "hybrid", "distribution__shard_size": 1}),
        (3, {"data__micro_batch": 1}),
    ],
    ids=["replicate", "full", "hybrid", "three ranks, uneven"],
)
def test_ranks_change_nothing(
    reference: Path, small_folder: Path, samples: Path, tmp_path: Path, size: int, changes: dict[str, Any]
) -> None:
    # Three ranks share eight samples 3, 3, 2 and every third sample has no image: rank 0 of 3 sees text alone in
    # some steps.
    assert ranks.train(settings(small_folder, samples, tmp_path, **changes), size) == [0] * size
    assert_same(tmp_path, reference, 6)


def test_a_rank_without_images_does_not_hang_the_others(small_folder: Path, samples: Path, tmp_path: Path) -> None:
    records = json.loads(samples.read_text())
    with_image, without = records[1], records[0]
    data = samples.parent / "uneven.json"
    data.write_text(json.dumps([with_image, without]), encoding="utf-8")
    # Two samples a step over three ranks: one rank has an image, one has text, one has nothing at all.
    changes = {
        "data__global_batch": 2,
        "optimisation__steps": 2,
        "optimisation__warmup_steps": 0,
        "distribution__shard": "full",
    }
    assert ranks.train(settings(small_folder, data, tmp_path / "three", **changes), 3) == [0, 0, 0]
    assert ranks.train(settings(small_folder, data, tmp_path / "one", **changes)) == [0]
    assert_same(tmp_path / "three", tmp_path / "one", 2)


def test_a_resumed_run_is_the_same_to_the_bit(
    reference: Path, small_folder: Path, samples: Path, tmp_path: Path
) -> None:
    document = settings(small_folder, samples, tmp_path)
    process, *_ = ranks.begin(document, patch=stop_after_four)
    assert ranks.wait([process]) == [7]
    assert complete_steps(tmp_path) == [3]
    assert ranks.train(document, resume=True) == [0]
    assert numbers(tmp_path) == numbers(reference)
    assert weights_hash(tmp_path, 6) == weights_hash(reference, 6)


def stop_after_four(rank: int) -> None:
    from xverse_v.training import train as loop

    report = loop.report

    def reporting(run: Any, step: int, facts: Any) -> None:
        report(run, step, facts)
        if step == 4:
            os._exit(7)

    loop.report = reporting


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_checkpoint_is_read_by_another_number_of_ranks(
    reference: Path, small_folder: Path, samples: Path, tmp_path: Path, before: int, after: int
) -> None:
    document = settings(small_folder, samples, tmp_path, distribution__shard="full")
    assert set(ranks.train(document, before, patch=stop_after_four)) != {0}
    assert complete_steps(tmp_path) == [3]
    assert ranks.train(document, after, resume=True) == [0] * after
    assert_same(tmp_path, reference, 6)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_at_random_steps_leave_the_final_weights_as_they_are(
    small_folder: Path, samples: Path, tmp_path: Path, kills: int
) -> None:
    changes = {
        "optimisation__steps": 2 * kills + 4,
        "checkpoints__every": 1,
        "checkpoints__keep": 2,
        "checkpoints__background": True,
    }
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert ranks.train(settings(small_folder, samples, whole, **changes)) == [0]
    rng, done, last = random.Random(5), 0, 2 * kills + 4
    while done < kills:
        [process] = ranks.begin(settings(small_folder, samples, killed, **changes), resume=True)
        goal = min(last - 1, max([0, *complete_steps(killed)]) + rng.randint(1, 2))
        while process.is_alive() and not (folder_of(killed, goal).exists() or folder_of(killed, goal + 1).exists()):
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode in (-signal.SIGKILL, 0)
        done += 1
    assert ranks.train(settings(small_folder, samples, killed, **changes), resume=True) == [0]
    assert weights_hash(killed, last) == weights_hash(whole, last)
    assert complete_steps(killed) == [last - 1, last], "keep-last-N"
    assert not list((killed / "checkpoints").glob("*.partial"))


def poison(sample: str, gradient: bool, rank: int) -> None:
    """On rank 1, the pass that holds a sample gives a loss or a gradient that is not a number."""
    from xverse_v.training.loss import Objective

    token_losses, forward = Objective._token_losses, Objective.forward
    bad = float("nan")

    def poisoned(self: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        total = token_losses(self, hidden, targets)
        if rank == 1 and sample in self.seen:
            if gradient:
                total.register_hook(lambda g: g * bad)
            else:
                total = total * bad
        return total

    def noting(self: Any, batch: Any) -> torch.Tensor:
        self.seen = batch.sample_ids
        return forward(self, batch)

    Objective._token_losses, Objective.forward = poisoned, noting  # type: ignore[method-assign]


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_before_the_update(
    small_folder: Path, samples: Path, tmp_path: Path, what: str
) -> None:
    document = settings(small_folder, samples, tmp_path / "run", checkpoints__every=1)
    data = StepData(config_of(small_folder, samples, tmp_path).data, small_processor(), cache=tmp_path)
    third = data.micro_batches(2, rank=1, world=2)
    sample, beside = third[-1].sample_ids[0], third[-1].sample_ids[1]
    earlier = [name for step in (0, 1) for batch in data.micro_batches(step) for name in batch.sample_ids]
    assert sample not in earlier
    assert ranks.train(document, 2, patch=partial(poison, sample, what == "gradient")) == [1, 1]
    said = ranks.said(tmp_path / "run")
    assert "E257 Step 3 " in said and f"ranks 1: rank 1: {what} of {sample}, {beside}." in said
    assert complete_steps(tmp_path / "run") == [1, 2], "something was written after the stop"


def hold_rank_one(rank: int) -> None:
    from xverse_v.training.data.batches import StepData

    made = StepData.micro_batches

    def held(self: Any, step: int, rank: int = 0, world: int = 1) -> Any:
        if rank == 1 and step == 2:
            time.sleep(ranks.SECONDS)
        return made(self, step, rank, world)

    StepData.micro_batches = held  # type: ignore[method-assign]


def test_the_watchdog_names_the_rank_that_stands_still(small_folder: Path, samples: Path, tmp_path: Path) -> None:
    document = settings(small_folder, samples, tmp_path, distribution__stall_seconds=3)
    codes = ranks.train(document, 2, patch=hold_rank_one)
    assert 0 not in codes and None not in codes
    said = ranks.said(tmp_path)
    assert "E268" in said and "rank 1 has been in data of step 3" in said and "samples: samples.json[" in said


def test_a_run_is_not_begun_twice_nor_resumed_with_other_settings(
    reference: Path, small_folder: Path, samples: Path
) -> None:
    assert ranks.train(settings(small_folder, samples, reference)) == [2]
    assert "E258" in ranks.said(reference)
    changed = settings(small_folder, samples, reference, data__seed=5, logs__every=2)
    assert ranks.train(changed, resume=True) == [2]
    said = ranks.said(reference)
    assert "E259" in said and "data.seed: 1 -> 5" in said and "logs" not in said


def test_a_damaged_checkpoint_is_refused(reference: Path, small_folder: Path, samples: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(reference, run)
    shard = next(folder_of(run, 6).glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-10])
    assert ranks.train(settings(small_folder, samples, run), resume=True) == [1]
    assert "E260" in ranks.said(run)


def test_validation_measures_held_out_data_and_changes_no_weight(
    reference: Path, small_folder: Path, samples: Path, tmp_path: Path
) -> None:
    held_out = {
        "data": {"sources": [{"path": str(samples)}], "max_length": 128, "global_batch": 4},
        "every": 2,
        "steps": 2,
    }
    assert ranks.train(settings(small_folder, samples, tmp_path, validation=held_out)) == [0]
    assert weights_hash(tmp_path, 6) == weights_hash(reference, 6)
    losses = numbers(tmp_path, "validation_loss")
    assert len(losses) == 3 and losses[-1] < losses[0]


@pytest.mark.parametrize(
    "stage",
    [
        {"name": "pretrain", "lora": None, "rules": [PROJECTOR]},
        {"name": "full", "lora": None, "rules": [{"name": "all", "match":
        r"(model\.(language_model|multi_modal_projector)|lm_head)\..*", "lr": 3e-3}]}, {"name": "lora", "lora":
        {"rank": 4, "alpha": 8}, "rules": [{"name": "adapters", "match": r".*\.lora_.*", "lr": 1e-2}]},
    ],
    ids=lambda stage: stage["name"],
)  # fmt: skip
def test_every_kind_of_stage_learns_on_two_ranks(
    small_folder: Path, samples: Path, tmp_path: Path, stage: dict[str, Any]
) -> None:
    document = settings(
        small_folder, samples, tmp_path, stage=stage, distribution__shard="full", optimisation__clip=None
    )
    assert ranks.train(document, 2) == [0, 0]
    losses = numbers(tmp_path)
    assert losses[-1] < losses[0] - 0.01
    assert lines(tmp_path, "start")[0]["trained"].keys() == {rule["name"] for rule in stage["rules"]}


def test_bfloat16_with_float32_masters_follows_float32(
    reference: Path, small_folder: Path, samples: Path, tmp_path: Path
) -> None:
    assert ranks.train(settings(small_folder, samples, tmp_path, distribution__dtype="bfloat16")) == [0]
    assert numbers(tmp_path) == pytest.approx(numbers(reference), abs=0.05)
    assert all(tensor.dtype == torch.float32 for tensor in read_weights(tmp_path, 6).values())
