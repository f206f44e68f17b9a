"""What the gap did on the way: timelines of links, from windows or from single steps.

A frame of points has one row per run, link and window: `run_id link step gap threshold expert
would_be_expert`, `step` the window's last, gap and threshold from 0 to 2, `expert` the share of its
steps in expert mode, `would_be_expert` of those in which a switch would have been, as far as the
run recorded it.
"""

from __future__ import annotations

import pandas as pd

from dashboards.analysis.columns import metric_column
from switokd import names

QUANTITIES = (*names.TIMELINE, names.WOULD_BE_EXPERT)
POINT_COLUMNS = ["run_id", "link", "step", *QUANTITIES]


def links_of(trials: pd.DataFrame) -> list[str]:
    """The links that any of the trials has, `T1-S1` first."""
    prefix = metric_column(names.GAP, "")
    has = trials.columns[trials.notna().any()] if len(trials) else trials.columns
    return sorted(str(name).removeprefix(prefix) for name in has if str(name).startswith(prefix))


def window_points(histories: pd.DataFrame) -> pd.DataFrame:
    """Points from the histories of `gap/T1-S1`, `threshold/T1-S1`, `expert/T1-S1`."""
    split = histories["metric"].str.split("/", n=1, expand=True).reindex(columns=[0, 1])
    named = histories.assign(quantity=split[0], link=split[1])
    named = named[named["quantity"].isin(QUANTITIES)]
    wide = named.pivot_table(
        index=["run_id", "link", "step"], columns="quantity", values="value", aggfunc="last"
    )
    return wide.reset_index().reindex(columns=POINT_COLUMNS)


def step_points(
    timeline: pd.DataFrame, run_id: str, link: str, first: int, last: int, limit: int
) -> pd.DataFrame:
    """Points from the steps `first` to `last` of a complete timeline: single steps where these are
    at most `limit`, else that many windows."""
    teacher, _, student = link.partition("-")
    chosen = timeline["step"].between(first, last) & (timeline["teacher"] == teacher)
    rows = timeline[chosen & (timeline["student"] == student)]
    nearer = rows["teacher_distance"] < rows["student_distance"]
    rows = rows.assign(
        run_id=run_id,
        link=link,
        expert=rows["expert"].astype(float),
        would_be_expert=(nearer & (rows["gap"] > rows["threshold"])).astype(float),
    )
    # an older file lacks what was not recorded then
    return resampled(rows.reindex(columns=POINT_COLUMNS), limit)


def resampled(points: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most `limit` points per run and link: means over equal windows, at their last step."""
    lines = ["run_id", "link"]
    points = points.sort_values([*lines, "step"], kind="stable")
    sizes = points.groupby(lines)["step"].transform("size")
    if points.empty or sizes.max() <= limit:
        return points.reset_index(drop=True)
    window = points.groupby(lines).cumcount() // -(-sizes // limit)
    merged = points.groupby([*lines, window.rename("window")]).agg(
        {"step": "last"} | dict.fromkeys(QUANTITIES, "mean")
    )
    return merged.reset_index()[POINT_COLUMNS]


def averaged(points: pd.DataFrame, groups: pd.Series) -> pd.DataFrame:
    """Means over runs of one group at each step, with `gap_std` and `runs`.

    `groups` gives a run's group by run id; a group's points carry it as their `run_id`. Steps that
    not all runs of a group have are left out: a mean over other runs is another mean.
    """
    named = points.assign(run_id=points["run_id"].map(groups))
    keys = ["run_id", "link", "step"]
    means = named.groupby(keys)[list(QUANTITIES)].mean()
    means["gap_std"] = named.groupby(keys)["gap"].std()
    means["runs"] = named.groupby(keys).size()
    means = means.reset_index()
    members = points.assign(group=named["run_id"]).groupby(["group", "link"])["run_id"].nunique()
    expected = members.rename_axis(["run_id", "link"]).rename("members").reset_index()
    means = means.merge(expected)
    complete = means["runs"] == means["members"]
    return means[complete].drop(columns="members").reset_index(drop=True)


def accuracy_points(
    histories: pd.DataFrame, trials: pd.DataFrame, steps: pd.Series
) -> pd.DataFrame:
    """Accuracy per epoch, placed on the axis of steps: `run_id network epoch step value` (percent).

    `steps` gives a run's last step by run id; an epoch's place is its last step.
    """
    prefix = names.metric(names.VAL_TOP1, "")
    rows = histories[histories["metric"].str.startswith(prefix)]
    epochs = pd.to_numeric(trials.set_index("run_id")["params.recipe.epochs"])
    reached = rows.groupby("run_id")["step"].max()
    running = trials.set_index("run_id")["status"] == "RUNNING"
    # while a trial runs, its last step belongs to an epoch that is not over
    epochs = epochs.where(~running, reached + 0.5)
    per_epoch = rows["run_id"].map(steps / epochs.reindex(steps.index))
    return pd.DataFrame(
        {
            "run_id": rows["run_id"],
            "network": rows["metric"].str.removeprefix(prefix),
            "epoch": rows["step"],
            "step": rows["step"] * per_epoch,
            "value": rows["value"],
        }
    ).reset_index(drop=True)
