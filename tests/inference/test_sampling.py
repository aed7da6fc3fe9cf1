"""Sampling: the settings refuse nonsense, the numbers equal transformers' own, the draw is seeded and independent."""

import pytest
import torch
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from xverse_v.errors import XverseError
from xverse_v.inference.sampling import (
    SamplingSettings,
    choose,
    draw,
    new_generator,
    penalise,
    sorted_distribution,
    token_logprobs,
    with_options,
)

BAD = [
    ("max_new_tokens", 0),
    ("max_new_tokens", 1.5),
    ("max_new_tokens", True),
    ("temperature", -0.1),
    ("temperature", float("nan")),
    ("temperature", float("inf")),
    ("temperature", "hot"),
    ("top_p", 0.0),
    ("top_p", 1.01),
    ("top_k", -1),
    ("repetition_penalty", 0.0),
    ("seed", -1),
    ("seed", 2**63),
    ("logprobs", 101),
    ("stop", ("",)),
    ("stop", (3,)),
]


def some_logits(rows: int, seed: int = 0, width: int = 50) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_setting_is_refused_with_its_name_and_value(name, value):
    with pytest.raises(XverseError) as caught:
        SamplingSettings(**{name: value})
    assert caught.value.code == "E101"
    assert caught.value.facts["name"] == name
    assert repr(value)[1:-1] in caught.value.text("en")


def test_the_edges_of_each_setting_are_allowed():
    SamplingSettings(max_new_tokens=1, temperature=0, top_p=1, top_k=0, seed=2**63 - 1, logprobs=100)
    assert SamplingSettings(stop="END").stop == ("END",)
    assert SamplingSettings(stop=["a", "b"]).stop == ("a", "b")


def test_an_unknown_option_is_refused_with_the_nearest_name():
    with pytest.raises(XverseError) as caught:
        with_options(SamplingSettings(), {"temprature": 1.0})
    assert caught.value.code == "E102"
    assert caught.value.facts["suggestion"] == "temperature"


def test_options_replace_only_what_is_given():
    base = SamplingSettings(top_k=7, seed=5)
    assert with_options(base, {"seed": 6}) == SamplingSettings(top_k=7, seed=6)


def test_the_penalty_equals_transformers_on_the_generated_ids():
    logits, generated = some_logits(3), torch.tensor([[1, 4, 4], [9, 2, 30], [0, 0, 0]])
    seen = torch.zeros(3, 50, dtype=torch.bool).scatter(1, generated, True)
    expected = RepetitionPenaltyLogitsProcessor(1.3)(generated, logits.clone())
    assert torch.equal(penalise(logits, seen, torch.full((3,), 1.3)), expected)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.7, 0, 1.0), (1.0, 5, 1.0), (1.3, 0, 0.6), (0.9, 12, 0.8)]
)
def test_the_distribution_equals_transformers_warpers(temperature, top_k, top_p):
    logits = some_logits(4, seed=3)
    expected = TemperatureLogitsWarper(temperature)(None, logits.double())
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    rows = (torch.full((4,), temperature), torch.full((4,), top_k), torch.full((4,), top_p))
    ids, probabilities = sorted_distribution(logits, *rows)
    ours = torch.zeros(4, 50, dtype=torch.float64).scatter(1, ids, probabilities)
    # The temperature is a float32 of the batch, hence not to the last bit.
    torch.testing.assert_close(ours, torch.softmax(expected, -1), rtol=0, atol=1e-7)


def test_a_very_small_top_p_leaves_the_likeliest_token():
    logits = some_logits(1)
    ids, probabilities = sorted_distribution(
        logits, torch.ones(1), torch.zeros(1, dtype=torch.long), torch.tensor([1e-9])
    )
    assert ids[0, 0] == logits.argmax()
    assert probabilities[0].tolist() == [1.0] + [0.0] * 49


def test_the_draw_follows_the_probabilities():
    """Evenly spaced numbers in [0, 1) must pick each token as often as its probability says."""
    ids = torch.tensor([[7, 3, 5, 1]])
    probabilities = torch.tensor([[0.5, 0.25, 0.25, 0.0]], dtype=torch.float64)
    uniform = torch.arange(100, dtype=torch.float64) / 100
    drawn = draw(ids.expand(100, -1), probabilities.expand(100, -1), uniform)
    assert [int((drawn == token).sum()) for token in (7, 3, 5, 1)] == [50, 25, 25, 0]


def test_rounding_of_the_sum_never_draws_a_cut_token():
    probabilities = torch.tensor([[0.1] * 10 + [0.0]], dtype=torch.float64)
    assert draw(torch.arange(11)[None], probabilities, torch.tensor([1.0], dtype=torch.float64)).item() == 9


def test_greedy_takes_the_first_of_equal_logits():
    logits = torch.tensor([[0.0, 2.0, 2.0, 1.0]])
    assert choose(logits, [SamplingSettings()], None, [new_generator(0)]).item() == 1


def test_a_row_draws_the_same_whatever_its_neighbours_are():
    settings = [
        SamplingSettings(temperature=1.0, seed=1),
        SamplingSettings(),
        SamplingSettings(temperature=0.5, top_k=9, top_p=0.9, seed=2, repetition_penalty=1.4),
        SamplingSettings(temperature=2.0, seed=1),
    ]
    logits, seen = some_logits(4, seed=8), some_logits(4, seed=9) > 1
    alone = []
    for row, one in enumerate(settings):
        generator = new_generator(one.seed)
        steps = [choose(logits[row : row + 1], [one], seen[row : row + 1], [generator]).item() for _ in range(20)]
        alone.append(steps)
    generators = [new_generator(one.seed) for one in settings]
    together = [choose(logits, settings, seen, generators).tolist() for _ in range(20)]
    assert [list(column) for column in zip(*together, strict=True)] == alone
    assert len(set(alone[3])) > 3, "the sampled row never varied, so this test shows nothing"


def test_a_greedy_row_leaves_its_generator_alone():
    generator = new_generator(4)
    before = generator.get_state()
    choose(some_logits(1), [SamplingSettings()], None, [generator])
    assert torch.equal(before, generator.get_state())


def test_logprobs_are_those_of_the_raw_logits():
    logits = some_logits(1)[0]
    chosen, top = token_logprobs(logits, 17, 3)
    expected = torch.log_softmax(logits, -1)
    assert chosen == pytest.approx(expected[17].item())
    assert [token for token, _ in top] == expected.argsort(descending=True)[:3].tolist()
    assert [value for _, value in top] == pytest.approx(expected.sort(descending=True).values[:3].tolist())
