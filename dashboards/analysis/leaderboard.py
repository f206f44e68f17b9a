"""The comparison laid out for eyes: one row per resolved trial less its seed, networks side by
side; and every run with its address in MLflow.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pandas as pd

from dashboards.analysis.grouping import networks
from switokd.tracking.address import is_server

# where `make ui` shows a store that has no server of its own
LOCAL_UI = "http://127.0.0.1:5000"

TRIAL_COLUMNS = {
    "dataset": "data set",
    "pair": "pair",
    "topology": "topology",
    "variant": "method",
    "temperature": "τ",
    "axes": "further",
    "seeds": "seeds",
}
NETWORK_FIELDS = {
    "best_mean": "best",
    "best_std": "best ±",
    "last_mean": "last",
    "last_std": "last ±",
    "last_low": "95 % from",
    "last_high": "95 % to",
    "last_difference": "last − baseline",
    "last_p_value": "p",
    "last_p_holm": "p Holm",
    "published_mean": "paper",
    "published_difference": "best − paper",
}
END_COLUMNS = {
    "expert_share": "expert steps",
    "train_seconds": "seconds",
    "time_saved": "time saved",
}


def leaderboard(frame: pd.DataFrame, baseline: str, ui: str) -> pd.DataFrame:
    """One row per group: the best student on top, networks alone last.

    Students' columns come first (`S1 last`, in percent). Columns without any value are left out.
    `expert steps` and `time saved` are in percent.
    """
    fields = {field: name.replace("baseline", baseline) for field, name in NETWORK_FIELDS.items()}
    # a network's share is that of its own links: the cohort's is the mean of all
    share = frame.groupby("group")["expert_share"].transform("mean")
    frame = frame.assign(expert_share=share)
    records: dict[int, dict[str, Any]] = {}
    for row in frame.sort_values("network", kind="stable").to_dict("records"):
        record = records.setdefault(row["group"], {})
        if not record:
            record |= {name: row[column] for column, name in TRIAL_COLUMNS.items()}
            record |= {name: row[column] for column, name in END_COLUMNS.items()}
            record["runs"] = runs_url(ui, row["experiment_ids"], row["run_ids"])
        record |= {f"{row['network']} {name}": row[field] for field, name in fields.items()}
    table = pd.DataFrame.from_records(list(records.values()))
    if table.empty:
        return table
    table["expert steps"] = 100 * table["expert steps"]
    table["time saved"] = 100 * table["time saved"]
    own = [name for name in table if str(name)[:1] in "ST" and str(name)[1:2].isdigit()]
    ordered = sorted(own, key=lambda name: str(name).partition(" ")[0])
    table = table[[*TRIAL_COLUMNS.values(), *ordered, *END_COLUMNS.values(), "runs"]]
    table = table.dropna(axis="columns", how="all")
    table = table.loc[:, [name for name in table if not table[name].eq("").all()]]
    order = table.assign(alone=table["topology"] == "single")
    order = order.sort_values(["alone", "S1 last"], ascending=[True, False], kind="stable")
    return table.loc[order.index].reset_index(drop=True)


def run_table(trials: pd.DataFrame, ui: str) -> pd.DataFrame:
    """Every trial run, whatever became of it, with its students' last top-1 and its address."""
    table = trials[["pair", "variant", "temperature", "seed", "status", "experiment"]].copy()
    scores = networks(trials).pivot_table(index="run_id", columns="network", values="last")
    for network in scores:
        table[f"{network} last"] = trials["run_id"].map(scores[network])
    table["started"] = trials["start_time"]
    table["run"] = [
        run_url(ui, experiment, run)
        for experiment, run in zip(trials["experiment_id"], trials["run_id"], strict=True)
    ]
    return table.rename(columns={"variant": "method", "temperature": "τ"})


def ui_address(uri: str) -> str:
    """Where MLflow's UI shows the store: the server itself, else where `make ui` would."""
    return uri.rstrip("/") if is_server(uri) else LOCAL_UI


def run_url(ui: str, experiment_id: str, run_id: str) -> str:
    return f"{ui}/#/experiments/{experiment_id}/runs/{run_id}"


def runs_url(ui: str, experiment_ids: tuple[str, ...], run_ids: tuple[str, ...]) -> str:
    """The page of one run, or MLflow's comparison of several."""
    if len(run_ids) == 1:
        return run_url(ui, experiment_ids[0], run_ids[0])
    runs = quote(json.dumps(list(run_ids)))
    experiments = quote(json.dumps(sorted(set(experiment_ids))))
    return f"{ui}/#/compare-runs?runs={runs}&experiments={experiments}"
