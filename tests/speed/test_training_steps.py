"""The trainer's own step, timed: which work a row is measured against, padded and packed."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from xverse_v.errors import XverseError
from xverse_v.speed import training
from xverse_v.speed.ceilings import Ceilings, Rate
from xverse_v.speed.records import Record
from xverse_v.speed.sizes import SIZES
from xverse_v.speed.training import TrainingCase

MADE_UP = Rate("made up", "FLOP/s", (1e9,), "no probe")
CEILINGS = Ceilings("made up", 1, {"float32": MADE_UP}, (MADE_UP,), MADE_UP)
CASE = TrainingCase(SIZES["tiny"], views=(1, 3), stages=("finetune",), checkpointing=(True,), repeats=1)


def test_packed_and_padded_batches_hold_the_same_samples(tmp_path):
    training.write_samples(CASE, tmp_path)
    packed, padded = (training.make_batches(CASE, tmp_path, packing=packing) for packing in (True, False))
    assert sorted(packed.samples) == sorted(padded.samples)
    assert packed.tokens == packed.computed == padded.tokens < padded.computed
    for views, tokens, supervised in packed.samples:
        assert tokens > views * 256 and 0 < supervised < tokens - views * 256


def test_padding_is_no_useful_work_and_recomputation_is_counted_apart(tmp_path):
    training.write_samples(CASE, tmp_path)
    packed, padded = (training.make_batches(CASE, tmp_path, packing=packing) for packing in (True, False))
    useful, executed = training.work_of(CASE, "finetune", packed, checkpointing=True)
    assert training.work_of(CASE, "finetune", padded, checkpointing=True) == pytest.approx((useful, executed))
    assert executed > useful == training.work_of(CASE, "finetune", packed, checkpointing=False)[1]


def test_a_step_of_the_trainer_is_timed_and_leaves_no_process_group():
    case = TrainingCase(SIZES["tiny"], (1,), ("finetune",), (True,), (False,), repeats=1)
    said: list[str] = []
    records = training.measure_training(case, CEILINGS, said.append)
    step = next(record for record in records if record.what == "training step")
    assert step.value > 0 and step.floor is not None and step.percent is not None
    assert step.settings["stage"] == "finetune" and step.settings["batch"] == "packed"
    assert len(said) == 1 and not dist.is_initialized()


def test_mfu_of_a_stage_is_that_of_its_best_row():
    rows = [Record("training step", "xverse-v", "s", (s,), {"stage": "pretrain"}, 1.0) for s in (4.0, 1.8)]
    [goal] = training.goals(rows)
    assert goal.met and goal.found == "56 %"
    assert training.goals(rows[:1])[0].met is False


def test_what_cannot_be_is_refused():
    with pytest.raises(XverseError) as problem:
        TrainingCase(SIZES["tiny"], views=(2,))
    assert problem.value.code == "E812"
