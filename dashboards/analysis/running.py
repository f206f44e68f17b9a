"""How far the running trials are, from what they have logged; why others failed."""

from __future__ import annotations

import pandas as pd

from dashboards.analysis.columns import TAGS, column_of, columns_of, metric_column
from dashboards.analysis.labels import trial_name
from switokd import names

STUDENT_TOP1 = names.metric(names.VAL_TOP1, "S1")
COLUMNS = [
    *("trial", "seed", "epoch", "epochs", "progress", "S1 top-1", "curve", "measured_on"),
    *("gap", "expert", "taken_over", "elapsed_seconds", "left_seconds", "silent_seconds"),
]


def progress_table(
    trials: pd.DataFrame, histories: pd.DataFrame, now: pd.Timestamp
) -> pd.DataFrame:
    """One row per running trial: see COLUMNS; progress and expert from 0 to 1, top-1 in percent.

    `histories` holds the running trials' points of STUDENT_TOP1, `curve` their values. Gap and
    expert are those of the last window, means over the links. A trial that goes on from a shorter
    one has that one's points, from before its own start: `taken_over` counts these epochs, and no
    time is counted before the start. The time left is unknown before the second epoch, and does
    not shrink while an epoch takes longer than the others.
    """
    running = trials[trials["status"] == "RUNNING"]
    gaps = columns_of(running, metric_column(names.GAP, ""))
    experts = columns_of(running, metric_column(names.EXPERT, ""))
    records = []
    for _, trial in running.iterrows():
        epochs = int(pd.to_numeric(trial["params.recipe.epochs"]))
        points = histories[histories["run_id"] == trial["run_id"]]
        student = points[points["metric"] == STUDENT_TOP1].sort_values("step")
        epoch = 0 if student.empty else int(student["step"].iloc[-1])
        start = trial["start_time"]
        news = start if student.empty else max(start, student["time"].iloc[-1])
        silent = (now - news).total_seconds()
        pace = seconds_per_epoch(student, start)
        held_out = float(trial.get("params.recipe.holdout") or 0) > 0
        record = {
            "trial": f"{trial['pair']} {trial_name(trial)}",
            "seed": trial["seed"],
            "epoch": epoch,
            "epochs": epochs,
            "progress": epoch / epochs,
            "S1 top-1": float("nan") if student.empty else float(student["value"].iloc[-1]),
            "curve": student["value"].tolist(),
            "measured_on": "hold-out" if held_out else "test set",
            "gap": trial[gaps].astype(float).mean(),
            "expert": trial[experts].astype(float).mean(),
            "taken_over": int((student["time"] < start).sum()),
            "elapsed_seconds": (now - start).total_seconds(),
            "left_seconds": (epochs - epoch) * pace - min(silent, pace),
            "silent_seconds": silent,
        }
        records.append(record)
    return pd.DataFrame.from_records(records, columns=COLUMNS)


def seconds_per_epoch(student: pd.DataFrame, start: pd.Timestamp) -> float:
    """The median time from one epoch's end to the next one's; NaN before there are two.

    A trial's own epochs count before those taken over. The median, because one of them may hold
    the time in which a stopped trial waited to be resumed.
    """
    own = student[student["time"] >= start]
    for points in (own, student[student["time"] < start]):
        if len(points) > 1:
            seconds = points["time"].diff().dt.total_seconds() / points["step"].diff()
            return float(seconds.median())
    return float("nan")


def failures(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per failed trial, with the reason that it left."""
    failed = trials[trials["status"] == "FAILED"]
    reasons = column_of(failed, TAGS + names.FAILURE).fillna("no reason was left")
    labels = [f"{trial['pair']} {trial_name(trial)}" for _, trial in failed.iterrows()]
    return pd.DataFrame(
        {
            "trial": labels,
            "seed": failed["seed"],
            "reason": reasons,
            "experiment_id": failed["experiment_id"],
            "run_id": failed["run_id"],
        }
    ).reset_index(drop=True)
