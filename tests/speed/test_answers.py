"""The ways that are timed give equal answers on equal weights, and what is said about them is checked."""

from __future__ import annotations

import pytest
import torch

from xverse_v.errors import XverseError
from xverse_v.model.tiling import choose_grid
from xverse_v.speed import generate
from xverse_v.speed.ceilings import Ceilings, Rate
from xverse_v.speed.generate import Case, Measured, first_difference, image_size
from xverse_v.speed.peers import OURS, RELEASE, STOCK, Ours, stock_network
from xverse_v.speed.records import Record
from xverse_v.speed.sizes import SIZES, build_network, build_processor, shape_of
from xverse_v.speed.subject import Subject, build_subject
from xverse_v.speed.ways import build_peer

MADE_UP = Rate("made up", "FLOP/s", (1e9,), "no probe")
CEILINGS = Ceilings("made up", 1, {"float32": MADE_UP}, (MADE_UP,), MADE_UP)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return build_subject(None, "tiny", "float32", "cpu")


def test_weights_are_the_seed_s_and_nothing_else_s():
    torch.manual_seed(1)
    first = build_network(SIZES["tiny"]).state_dict()
    torch.manual_seed(2)
    second, other = build_network(SIZES["tiny"]).state_dict(), build_network(SIZES["tiny"], seed=5).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])
    assert build_network(SIZES["tiny"], dtype="bfloat16").dtype == torch.bfloat16


def test_a_size_has_the_parameters_its_shape_says(subject):
    assert sum(parameter.numel() for parameter in subject.network.parameters()) == subject.shape.parameters
    vocabulary = subject.shape.decoder.vocabulary
    assert len(build_processor(subject.shape).tokenizer) == vocabulary
    assert subject.network.config.image_token_id == subject.processor.image_token_id == vocabulary - 1


def test_all_ways_answer_alike_and_are_timed(subject):
    case = Case(subject.shape, views=3, new_tokens=6, repeats=2)
    ways = [Ours(subject.assistant)]
    ways += [build_peer(name, subject.network, subject.processor) for name in ("release", "transformers")]
    found = generate.measure_answers(ways, case, CEILINGS)
    assert found.equal == [OURS, RELEASE, STOCK] and not found.differ
    for who in found.equal:
        for what in ("first token", "a token after it"):
            row = next(r for r in found.records if (r.what, r.who) == (what, who))
            assert row.n == 2 and row.value > 0 and row.percent is not None
            assert row.settings["prompt tokens"] > 3 * 256
    found.records += generate.measure_sixteen(subject.assistant, case, CEILINGS, generate.single_seconds(found, ways))
    goals = generate.goals(found)
    assert len(goals) == 6 and all(goal.met is not None for goal in goals)


def test_answers_depend_on_the_image_and_the_question(subject):
    way, size = Ours(subject.assistant), image_size(3)
    answers = {
        way.answer(generate.noise_image(*size, seed=seed), question, 8).token_ids
        for seed in (0, 1)
        for question in generate.QUESTIONS[:4]
    }
    assert len(answers) > 2  # equal answers of several ways would prove nothing if all answers were equal


def test_a_peer_takes_our_tensors_and_makes_no_second_copy(subject):
    ours, theirs = subject.network, stock_network(subject.network)
    assert theirs.lm_head.weight.data_ptr() == ours.lm_head.weight.data_ptr()
    tensors = {p.data_ptr() for p in ours.parameters()}
    foreign = [name for name, p in theirs.named_parameters() if p.data_ptr() not in tensors]
    assert [name for name in foreign if "post_layernorm" not in name] == []


def test_a_way_that_answers_differently_is_an_error(subject):
    class Wrong(Ours):
        def answer(self, image, question, new_tokens):
            from dataclasses import replace

            run = super().answer(image, question, new_tokens)
            return replace(run, token_ids=(*run.token_ids[:-1], 7_777))

    ways = [Ours(subject.assistant), Wrong(subject.assistant, name="wrong")]
    with pytest.raises(XverseError) as problem:
        generate.measure_answers(ways, Case(subject.shape, views=1, new_tokens=3, repeats=1), CEILINGS)
    assert problem.value.code == "E813" and problem.value.facts["position"] == 3


def test_where_two_answers_differ():
    assert first_difference([1, 2, 3], [1, 2, 3]) is None
    assert first_difference([1, 2, 3], [1, 5, 3]) == 2
    assert first_difference([1, 2, 3], [1, 2]) == 3


@pytest.mark.parametrize("views", [1, 3, 4, 5, 7, 9, 10])
def test_an_image_of_so_many_views(views):
    assert choose_grid(*image_size(views), orientation="release").views == views


def test_seven_views_are_the_image_whose_figures_are_known():
    assert image_size(7) == (672, 448)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: image_size(2), "E812"),
        (lambda: shape_of("huge"), "E810"),
        (lambda: build_peer("llama", None, None), "E811"),
        (lambda: Case(SIZES["tiny"], new_tokens=1), "E814"),
        (lambda: Case(SIZES["tiny"], repeats=0), "E814"),
    ],
)
def test_what_cannot_be_is_refused(make, code):
    with pytest.raises(XverseError) as problem:
        make()
    assert problem.value.code == code


def test_goals_compare_in_the_right_direction():
    def row(what: str, who: str, value: float) -> Record:
        return Record(what, who, "s", (value,), floor=0.9 * value)

    rows = [row("first token", OURS, 2.0), row("first token", RELEASE, 4.0)]
    rows += [row("a token after it", OURS, 2.0), row("a token after it", RELEASE, 2.5)]
    met = {goal.name: goal.met for goal in generate.goals(Measured(rows))}
    assert met == {
        "first token: of the release's way": True,
        "first token: of the matrix rate": False,
        "a token after it: times as fast as the release's way": False,
        "a token after it: of the bandwidth": True,
    }
