"""The comparison of teacher-student pairs: one row per network of each resolved trial less seed.

`comparison_frame` is what the terminal table, the pages, the report and the CSV all show.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from dashboards.analysis.columns import TAGS, columns_of
from dashboards.analysis.grouping import COST_OF_AN_IMAGE, finished, networks
from dashboards.analysis.published import with_published
from dashboards.analysis.significance import (
    Difference,
    Summary,
    difference,
    holm,
    percent_interval,
    summarise,
)
from switokd import names
from switokd.methods.settings import SETTINGS, MethodSettings

EPOCHS = ("best", "last")
# the one of the two that a row's differences are of: best where a hold-out chose it, else last
COMPARED = "compared"
COMPARED_FIELDS = [
    *Summary._fields,
    *("values", "interval_low", "interval_high"),
    *("difference", "difference_low", "difference_high", "p_value", "p_holm", "test"),
]
MEANS = (
    *("expert_share", "updates_saved", "multiply_adds_saved", "last_gap"),
    *("train_seconds", "teacher_seconds"),
    *COST_OF_AN_IMAGE,
)
BASELINE = "vanilla"
# no teacher waits in it: what the switch saves is measured against this
ALWAYS_TRAINING = "dml"

Row = tuple[int, str]
STATUS_NOTES = {
    "RUNNING": "still running",
    "SCHEDULED": "not started",
    "FAILED": "failed",
    "KILLED": "stopped",
}
SCHEDULER_NOTES = {
    names.STOPPED: "ended early by a scheduler, and compared by its last epoch",
    names.CHANGES: "with settings that changed on the way (population-based training), called by "
    "the first ones",
}
VERSIONS = TAGS + names.VERSION_PREFIX

GROUP_COLUMNS = [
    *("group", "dataset", "topology", "pair", "method", "variant", "temperature", "axes"),
    *("network", "role", "model", "network_key", "cohort_key", "measured_on"),
]
COLUMNS = [
    *(*GROUP_COLUMNS, "seeds", "seed_list"),
    *(f"{epoch}_{field}" for epoch in EPOCHS for field in Summary._fields),
    *(f"{epoch}_difference" for epoch in EPOCHS),
    *(f"{epoch}_difference_{end}" for epoch in EPOCHS for end in ("low", "high")),
    *(f"{epoch}_{field}" for epoch in EPOCHS for field in ("p_value", "p_holm", "test")),
    "compared_epoch",
    *(f"{COMPARED}_{field}" for field in COMPARED_FIELDS),
    *("baseline", "expert_share", "updates_saved", "multiply_adds_saved", "last_gap"),
    *("train_seconds", "teacher_seconds", "time_saved", *COST_OF_AN_IMAGE),
    *("published_mean", "published_std", "published_difference", "run_ids", "experiment_ids"),
]


def comparison_frame(trials: pd.DataFrame, baseline: str = BASELINE) -> pd.DataFrame:
    """Statistics over seeds of every network of every group of finished trials; see COLUMNS.

    Accuracies in percent, differences in percentage points, shares from 0 to 1. The columns
    `compared_*` repeat those of the epoch that `compared_epoch` names, with the seeds' own values
    (in the order of `seed_list`) and an interval that stays from 0 to 100; `low` and `high` are
    Student's, which does not.

    The baseline `vanilla` is joined by network: same data, model, optimizer settings and recipe.
    Any other, a variant or a method that has but one variant there, is taken from the same cohort,
    recipe and temperature. Holm's correction runs over the rows of the table, for the best, the
    last and the compared epoch.
    """
    rows = networks(trials)
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    records = []
    groups = by_group(rows)
    for group in groups.values():
        group.sort(key=lambda row: row["seed"])
        record = {column: group[0][column] for column in (*GROUP_COLUMNS, "compared_epoch")}
        record |= {"seeds": len(group), "seed_list": tuple(row["seed"] for row in group)}
        for epoch in EPOCHS:
            summary = summarise(row[epoch] for row in group)._asdict()
            record |= {f"{epoch}_{field}": value for field, value in summary.items()}
        compared = tuple(row[COMPARED] for row in group)
        record[f"{COMPARED}_values"] = compared
        low, high = percent_interval(compared)
        record |= {f"{COMPARED}_interval_low": low, f"{COMPARED}_interval_high": high}
        for column in MEANS:
            record[column] = summarise(row[column] for row in group).mean
        record["run_ids"] = tuple(row["run_id"] for row in group)
        record["experiment_ids"] = tuple(row["experiment_id"] for row in group)
        records.append(record)
    frame = with_published(pd.DataFrame.from_records(records))
    frame = with_compared(with_baseline(frame, groups, baseline))
    frame["time_saved"] = time_saved(frame)
    frame = frame.assign(together=frame["topology"] != "single")
    # networks alone come first, as the paper prints them
    order = ["dataset", "together", "topology", "pair", "axes", "method", "variant", "temperature"]
    return frame.sort_values([*order, "group", "network"], ignore_index=True)[COLUMNS]


def by_group(rows: pd.DataFrame) -> dict[Row, list[dict[str, Any]]]:
    """The rows of `grouping.networks` by group and network; plain, as a frame each is slow."""
    groups: dict[Row, list[dict[str, Any]]] = {}
    for row in rows.to_dict("records"):
        groups.setdefault((row["group"], row["network"]), []).append(row)  # type: ignore[arg-type]
    return groups


def with_baseline(
    frame: pd.DataFrame, groups: dict[Row, list[dict[str, Any]]], baseline: str
) -> pd.DataFrame:
    """Add the difference of every row from its baseline, its test, and Holm's correction."""
    unknown = Difference(math.nan, math.nan, math.nan, math.nan, "")
    found = baseline_rows(frame, baseline)
    own = list(zip(frame["group"], frame["network"], strict=True))
    result = frame.assign(baseline=[baseline if key in found else "" for key in own])
    for epoch in EPOCHS:
        by_seed = {key: {row["seed"]: row[epoch] for row in group} for key, group in groups.items()}
        measured = [
            difference(by_seed[key], by_seed[found[key]]) if key in found else unknown
            for key in own
        ]
        result[f"{epoch}_difference"] = [item.mean for item in measured]
        result[f"{epoch}_difference_low"] = [item.low for item in measured]
        result[f"{epoch}_difference_high"] = [item.high for item in measured]
        result[f"{epoch}_p_value"] = [item.p_value for item in measured]
        result[f"{epoch}_test"] = [item.test for item in measured]
        result[f"{epoch}_p_holm"] = holm(result[f"{epoch}_p_value"])
    return result


