"""Means, intervals and tests over seeds; pure functions of numbers and frames.

Accuracies are in percent, differences in percentage points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import (  # Student's t: far quicker than scipy.stats for scalars
    expit,
    logit,
    stdtr,
    stdtrit,
)

CONFIDENCE = 0.95
# over two seeds an interval is 13 standard errors wide: the seeds themselves say more
FEWEST_FOR_INTERVAL = 3


class Summary(NamedTuple):
    """Over the seeds: `std` is the sample's (n - 1); one seed has neither std nor interval."""

    mean: float
    std: float
    low: float
    high: float


class Difference(NamedTuple):
    """A mean difference from a baseline, its interval, and the two-sided p-value of `test`."""

    mean: float
    low: float
    high: float
    p_value: float
    test: str


def summarise(values: Iterable[float]) -> Summary:
    """Mean, standard deviation and Student's 95 % interval of the mean, NaNs left out."""
    known = np.array([value for value in values if not math.isnan(value)])
    if not known.size:
        return Summary(math.nan, math.nan, math.nan, math.nan)
    mean = float(known.mean())
    if known.size < 2:
        return Summary(mean, math.nan, math.nan, math.nan)
    std = float(known.std(ddof=1))
    half = half_width(std / math.sqrt(known.size), known.size - 1)
    return Summary(mean, std, mean - half, mean + half)


def percent_interval(values: Iterable[float]) -> tuple[float, float]:
    """The 95 % interval of a mean percentage, which stays from 0 to 100; NaN below three seeds.

    Student's t on the scale of log odds, with the standard error there by the delta method.
    """
    known = np.array([value for value in values if not math.isnan(value)])
    if known.size < FEWEST_FOR_INTERVAL:
        return math.nan, math.nan
    mean, std = float(known.mean()), float(known.std(ddof=1))
    if not std or not 0 < mean < 100:
        return mean, mean
    share = mean / 100
    error = std / 100 / math.sqrt(known.size) / (share * (1 - share))
    half = half_width(error, known.size - 1)
    low, high = expit(logit(share) - half), expit(logit(share) + half)
    return 100 * float(low), 100 * float(high)


def half_width(standard_error: float, degrees: float) -> float:
    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * standard_error


def difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """How far `values` lie above `baseline`; both by seed.

    Paired over the seeds that both have, if these are two or more: with a common seed both start
    from the same weights and see the same batches. Else Welch's test, if both have two seeds or
    more. Else the difference alone. No p-value either where nothing varies.
    """
    values = {seed: value for seed, value in values.items() if not math.isnan(value)}
    baseline = {seed: value for seed, value in baseline.items() if not math.isnan(value)}
    if not values or not baseline:
        return Difference(math.nan, math.nan, math.nan, math.nan, "")
    common = [seed for seed in values if seed in baseline]
    if len(common) >= 2:
        return paired(np.array([values[seed] - baseline[seed] for seed in common]))
    ours, theirs = np.array([*values.values()]), np.array([*baseline.values()])
    if ours.size >= 2 and theirs.size >= 2:
        return welch(ours, theirs)
    if common:
        ours, theirs = np.array([values[common[0]]]), np.array([baseline[common[0]]])
    return Difference(float(ours.mean() - theirs.mean()), math.nan, math.nan, math.nan, "")


def paired(differences: np.ndarray) -> Difference:
    """Student's t test on the differences of common seeds."""
    count = differences.size
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    return tested(float(differences.mean()), error, count - 1, f"paired t, {count} seeds")


def welch(values: np.ndarray, baseline: np.ndarray) -> Difference:
    """Welch's t test: independent samples, unequal variances."""
    parts = [float(sample.var(ddof=1)) / sample.size for sample in (values, baseline)]
    error = math.sqrt(sum(parts))
    spread = parts[0] ** 2 / (values.size - 1) + parts[1] ** 2 / (baseline.size - 1)
    degrees = sum(parts) ** 2 / spread if spread else math.nan
    name = f"Welch t, {values.size} against {baseline.size} seeds"
    return tested(float(values.mean() - baseline.mean()), error, degrees, name)


def tested(mean: float, error: float, degrees: float, test: str) -> Difference:
    if error <= 1e-12 * max(1.0, abs(mean)):
        return Difference(mean, math.nan, math.nan, math.nan, "")
    half = half_width(error, degrees)
    p_value = 2 * float(stdtr(degrees, -abs(mean) / error))
    return Difference(mean, mean - half, mean + half, p_value, test)


def holm(p_values: pd.Series) -> pd.Series:
    """Holm's step-down adjusted p-values over those that are known; the others stay NaN."""
    ordered = p_values.dropna().sort_values()
    # the smallest of m is multiplied by m, the next by m - 1, ...; none falls below one before it
    factors = np.arange(len(ordered), 0, -1)
    return (ordered * factors).cummax().clip(upper=1.0).reindex(p_values.index)
