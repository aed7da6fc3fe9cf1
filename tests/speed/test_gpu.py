"""The suite for a card, tried through on the CPU with a tiny size: no graphs, no meaning of its numbers."""

from __future__ import annotations

import pytest
import torch

from xverse_v.errors import XverseError
from xverse_v.speed import gpu, training
from xverse_v.speed.ceilings import Ceilings, Rate
from xverse_v.speed.gpu import Suite
from xverse_v.speed.sizes import SIZES, build_network

MADE_UP = Rate("made up", "FLOP/s", (1e9,), "no probe")
CEILINGS = Ceilings("made up", 1, {"float32": MADE_UP}, (MADE_UP,), MADE_UP)
TINY = Suite("tiny", "cpu", "float32", (1, 2), 64, 6, (32, 64), (1, 2), (1,))


def test_every_part_has_rows_and_goals(monkeypatch):
    def no_room(case, ceilings, note):
        raise RuntimeError("out of memory\nand a long table")

    monkeypatch.setattr(training, "measure_training", no_room)
    sections = {section.title: section for section in gpu.run_suite(TINY, CEILINGS)}
    assert list(sections) == ["What the card allows", "Decoding", "Prefill and vision tower", "Training"]
    assert {row.who for row in sections["Decoding"].records} == {"xverse-v, engine", "xverse-v, static cache"}
    assert sections["Decoding"].words[0].count("| kept |") == 3  # the head, and the best of either number of rows
    assert [goal.met is None for goal in sections["Prefill and vision tower"].goals] == [False, False]
    assert "did not run: out of memory." in sections["Training"].words[0]
    assert sections["Training"].goals[0].met is None


def test_steps_on_a_static_cache_are_those_of_a_whole_pass():
    network = build_network(SIZES["tiny"], attention="sdpa")
    step = gpu.static_step(network, TINY, 2)
    ids = torch.zeros(2, TINY.context + 1, dtype=torch.int64)
    ids[:, -1] = 1  # the token that the first step reads
    for _ in range(3):
        with torch.inference_mode():
            expected = network(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)
        assert torch.equal(step(), expected)
        ids = torch.cat([ids, expected], dim=1)


def test_without_a_card_it_is_refused():
    if torch.cuda.is_available():
        assert Suite().card
        return
    with pytest.raises(XverseError) as problem:
        Suite()
    assert problem.value.code == "E819" and float(problem.value.facts["gigabytes"]) > 25
