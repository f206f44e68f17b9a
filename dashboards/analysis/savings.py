"""What waiting teachers saved: their updates, and the arithmetic of these.

Seconds follow whatever else the machine does; these two do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from dashboards.analysis.columns import column_of, metric_column
from switokd import names

# a backward pass takes about twice the multiply-adds of a forward pass: one for the gradient of the
# weights, one for that of the maps. A paused teacher skips it
FORWARD, BACKWARD = 1, 2
SEVERAL_STUDENTS = r"T(?:[2-9]|\d{2,})S"


def paused_shares(trials: pd.DataFrame, teachers: Sequence[str]) -> pd.DataFrame:
    """The share of its steps in which each teacher waited, 0 to 1, a column each; NaN if unknown.

    Older runs do not say it: there it is the expert share of a teacher's only link.
    """
    one_student = ~trials["topology"].str.contains(SEVERAL_STUDENTS, na=True)
    shares = {}
    for name in teachers:
        own_link = column_of(trials, metric_column(names.EXPERT_SHARE, f"{name}-S1"))
        told = column_of(trials, metric_column(names.PAUSED_SHARE, name))
        shares[name] = told.fillna(own_link.where(one_student)).astype(float)
    return pd.DataFrame(shares, index=trials.index)


def multiply_adds_saved(
    paused: pd.DataFrame, multiply_adds: pd.DataFrame, learns: pd.DataFrame
) -> pd.Series:
    """The share of a trial's multiply-adds in training, 0 to 1, that pausing its teachers saved.

    `paused`: of `paused_shares`. `multiply_adds`: of one image through each network, NaN for one
    that a trial does not have. `learns`: whether a network is trained in the trial. NaN where the
    cost of a network is not known, or nothing could wait.
    """
    passes = learns.astype(float) * BACKWARD + FORWARD
    whole = (multiply_adds * passes).sum(axis=1)
    saved = (paused * multiply_adds[paused.columns] * BACKWARD).sum(axis=1, min_count=1)
    complete = multiply_adds.notna() | learns.isna()
    share = saved / whole.where(whole > 0, math.nan)
    return share.where(complete.all(axis=1))
