"""int8 beside float32: two rows in turns, or the reason why there are none."""

from __future__ import annotations

from functools import partial

import pytest

from xverse_v.errors import error
from xverse_v.quantisation.quantised import QuantisedLinear, quantise_decoder
from xverse_v.speed import quantised
from xverse_v.speed.ceilings import Ceilings, Rate
from xverse_v.speed.generate import Case
from xverse_v.speed.peers import OURS
from xverse_v.speed.quantised import INT8
from xverse_v.speed.subject import Subject, build_subject

MADE_UP = Rate("made up", "FLOP/s", (1e9,), "no probe")
CEILINGS = Ceilings("made up", 1, {"float32": MADE_UP}, (MADE_UP,), MADE_UP)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return build_subject(None, "tiny", "float32", "cpu")


def test_both_are_timed_behind_the_same_image_and_the_float_network_stays(subject, monkeypatch):
    # A tiny decoder is read from caches, where int8 gains nothing and would be refused.
    monkeypatch.setattr(quantised, "quantise_decoder", partial(quantise_decoder, refuse_slow=False))
    found = quantised.measure_quantised(subject, Case(subject.shape, views=1, new_tokens=4, repeats=1), CEILINGS)
    assert [row.who for row in found.records] == [OURS, INT8]
    plain, fewer = found.records
    assert fewer.floor < 0.7 * plain.floor  # fewer bytes a step; the cache and the norms stay as they are
    assert found.goals[0].met is not None and "of 1 questions" in found.words[0]
    assert not any(isinstance(module, QuantisedLinear) for module in subject.network.modules())


def test_a_refusal_is_a_goal_not_measured_with_its_reason(subject, monkeypatch):
    def refuse(network, kind):
        numbers = {"found": "2", "expected": "1", "shape": "64 -> 64", "threads": 1}
        raise error("E860", kind=kind, kernel="int8-weights", plain="float32", **numbers)

    monkeypatch.setattr(quantised, "quantise_decoder", refuse)
    found = quantised.measure_quantised(subject, Case(subject.shape, views=1, new_tokens=4, repeats=1), CEILINGS)
    assert not found.records and found.goals[0].met is None and "int8" in found.goals[0].why
