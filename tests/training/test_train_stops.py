"""What stops a run, before it changes anything: numbers that are none, a rank that stands still, a wrong folder."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import ranks
from tests.training.conftest import config_of, settings, small_processor
from xverse_v.training.checkpoint import complete_steps, folder_of
from xverse_v.training.data.batches import StepData


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
