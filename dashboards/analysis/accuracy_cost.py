"""Accuracy against cost: what students take to train and to use, and which are worth it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dashboards.analysis.comparison import with_networks_alone
from switokd import names

# a column of the comparison, and what it is called
COSTS = {
    "train_seconds": "training seconds, a teacher's included",
    names.PARAMETERS: "parameters",
    names.MULTIPLY_ADDS: "multiply-adds an image",
    names.MILLISECONDS_PER_IMAGE: "milliseconds an image",
}


def known_costs(frame: pd.DataFrame) -> list[str]:
    """The costs in which students of the comparison differ; older runs have seconds alone."""
    rows = student_costs(frame)
    return [cost for cost in COSTS if rows[cost].nunique() > 1]


def student_costs(frame: pd.DataFrame) -> pd.DataFrame:
    """The comparison's rows of students, and of the same networks alone.

    One network takes as long for an image whoever has taught it: its time is the median over all
    of its rows, each of which was measured beside other work.
    """
    rows = with_networks_alone(frame, "student")
    time = names.MILLISECONDS_PER_IMAGE
    same = rows.groupby(["dataset", "model", names.PARAMETERS], dropna=False)[time]
    return rows.assign(**{time: same.transform("median")})


def cost_points(frame: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The rows of `student_costs` whose cost is known.

    Columns are the comparison's, with `cost` and `on_front`: whether no other of the same data set
    is as accurate (the mean of the compared epoch) for less, or more accurate for as little.
    """
    rows = student_costs(frame)
    rows = rows[rows["compared_mean"].notna() & rows[cost].notna()]
    rows = rows.assign(cost=rows[cost].astype(float), on_front=False)
    for _, same_data in rows.groupby("dataset"):
        front = pareto_front(list(same_data["cost"]), list(same_data["compared_mean"]))
        rows.loc[same_data.index, "on_front"] = front
    return rows.reset_index(drop=True)


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[bool]:
    """For each point whether no other costs at most as much and is at least as good, and differs.

    Of equal points all are on the front, or none.
    """
    front: list[bool] = [False] * len(costs)
    best_for_less = float("-inf")
    order = sorted(range(len(costs)), key=lambda place: costs[place])
    start = 0
    while start < len(order):
        same = [place for place in order[start:] if costs[place] == costs[order[start]]]
        best = max(values[place] for place in same)
        for place in same:
            front[place] = values[place] == best and best > best_for_less
        best_for_less = max(best_for_less, best)
        start += len(same)
    return front