def with_compared(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of the epoch that each row is compared by, and Holm's correction of it."""
    is_best = frame["compared_epoch"] == "best"
    columns = {
        f"{COMPARED}_{field}": frame[f"best_{field}"].where(is_best, frame[f"last_{field}"])
        for field in COMPARED_FIELDS
        if f"best_{field}" in frame
    }
    columns[f"{COMPARED}_p_holm"] = holm(columns[f"{COMPARED}_p_value"])
    return frame.assign(**columns)


def baseline_rows(frame: pd.DataFrame, baseline: str) -> dict[Row, Row]:
    """(group, network) -> the (group, network) that it is compared with, where there is one."""
    is_baseline = frame["variant"] == baseline
    if not is_baseline.any():
        is_baseline = frame["method"] == baseline
    offered: dict[tuple[object, ...], set[Row]] = {}
    found: dict[Row, Row] = {}
    row: Any
    for row in frame[is_baseline].itertuples():
        offered.setdefault(join_key(row, baseline), set()).add((row.group, row.network))
    for row in frame[~is_baseline].itertuples():
        candidates = offered.get(join_key(row, baseline), set())
        # several variants of one method are no baseline: which of them is for the reader to say
        if len(candidates) == 1:
            found[row.group, row.network] = next(iter(candidates))
    return found


def join_key(row: Any, baseline: str) -> tuple[object, ...]:
    method = SETTINGS.get(baseline.partition("(")[0], MethodSettings)
    if not method.trains_together:
        return (row.network_key,)
    return (row.cohort_key, row.network, row.temperature if method.uses_temperature else None)


def time_saved(frame: pd.DataFrame) -> list[float]:
    """Share of the training time that a row saved against its cohort training at every step."""
    seconds = dict(
        zip(zip(frame["group"], frame["network"], strict=True), frame["train_seconds"], strict=True)
    )
    found = baseline_rows(frame, ALWAYS_TRAINING)
    return [
        1 - own / seconds[found[key]] if key in found else math.nan for key, own in seconds.items()
    ]


def with_networks_alone(frame: pd.DataFrame, role: str) -> pd.DataFrame:
    """The rows of one role, and what the same networks reached alone; without cohorts, all."""
    is_alone = frame["topology"] == "single"
    rows = frame[(frame["role"] == role) & ~is_alone]
    if rows.empty:
        return frame[is_alone]
    return pd.concat([rows, frame[is_alone & frame["network_key"].isin(rows["network_key"])]])


def comparison_notes(trials: pd.DataFrame) -> list[str]:
    """What a reader of the comparison must know: unfinished trials, and runs that differ in
    commit or library version or come from code that was not committed."""
    notes = []
    for status, what in STATUS_NOTES.items():
        count = int((trials["status"] == status).sum())
        if count:
            notes.append(f"{count} {'trial' if count == 1 else 'trials'} {what}: left out")
    compared = finished(trials)
    for tag, what in SCHEDULER_NOTES.items():
        count = int(compared[TAGS + tag].notna().sum()) if TAGS + tag in compared else 0
        if count:
            notes.append(f"{count} {'trial' if count == 1 else 'trials'} {what}")
    untimed = int(networks(compared)["teacher_missing"].sum())
    if untimed:
        notes.append(
            f"the training of {untimed} trained {'teacher' if untimed == 1 else 'teachers'} is not "
            "among these trials: its time is not counted"
        )
    commits = compared["git_commit"].dropna()
    dirty = int(commits.str.endswith("-dirty").sum())
    if dirty:
        notes.append(f"{dirty} of {len(compared)} trials ran code that was not committed")
    provenance = {"commits": commits} | {
        f"{column.removeprefix(VERSIONS)} versions": compared[column]
        for column in columns_of(compared, VERSIONS)
    }
    for what, values in provenance.items():
        counts = values.value_counts()
        if len(counts) > 1:
            listed = ", ".join(f"{short(str(value))} ({count})" for value, count in counts.items())
            notes.append(f"trials of different {what} are compared: {listed}")
    return notes


def short(version: str) -> str:
    """A commit by its first 12 digits, `-dirty` kept; anything else as it is."""
    commit, dash, mark = version.partition("-")
    return commit[:12] + dash + mark if len(commit) == 40 else version
