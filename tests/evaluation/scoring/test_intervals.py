"""Intervals: known values of Wilson's, and what must hold of any."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xverse_v.evaluation.scoring.intervals import bootstrap, of_mean, of_ratio, wilson


def test_wilson_against_worked_values():
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(500, 1000) == pytest.approx((0.4691, 0.5309), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_holds_the_share_and_mirrors(case):
    hits, total = case
    low, high = wilson(hits, total)
    assert 0 <= low <= hits / total <= high <= 1
    assert wilson(total - hits, total) == pytest.approx((1 - high, 1 - low))


def test_the_bootstrap_repeats_itself_and_narrows_with_more_groups():
    few, many = [0.3, 0.6, 0.9, 1.0, 0.0] * 4, [0.3, 0.6, 0.9, 1.0, 0.0] * 400
    assert of_mean(few) == of_mean(few)
    assert few != many
    narrow, wide = of_mean(many), of_mean(few)
    assert wide[0] < narrow[0] < 0.56 < narrow[1] < wide[1]
    # The normal approximation: 1.96 * standard deviation / sqrt(n).
    assert narrow[1] - narrow[0] == pytest.approx(2 * 1.96 * 0.3720 / 2000**0.5, rel=0.1)


def test_drawing_whole_groups_is_wider_where_a_groups_values_agree():
    values = [1.0] * 50 + [0.0] * 50
    by_five = [place // 5 for place in range(100)]
    low, high = of_mean(values, by_five)
    plain = of_mean(values)
    assert high - low > 1.5 * (plain[1] - plain[0])


def test_one_group_still_has_an_interval():
    low, high = of_ratio([(3, 4)])
    assert low < 0.75 < high
    assert of_mean([1.0, 1.0], ["same", "same"])[0] < 0.5


def test_a_ratio_of_means_is_bootstrapped_as_one():
    low, high = bootstrap([(8, 6), (7, 9)] * 30, lambda drawn: drawn[:, 1] / drawn[:, 0])
    assert low < 1.0 < high
    with pytest.raises(ValueError, match="at least one group"):
        bootstrap([], lambda drawn: drawn[:, 0])
