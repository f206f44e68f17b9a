"""The comparison laid out for eyes: one row per resolved trial less its seed, networks side by
side; and every run with its address in MLflow.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pandas as pd

from dashboards.analysis.grouping import networks
from switokd.tracking.ui import VIEW

# what identifies a row; the method first, as that is what is compared
TRIAL_COLUMNS = {
    "variant": "method",
    "temperature": "τ",
    "pair": "pair",
    "dataset": "data set",
    "axes": "further",
    "seeds": "seeds",
}
# of every network: what the comparison is about, and what else there is of it
FIRST_FIELDS = {
    "compared_mean": "top-1",
    "compared_std": "±",
    "compared_difference": "− baseline",
    "compared_p_holm": "p Holm",
}
OTHER_FIELDS = {
    "compared_interval_low": "95 % from",
    "compared_interval_high": "95 % to",
    "compared_p_value": "p",
    "best_mean": "best",
    "last_mean": "last",
    "published_mean": "paper",
    "published_difference": "best − paper",
}
# shares in percent; what is saved is what holds on any machine, so it stands before the time
COST_COLUMNS = {
    "updates_saved": "updates saved",
    "multiply_adds_saved": "multiply-adds saved",
    "expert_share": "expert steps",
    "last_gap": "gap",
    "train_seconds": "seconds",
    "teacher_seconds": "of these the teacher's",
    "time_saved": "time saved",
}
MEANS_OF_LINKS = ("updates_saved", "multiply_adds_saved", "expert_share", "last_gap")
PERCENT_COLUMNS = ("updates saved", "multiply-adds saved", "expert steps", "time saved")


def leaderboard(frame: pd.DataFrame, baseline: str, ui: str) -> pd.DataFrame:
    """One row per group: the best student on top, networks alone last.

    First what the comparison is about (`S1 top-1` of the compared epoch, `S1 − vanilla`) and what
    it cost, then the teachers and all the rest. Columns without any value, and a data set that all
    share, are left out.
    """
    first, others = [
        {field: name.replace("baseline", baseline) for field, name in fields.items()}
        for fields in (FIRST_FIELDS, OTHER_FIELDS)
    ]
    # a network's share and gap are those of its own links: the cohort's are the means of all
    costs = {name: frame.groupby("group")[name].transform("mean") for name in MEANS_OF_LINKS}
    frame = frame.assign(**costs)
    records: dict[int, dict[str, Any]] = {}
    for row in frame.sort_values("network", kind="stable").to_dict("records"):
        record = records.setdefault(row["group"], {})
        if not record:
            record |= {name: row[column] for column, name in TRIAL_COLUMNS.items()}
            record |= {name: row[column] for column, name in COST_COLUMNS.items()}
            record["alone"] = row["topology"] == "single"
            record["runs"] = runs_url(ui, row["experiment_ids"], row["run_ids"])
        fields = (first | others).items()
        record |= {f"{row['network']} {name}": row[field] for field, name in fields}
    table = pd.DataFrame.from_records(list(records.values()))
    if table.empty:
        return table
    table = table.sort_values(["alone", "S1 top-1"], ascending=[True, False], kind="stable")
    for name in PERCENT_COLUMNS:
        table[name] = 100 * table[name]
    networks = sorted(set(frame["network"]))
    students = [network for network in networks if network.startswith("S")]
    teachers = [network for network in networks if network.startswith("T")]
    ordered = [
        *TRIAL_COLUMNS.values(),
        *(f"{network} {name}" for network in students[:1] for name in first.values()),
        *COST_COLUMNS.values(),
        "runs",
        *(f"{network} {name}" for network in students[1:] + teachers for name in first.values()),
        *(f"{network} {name}" for network in students + teachers for name in others.values()),
    ]
    if table["data set"].nunique() == 1:
        ordered.remove("data set")
    table = table[ordered].dropna(axis="columns", how="all")
    shown = [name for name in table if not table[name].eq("").all()]
    return table[shown].reset_index(drop=True)


def run_table(trials: pd.DataFrame, ui: str) -> pd.DataFrame:
    """Every trial run, whatever became of it, with its networks' top-1 and its address."""
    table = trials[["pair", "variant", "temperature", "seed", "status", "experiment"]].copy()
    scores = networks(trials).pivot_table(index="run_id", columns="network", values="compared")
    for network in scores:
        table[f"{network} top-1"] = trials["run_id"].map(scores[network])
    table["started"] = trials["start_time"]
    table["run"] = [
        run_url(ui, experiment, run)
        for experiment, run in zip(trials["experiment_id"], trials["run_id"], strict=True)
    ]
    return table.rename(columns={"variant": "method", "temperature": "τ"})


def run_url(ui: str, experiment_id: str, run_id: str) -> str:
    return f"{ui}/#/experiments/{experiment_id}/runs/{run_id}?{VIEW}"


def runs_url(ui: str, experiment_ids: tuple[str, ...], run_ids: tuple[str, ...]) -> str:
    """The page of one run, or MLflow's comparison of several."""
    if len(run_ids) == 1:
        return run_url(ui, experiment_ids[0], run_ids[0])
    runs = quote(json.dumps(list(run_ids)))
    experiments = quote(json.dumps(sorted(set(experiment_ids))))
    return f"{ui}/#/compare-runs?runs={runs}&experiments={experiments}&{VIEW}"
