"""How far the running trials are, from what they have logged; why others failed."""

from __future__ import annotations

import pandas as pd

from dashboards.analysis.columns import TAGS, column_of
from dashboards.analysis.labels import trial_name
from switokd import names

STUDENT_TOP1 = names.metric(names.VAL_TOP1, "S1")
COLUMNS = [
    *("trial", "seed", "epoch", "epochs", "progress", "S1 top-1", "elapsed_seconds"),
    *("left_seconds", "silent_seconds"),
]


def progress_table(
    trials: pd.DataFrame, histories: pd.DataFrame, now: pd.Timestamp
) -> pd.DataFrame:
    """One row per running trial: see COLUMNS; progress from 0 to 1, top-1 in percent.

    `histories` holds the running trials' points of STUDENT_TOP1. The time left comes from the pace
    of the epochs so far, and is unknown before the second.
    """
    running = trials[trials["status"] == "RUNNING"]
    records = []
    for _, trial in running.iterrows():
        epochs = int(pd.to_numeric(trial["params.recipe.epochs"]))
        points = histories[histories["run_id"] == trial["run_id"]]
        student = points[points["metric"] == STUDENT_TOP1].sort_values("step")
        epoch = 0 if student.empty else int(student["step"].iloc[-1])
        news = trial["start_time"] if student.empty else student["time"].iloc[-1]
        record = {
            "trial": f"{trial['pair']} {trial_name(trial)}",
            "seed": trial["seed"],
            "epoch": epoch,
            "epochs": epochs,
            "progress": epoch / epochs,
            "S1 top-1": float("nan") if student.empty else float(student["value"].iloc[-1]),
            "elapsed_seconds": (now - trial["start_time"]).total_seconds(),
            "left_seconds": seconds_left(student, epochs, now),
            "silent_seconds": (now - news).total_seconds(),
        }
        records.append(record)
    return pd.DataFrame.from_records(records, columns=COLUMNS)


def seconds_left(student: pd.DataFrame, epochs: int, now: pd.Timestamp) -> float:
    """Seconds to the end at the mean pace between the first epoch's end and the last one's."""
    if len(student) < 2:
        return float("nan")
    first, last = student.iloc[0], student.iloc[-1]
    pace = (last["time"] - first["time"]).total_seconds() / (last["step"] - first["step"])
    since = (now - last["time"]).total_seconds()
    return max(0.0, float((epochs - last["step"]) * pace - since))


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
