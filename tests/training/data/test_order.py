"""The order of samples: a permutation, even, and a function of the seed and the position alone."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xverse_v.training.data.order import Order, permuted


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 700), seed=st.integers(0, 2**40))
def test_it_is_a_permutation(size, seed):
    assert sorted(permuted(index, size, (seed,)) for index in range(size)) == list(range(size))


def test_it_works_on_billions_and_refuses_what_lies_outside():
    size = 2_100_000_000
    places = [permuted(index, size, (7,)) for index in range(2000)]
    assert len(set(places)) == 2000
    assert all(0 <= place < size for place in places)
    # A uniform sample of 2000 has a mean within 5 standard errors of the middle.
    assert abs(sum(places) / 2000 - size / 2) < 5 * size / 12**0.5 / 2000**0.5
    with pytest.raises(IndexError):
        permuted(size, size, (7,))


def test_neighbours_are_torn_apart():
    size = 10_000
    places = [permuted(index, size, (1,)) for index in range(size)]
    close = sum(abs(a - b) < size // 100 for a, b in itertools.pairwise(places))
    assert close < 0.04 * size  # about 2 % by chance


def test_another_seed_or_epoch_is_another_order():
    one, other = Order([100], [1.0], seed=1), Order([100], [1.0], seed=2)
    first = [one.at(p) for p in range(100)]
    assert first != [other.at(p) for p in range(100)]
    assert first != [one.at(p) for p in range(100, 200)]
    assert sorted(first) == sorted(one.at(p) for p in range(100, 200))
    assert first == [Order([100], [1.0], seed=1).at(p) for p in range(100)]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    seed=st.integers(0, 99),
    window=st.sampled_from([None, 4, 16]),
)
def test_with_weights_of_one_a_pass_holds_every_sample_once(sizes, seed, window):
    order = Order(sizes, [1.0] * len(sizes), seed, window)
    seen = sorted(order.at(position) for position in range(order.per_pass))
    assert seen == [(source, index) for source, size in enumerate(sizes) for index in range(size)]


def test_weights_are_shares_and_no_sample_comes_twice_before_all_came_once():
    order = Order([30, 10, 200], [1.0, 2.5, 0.25], seed=3)
    assert order.places == (30, 25, 50)
    picks = [order.at(position) for position in range(4 * order.per_pass)]
    counts = {pick: picks.count(pick) for pick in picks}
    assert {counts[0, index] for index in range(30)} == {4}
    assert {counts[1, index] for index in range(10)} == {10}
    assert {counts[2, index] for index in range(200)} == {1}


def test_sources_are_spread_evenly():
    order = Order([300, 100], [1.0, 1.0], seed=0)
    for start in range(0, 400, 40):
        picks = [order.at(position)[0] for position in range(start, start + 40)]
        assert 9 <= picks.count(1) <= 11


def test_a_small_weight_is_not_never_and_zero_is():
    order = Order([10, 3, 5], [1.0, 0.01, 0.0], seed=0)
    picks = {order.at(position)[0] for position in range(order.per_pass)}
    assert picks == {0, 1}
    with pytest.raises(ValueError, match="nothing to order"):
        Order([3], [0.0], seed=0)


def test_a_window_keeps_reads_together():
    order = Order([1000, 1000], [1.0, 1.0], seed=0, window=50)
    first = [index for source, index in (order.at(position) for position in range(100)) if source == 0]
    assert len({index // 50 for index in first}) == 1
    assert first != sorted(first)
