"""What was swept, and how a student's accuracy answers to it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dashboards.analysis.columns import PARAMS, columns_of
from dashboards.analysis.grouping import finished, networks
from dashboards.analysis.significance import percent_interval, summarise

# more at once are not told apart
MOST_LINES = 5
POINT_COLUMNS = [
    *("x", "method", "line", "mean", "low", "high", "seeds", "values", "compared_epoch"),
]


def student_rows(trials: pd.DataFrame) -> pd.DataFrame:
    """The students of finished cohorts (`grouping.networks`), with a column per swept key."""
    rows = networks(trials)
    rows = rows[(rows["role"] == "student") & (rows["topology"] != "single")]
    parameters = finished(trials).set_index("run_id")
    columns = {
        column.removeprefix(PARAMS): parameters[column].reindex(rows["run_id"]).to_numpy()
        for column in columns_of(parameters, PARAMS)
        if column not in ("params.temperature", "params.dataset", "params.method", "params.seed")
    }
    return rows.reset_index(drop=True).assign(**columns)


def swept_keys(rows: pd.DataFrame) -> list[str]:
    """The keys that take several values in one pair (or one method, for a method's settings)."""
    keys = []
    for column in ["temperature", *sorted(str(column) for column in rows if "." in str(column))]:
        scope = [rows["dataset"], rows["pair"]]
        if column.startswith("method."):
            scope.append(rows["method"])
        if (rows[column].groupby(scope).nunique() > 1).any():
            keys.append(column)
    return keys


def sensitivity_points(rows: pd.DataFrame, axis: str, keys: Sequence[str]) -> pd.DataFrame:
    """Statistics over seeds against one swept key: see POINT_COLUMNS; accuracies in percent.

    `rows` are those of `student_rows`, `keys` all swept ones: those beside the axis that vary
    within a method and pair split its line. A line of a single point is left out.
    """
    by_setting = axis.startswith("method.")
    lines = rows["method" if by_setting else "variant"] + " · " + rows["pair"]
    if (rows.groupby("pair")["network"].nunique() > 1).any():
        lines = lines + " " + rows["network"]
    for key in keys:
        # the variant names the method's settings already
        if key == axis or (key.startswith("method.") and not by_setting):
            continue
        values = rows[key].astype(str)
        varies = values.groupby(lines).transform("nunique") > 1
        name = "τ" if key == "temperature" else key
        lines = lines + (f" {name}=" + values).where(varies, "")
    records = []
    for (method, line, x), group in rows.assign(line=lines).groupby(["method", "line", axis]):
        scores = tuple(group["compared"])
        interval = percent_interval(scores)
        mean, epoch = summarise(scores).mean, group["compared_epoch"].iloc[0]
        records.append((x, method, line, mean, *interval, len(group), scores, epoch))
    points = pd.DataFrame.from_records(records, columns=POINT_COLUMNS)
    several = points.groupby("line")["x"].transform("nunique") > 1
    return points[several].reset_index(drop=True)


def lines_of(points: pd.DataFrame) -> list[str]:
    """The lines of `sensitivity_points`, the one with the highest mean first."""
    best = points.groupby("line")["mean"].max()
    return list(best.sort_values(ascending=False, kind="stable").index)
