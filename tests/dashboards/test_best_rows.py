"""The best rows as metrics of the sweep's run."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from mlflow.utils.validation import _validate_metric_name

from dashboards.analysis.best_rows import best_rows

COLUMNS = ["dataset", "topology", "pair", "network", "role", "compared_mean", "compared_difference"]
ROWS = [
    ("digits", "1T1S", "wrn_16_2>resnet20", "S1", "student", 91.0, 2.0),
    ("digits", "1T1S", "wrn_16_2>resnet20", "S1", "student", 93.0, math.nan),
    ("digits", "1T1S", "wrn_16_2>resnet20", "S1", "student", 92.0, 3.0),
    ("digits", "1T1S", "wrn_16_2>resnet20", "T1", "teacher", 99.0, 9.0),
    ("digits", "2T1S", "a+b>c", "S1", "student", 80.0, -1.5),
    ("digits", "1T2S", "a>b+c", "S1", "student", 70.0, 0.5),
    ("digits", "1T2S", "failed>x", "S1", "student", math.nan, math.nan),
    ("digits", "single", "resnet20", "S1", "student", 99.0, 0.0),
]


def test_the_best_of_each_pair_and_its_gain_where_known() -> None:
    found = best_rows(pd.DataFrame(ROWS, columns=COLUMNS))
    assert found == {
        "best_top1/wrn_16_2 to resnet20/S1": 93.0,
        "best_top1/a and b to c/S1": 80.0,
        "best_gain/a and b to c/S1": -1.5,
        "best_top1/a to b and c/S1": 70.0,
        "best_gain/a to b and c/S1": 0.5,
    }
    assert best_rows(pd.DataFrame(columns=COLUMNS)) == {}


def test_several_data_sets_are_told_apart_in_names_that_mlflow_takes() -> None:
    other = ("my_data:make", *ROWS[0][1:5], 50.0, 1.0)
    found = best_rows(pd.DataFrame([*ROWS, other], columns=COLUMNS))
    assert found["best_top1/my_data-make/wrn_16_2 to resnet20/S1"] == 50.0
    assert found["best_top1/digits/wrn_16_2 to resnet20/S1"] == 93.0
    for name in found:
        _validate_metric_name(name)


@pytest.mark.parametrize("pair", ["x>y(z)", "ä>b", "a:b>c"])
def test_any_pair_makes_a_name(pair: str) -> None:
    rows = [("digits", "1T1S", pair, "S1", "student", 1.0, 1.0)]
    for name in best_rows(pd.DataFrame(rows, columns=COLUMNS)):
        _validate_metric_name(name)
