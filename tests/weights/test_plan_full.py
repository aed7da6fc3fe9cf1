"""Full fine-tuning: the plan against measured memory of the trainer's own objective, and how it divides over GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.weights.plan_runs import tracked_bytes
from tests.weights.plan_training_runs import TrainingRun
from xverse_v.weights.plan_table import Device, Plan
from xverse_v.weights.plan_time import Rates, time_training
from xverse_v.weights.plan_training import TrainingOptions, plan_training
from xverse_v.weights.shapes import PUBLISHED, config_from_shape, shape_from_config

SHAPE = PUBLISHED["13b"]
LARGE = {"images": ((448, 448), (448, 224)), "question_tokens": 200, "new_tokens": 300}
ON_32 = TrainingOptions(stage="full", images=((448, 448),), device=Device("cuda", 32, "full"))


@pytest.mark.parametrize(
    "run",
    [
        TrainingRun("float32, long", "full", **LARGE),
        TrainingRun("packed", "full", ((224, 224),), samples=3),
        TrainingRun(
            "bfloat16, checkpointing",
            "full",
            **LARGE,
            checkpointing=True,
            network={"dtype": torch.bfloat16, "layers": 6},
        ),
        TrainingRun("head in pieces", "full", (), 10, 90, loss_chunk=32, network={"vocabulary": 8000}),
    ],
    ids=lambda run: run.name,
)
def test_prediction_is_within_ten_percent(run: TrainingRun) -> None:
    """Of the peak, and of what comes and goes: what is stored is most of it, and would hide a forgotten tensor."""
    measured, plan = run.compare()
    assert abs(tracked_bytes(plan) / measured - 1) <= 0.03
    stored = plan.resident_bytes
    assert abs((tracked_bytes(plan) - stored) / (measured - stored) - 1) <= 0.1


def item(plan: Plan, name: str) -> int:
    return next(item.bytes for item in plan.resident if item.name == name)


def test_sixteen_bytes_a_number_are_divided_and_gathered_weights_are_not() -> None:
    plan, fewer = (plan_training(SHAPE, replace(ON_32, device=Device("cuda", gpus, "full"))) for gpus in (32, 16))
    trains = SHAPE.decoder.parameters + SHAPE.projector_parameters
    assert plan.facts["trainable_parameters"] == trains
    stored = sum(item.bytes for item in plan.resident if item.name.startswith("what trains"))
    assert stored == pytest.approx(16 * trains / 32, rel=1e-6)
    assert fewer.resident_bytes - plan.resident_bytes == pytest.approx(stored, rel=0.01)
    assert item(plan, "gathered layers") == item(fewer, "gathered layers")
    # In bfloat16 as they are made and in float32 as they are sent.
    layer = item(plan, "gathered layers") // 4
    assert item(plan, "gradients of a layer, not yet divided") == 6 * layer


def test_what_is_not_claimed_stays_frozen_in_the_compute_dtype() -> None:
    whole = plan_training(SHAPE, replace(ON_32, device=Device("cuda")))
    half = plan_training(SHAPE, replace(ON_32, device=Device("cuda"), claimed=SHAPE.decoder.parameters // 2))
    rest = SHAPE.decoder.parameters // 2 + SHAPE.projector_parameters
    assert item(half, "decoder and projector, frozen part") == pytest.approx(2 * rest, rel=1e-6)
    assert whole.resident_bytes - half.resident_bytes == pytest.approx((16 + 2 - 2) * rest, rel=1e-6)


def test_replicate_over_several_gpus_shares_what_trains() -> None:
    options = TrainingOptions(images=((448, 448),), device=Device("cuda", 8))
    alone, shared = plan_training(SHAPE, options), plan_training(SHAPE, replace(options, split=8))
    trains = alone.facts["trainable_parameters"]
    # 16 bytes a number, or an eighth of them and the whole gradient.
    assert alone.resident_bytes - shared.resident_bytes == pytest.approx((16 - 2 - 4) * trains, rel=1e-6)


def test_a_frozen_projector_keeps_nothing() -> None:
    options = TrainingOptions(images=((448, 448),), device=Device("cuda"))
    both, alone = plan_training(SHAPE, options), plan_training(SHAPE, replace(options, claimed=0))
    assert both.facts["trainable_parameters"] - alone.facts["trainable_parameters"] == SHAPE.projector_parameters
    assert item(alone, "projector") == 2 * SHAPE.projector_parameters
    assert "projector: kept for backward" in {item.name for item in both.worst.items}
    assert "projector: kept for backward" not in {item.name for item in alone.worst.items}


def test_padded_rows_need_no_mask() -> None:
    """On the CPU; two samples in one packed row need one of tokens x tokens in every layer."""
    packed = TrainingOptions(
        question_tokens=100, new_tokens=100, micro_tokens=400, checkpointing=False, device=Device()
    )
    found = [plan_training(SHAPE, replace(packed, packing=packing)).worst.bytes for packing in (True, False)]
    assert found[0] - found[1] >= SHAPE.decoder.layers * 400**2 * 2


def test_six_operations_a_number_and_token() -> None:
    options = TrainingOptions(stage="full", question_tokens=500, new_tokens=12, micro_tokens=512, checkpointing=False)
    [found] = time_training(SHAPE, options, Rates(1e12, 1e12, "given"))
    assert found.flops / 512 == pytest.approx(6 * SHAPE.decoder.linear_parameters, rel=0.02)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_a_shape_as_a_configuration_and_back(name: str) -> None:
    shape = PUBLISHED[name]
    found = shape_from_config(config_from_shape(shape), name=name)
    assert (found.vision, found.decoder) == (shape.vision, shape.decoder)
