"""The best row of each pair as metrics of a sweep's run, to sort and plot sweeps by in MLflow."""

from __future__ import annotations

import re

import pandas as pd

# of the student's network in a pair, by the comparison's own rule for the epoch
BEST_TOP1, BEST_GAIN = "best_top1", "best_gain"
# MLflow takes neither in a metric's name; pairs that differ in them alone must differ in others
SIDES, NEIGHBOURS = (">", " to "), ("+", " and ")
NOT_IN_NAMES = re.compile(r"[^\w\-. /]+")


def best_rows(frame: pd.DataFrame) -> dict[str, float]:
    """`best_top1/wrn_16_2 to resnet20/S1` of each pair's student: the highest mean that any
    method reached there, in percent, and as `best_gain/...` how far it is above the baseline.

    `frame`: `comparison.comparison_frame`. A gain that is not known is left out.
    """
    found: dict[str, float] = {}
    students = frame[(frame["topology"] != "single") & (frame["role"] == "student")]
    students = students[students["compared_mean"].notna()]
    several = students["dataset"].nunique() > 1
    for (dataset, pair, network), rows in students.groupby(["dataset", "pair", "network"]):
        best = rows.sort_values("compared_mean", kind="stable").iloc[-1]
        parts = [dataset, pair, network] if several else [pair, network]
        which = "/".join(map(str, parts)).replace(*SIDES).replace(*NEIGHBOURS)
        which = NOT_IN_NAMES.sub("-", which)
        found[f"{BEST_TOP1}/{which}"] = float(best["compared_mean"])
        if pd.notna(best["compared_difference"]):
            found[f"{BEST_GAIN}/{which}"] = float(best["compared_difference"])
    return found
