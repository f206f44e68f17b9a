"""What the switch did in trials: how often teachers waited, and what that saved."""

from __future__ import annotations

from typing import Any

import pandas as pd

from switokd import names

COLUMNS = [
    *("run_id", "link", "gap", "threshold", "gap_at_end", "expert", "expert_at_first"),
    *("expert_at_last", "would_be_expert", "updates_saved"),
]


def switching_summary(points: pd.DataFrame, paused: pd.DataFrame) -> pd.DataFrame:
    """One row per run and link: see COLUMNS; shares from 0 to 1, of steps.

    `points` are windows (`windows.POINT_COLUMNS`); `paused` the histories of `paused/T1`, the
    share of each window's steps that the teacher skipped. `gap` and `threshold` are means over all
    steps, `expert_at_first` and `expert_at_last` over the first and the last fifth of them.
    """
    saved = paused_shares(paused)
    records = []
    for (run_id, link), line in points.groupby(["run_id", "link"], sort=False):
        line = weighted_by_steps(line)
        steps = line["step"].max()
        parts = {
            "expert": line,
            "expert_at_first": line[line["step"] <= steps / 5],
            "expert_at_last": line[line["step"] > steps * 4 / 5],
        }
        record: dict[str, Any] = {
            name: weighted_mean(part, "expert") for name, part in parts.items()
        }
        record |= {"run_id": run_id, "link": link, "gap_at_end": float(line["gap"].iloc[-1])}
        record |= {name: weighted_mean(line, name) for name in ("gap", "threshold")}
        # of a line that switches it is no news
        record["would_be_expert"] = (
            float("nan") if line["expert"].any() else weighted_mean(line, "would_be_expert")
        )
        record["updates_saved"] = saved.get(
            (str(run_id), str(link).partition("-")[0]), float("nan")
        )
        records.append(record)
    return pd.DataFrame.from_records(records, columns=COLUMNS)


def paused_shares(histories: pd.DataFrame) -> dict[tuple[str, str], float]:
    """The share of all steps that a teacher skipped, by run and teacher."""
    prefix = names.metric(names.PAUSED, "")
    rows = histories[histories["metric"].str.startswith(prefix)]
    return {
        (str(run_id), str(metric).removeprefix(prefix)): weighted_mean(
            weighted_by_steps(line), "value"
        )
        for (run_id, metric), line in rows.groupby(["run_id", "metric"])
    }


def weighted_by_steps(line: pd.DataFrame) -> pd.DataFrame:
    """The windows in order with `weight`, the number of steps that each holds."""
    line = line.sort_values("step", kind="stable")
    return line.assign(weight=line["step"].diff().fillna(line["step"]))


def weighted_mean(line: pd.DataFrame, column: str) -> float:
    weight = line["weight"].sum()
    return float((line[column] * line["weight"]).sum() / weight) if weight else float("nan")
