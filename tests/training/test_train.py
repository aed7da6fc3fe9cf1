"""The loop: what ranks, micro-batches, kills and restarts may not change."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import ranks
from tests.training.comparing import assert_same, numbers, weights_hash
from tests.training.conftest import PROJECTOR, lines, settings
from xverse_v.training.checkpoint import complete_steps, folder_of, read_weights


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
