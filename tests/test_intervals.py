from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivebyword.evaluate.intervals import (
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_ratio_difference,
    mcnemar,
    paired_difference,
    wilson,
)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        # The figures of facts/safety.md: 94 % of 100, 300 and 600.
        (94, 100, 0.875, 0.972),
        (282, 300, 0.907, 0.962),
        (564, 600, 0.918, 0.956),
        # Newcombe 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_published_figures(k, n, low, high):
    rate = wilson(k, n)
    tolerance = 0.0006 if n in (100, 300, 600) else 0.0001
    assert rate.low == pytest.approx(low, abs=tolerance)
    assert rate.high == pytest.approx(high, abs=tolerance)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_rate_stays_in_range_and_mirrors(counts):
    k, n = counts
    rate, mirrored = wilson(k, n), wilson(n - k, n)
    assert 0.0 <= rate.low <= rate.rate <= rate.high <= 1.0
    assert rate.low == pytest.approx(1.0 - mirrored.high, abs=1e-12)


@given(st.integers(1, 50), st.integers(2, 20))
def test_more_scenes_narrow_the_interval(n, times):
    few, many = wilson(n // 2, n), wilson(n // 2 * times, n * times)
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize("n", [10, 60])
@pytest.mark.parametrize("p", [0.05, 0.5, 0.94])
def test_wilson_covers_about_95_percent(n, p):
    covered = 0.0
    for k in range(n + 1):
        rate = wilson(k, n)
        if rate.low <= p <= rate.high:
            covered += comb(n, k) * p**k * (1 - p) ** (n - k)
    assert covered > 0.89


def test_of_nothing_nothing_is_known():
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
    assert bootstrap_mean(np.zeros(0)).n == 0
    assert bootstrap_ratio(np.zeros(3), np.zeros(3)).high == 1.0
    assert paired_difference(np.zeros(0), np.zeros(0)).p_value == 1.0
    assert bootstrap_ratio_difference(np.zeros(2), np.zeros(2), np.zeros(2), np.ones(2)).low == -1.0


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(k, n):
    with pytest.raises(ValueError, match="is no count"):
        wilson(k, n)


def test_a_mean_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_mean(np.array([1.0, np.nan]))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=2, max_size=60))
def test_a_bootstrap_interval_holds_the_mean_and_repeats(values):
    array = np.array(values)
    mean = bootstrap_mean(array)
    assert mean.low - 1e-9 <= mean.mean <= mean.high + 1e-9
    assert mean == bootstrap_mean(array)


def test_bootstrap_agrees_with_the_normal_interval_on_many_values():
    values = np.random.default_rng(1).normal(50, 10, 1000)
    mean = bootstrap_mean(values)
    assert mean.high - mean.low == pytest.approx(2 * 1.96 * 10 / 1000**0.5, rel=0.1)


def test_things_counted_within_episodes_vary_with_the_episodes():
    # 40 episodes of 100 steps, each all right or all wrong: the sample size is 40, not 4000.
    good = (np.arange(40) % 2 == 0).astype(float)
    rate = bootstrap_ratio(good * 100, np.full(40, 100.0))
    assert rate.rate == 0.5
    assert rate.high - rate.low > 0.2


def test_a_perfect_count_keeps_an_open_side():
    rate = bootstrap_ratio(np.full(20, 50.0), np.full(20, 50.0))
    assert (rate.rate, rate.high) == (1.0, 1.0)
    assert rate.low == pytest.approx(wilson(20, 20).low)
    assert bootstrap_ratio(np.zeros(20), np.full(20, 50.0)).high == pytest.approx(wilson(0, 20).high)


@pytest.mark.parametrize(
    ("a", "b", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (1, 9, 0.021484375), (9, 1, 0.021484375)]
)
def test_mcnemar_is_the_exact_binomial_test(a, b, p):
    assert mcnemar(a, b) == pytest.approx(p)


def test_paired_difference_uses_the_pairs():
    rng = np.random.default_rng(3)
    hard = rng.random(200) < 0.5
    a, b = (~hard).astype(float), (~hard).astype(float)
    b[:20] = 0.0
    found = paired_difference(a, b)
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.low > 0.0
    assert found.p_value < 0.01
    assert found.n == 200
    assert paired_difference(b, a).difference == pytest.approx(-found.difference)


def test_paired_difference_needs_the_same_scenes():
    with pytest.raises(ValueError, match="same scenes"):
        paired_difference(np.zeros(3), np.zeros(4))


def test_ratio_difference_subtracts_what_happens_anyway():
    n = np.full(100, 2.0)
    found = bootstrap_ratio_difference(np.full(100, 2.0), n, (np.arange(100) % 2).astype(float) * 2, n)
    assert found.mean == pytest.approx(0.5)
    assert 0.35 < found.low < 0.5 < found.high < 0.65
