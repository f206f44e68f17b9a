"""Hand-computed numbers, and scipy's and statsmodels' own tests as independent references."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from dashboards.analysis.significance import difference, holm, percent_interval, summarise

OURS = pd.Series([92.1, 92.6, 92.4], index=[0, 1, 2])
VANILLA = pd.Series([91.4, 91.5, 91.9], index=[0, 1, 2])


def test_summary_of_four_seeds_by_hand() -> None:
    summary = summarise(pd.Series([1.0, 2.0, 3.0, 4.0]))
    # sqrt(5 / 3), and t(0.975, 3 degrees) = 3.182446
    assert summary.mean == 2.5
    assert summary.std == pytest.approx(1.2909944, abs=1e-7)
    half = 3.182446 * 1.2909944 / 2
    assert (summary.low, summary.high) == pytest.approx((2.5 - half, 2.5 + half), abs=1e-5)


def test_one_seed_has_no_deviation_and_no_interval() -> None:
    summary = summarise(pd.Series([93.0]))
    assert summary.mean == 93.0
    assert all(map(math.isnan, summary[1:]))


def test_missing_seeds_are_left_out_of_the_summary() -> None:
    assert summarise(pd.Series([1.0, math.nan, 3.0])) == summarise(pd.Series([1.0, 3.0]))
    assert all(map(math.isnan, summarise(pd.Series([math.nan]))))


def test_a_percentage_has_an_interval_from_three_seeds_on() -> None:
    assert all(map(math.isnan, percent_interval([48.0, 57.0])))
    assert all(map(math.isnan, percent_interval([48.0, 57.0, math.nan])))
    # deviation 2, on log odds 0.02 / sqrt(3) / (0.5 * 0.5); t(0.975, 2 degrees) = 4.302653
    half = 4.302653 * 0.02 / math.sqrt(3) / 0.25
    odds = math.exp(half)
    expected = (100 / (1 + odds), 100 * odds / (1 + odds))
    assert percent_interval([48.0, 50.0, 52.0]) == pytest.approx(expected, abs=1e-5)


@given(st.lists(st.floats(0, 100), min_size=3, max_size=8))
def test_a_percentages_interval_holds_its_mean_and_stays_in_range(values: list[float]) -> None:
    low, high = percent_interval(values)
    mean = sum(values) / len(values)
    assert 0 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 100


def test_equal_seeds_have_an_interval_of_no_width() -> None:
    assert percent_interval([100.0, 100.0, 100.0]) == (100.0, 100.0)


def test_common_seeds_are_paired() -> None:
    result = difference(OURS, VANILLA.sample(frac=1, random_state=1))
    reference = stats.ttest_rel(OURS, VANILLA)
    interval = reference.confidence_interval(0.95)
    assert result.mean == pytest.approx(0.7666667, abs=1e-6)
    assert result.p_value == pytest.approx(reference.pvalue, rel=1e-10)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), rel=1e-10)
    assert result.test == "paired t, 3 seeds"


def test_only_the_common_seeds_are_paired() -> None:
    more = pd.concat([OURS, pd.Series([50.0], index=[9])])
    assert difference(more, VANILLA) == difference(OURS, VANILLA)


def test_two_common_seeds_are_enough_to_pair() -> None:
    result = difference(OURS.iloc[:2], VANILLA)
    assert result.p_value == pytest.approx(stats.ttest_rel(OURS.iloc[:2], VANILLA.iloc[:2]).pvalue)
    assert result.test == "paired t, 2 seeds"


def test_other_seeds_fall_to_welch() -> None:
    baseline = pd.Series([91.4, 91.5, 91.9, 90.2], index=[10, 11, 12, 13])
    result = difference(OURS, baseline)
    reference = stats.ttest_ind(OURS, baseline, equal_var=False)
    interval = reference.confidence_interval(0.95)
    assert result.p_value == pytest.approx(reference.pvalue, rel=1e-10)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), rel=1e-10)
    assert result.test == "Welch t, 3 against 4 seeds"


def test_one_common_seed_gives_the_difference_alone() -> None:
    result = difference(OURS.loc[[0]], VANILLA)
    assert result.mean == pytest.approx(0.7)
    assert math.isnan(result.p_value)
    assert result.test == ""


def test_a_constant_difference_has_no_p_value() -> None:
    result = difference(VANILLA + 0.5, VANILLA)
    assert result.mean == pytest.approx(0.5)
    assert math.isnan(result.p_value)
    assert math.isnan(result.low)


def test_nothing_to_compare_with_gives_nothing() -> None:
    assert math.isnan(difference(OURS, VANILLA.iloc[:0]).mean)


def test_holm_by_hand() -> None:
    adjusted = holm(pd.Series([0.03, 0.01, math.nan, 0.04]))
    # 0.01 x 3; 0.03 x 2; 0.04 x 1 may not fall below the one before
    np.testing.assert_allclose(adjusted, [0.06, 0.03, math.nan, 0.06])


def test_holm_agrees_with_statsmodels() -> None:
    values = np.random.default_rng(0).random(40) ** 3
    reference = multipletests(values, method="holm")[1]
    np.testing.assert_allclose(holm(pd.Series(values)), reference, rtol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30, unique=True))
def test_holm_is_its_definition(values: list[float]) -> None:
    ranked = sorted(values)
    for value, adjusted in zip(values, holm(pd.Series(values)), strict=True):
        below = [(len(values) - rank) * p for rank, p in enumerate(ranked) if p <= value]
        assert adjusted == pytest.approx(min(1.0, max(below)))
