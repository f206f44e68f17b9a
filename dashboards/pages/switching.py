"""The panel of *Timelines* that says in numbers what the switch did in the lines drawn."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboards.analysis.comparison import ALWAYS_TRAINING
from dashboards.analysis.switching_summary import switching_summary
from dashboards.pages import cache
from dashboards.pages.selection import Selection
from switokd import names

PERCENT = ("waits", "would wait", "first fifth", "last fifth", "updates saved")
HELP = {
    "gap": "Mean over all steps of the gap between the two networks' predictions (L1, 0 to 2).",
    "threshold": "Mean over all steps of the threshold in force.",
    "waits": "Share of steps in expert mode: the student lags too far behind, the teacher waits.",
    "would wait": "Of a method without a switch: share of steps in which one would have waited.",
    "first fifth": "The same, over the first fifth of the training.",
    "last fifth": "The same, over the last fifth of the training.",
    "updates saved": "Share of the teacher's updates that were skipped: it waits where all its "
    "students lag behind.",
    "top-1": "The student's, as on *Pairs*.",
    f"− {ALWAYS_TRAINING}": "Points of top-1 above the same cohort always training together.",
}


def show_switching(
    chosen: Selection, trials: pd.DataFrame, points: pd.DataFrame, over_seeds: bool
) -> None:
    """`trials` are those drawn, with their line's `name`; `points` all their windows."""
    teachers = sorted({str(link).partition("-")[0] for link in points["link"].unique()})
    keys = tuple(names.metric(names.PAUSED, teacher) for teacher in teachers)
    summary = switching_summary(points, cache.histories(chosen.uri, trials, keys))
    table = summary.assign(line=summary["run_id"].map(trials.set_index("run_id")["name"]))
    table = table.merge(students_of(chosen), on=["run_id", "link"], how="left")
    table = table.rename(
        columns={
            "expert": "waits",
            "would_be_expert": "would wait",
            "expert_at_first": "first fifth",
            "expert_at_last": "last fifth",
            "updates_saved": "updates saved",
        }
    )
    for name in PERCENT:
        table[name] = 100 * table[name]
    shown = table.groupby(["line", "link"], sort=False)[list(HELP)].mean().reset_index()
    if shown["link"].nunique() == 1:
        shown = shown.drop(columns="link")
    st.subheader("What the switch did here", anchor=False)
    st.dataframe(
        shown.dropna(axis="columns", how="all"),
        hide_index=True,
        placeholder="",
        column_config={
            name: st.column_config.NumberColumn(
                format="%.0f %%" if name in PERCENT else "%.2f", help=text
            )
            for name, text in HELP.items()
        },
        key="switching",
    )
    if over_seeds:
        st.caption("Means over seeds.")


def students_of(chosen: Selection) -> pd.DataFrame:
    """Top-1 of every finished run's students, and its difference from always training, by link."""
    frame = chosen.compared(ALWAYS_TRAINING)
    frame = frame[(frame["role"] == "student") & (frame["topology"] != "single")]
    rows = frame[["run_ids", "compared_values", "network", "topology", "compared_difference"]]
    rows = rows.explode(["run_ids", "compared_values"]).rename(
        columns={"run_ids": "run_id", "compared_difference": f"− {ALWAYS_TRAINING}"}
    )
    teachers = rows["topology"].str.extract(r"(\d+)T")[0].astype(int)
    links = [
        [f"T{teacher}-{network}" for teacher in range(1, count + 1)]
        for network, count in zip(rows["network"], teachers, strict=True)
    ]
    rows = rows.assign(link=pd.Series(links, index=rows.index)).explode("link")
    rows["top-1"] = rows["compared_values"].astype(float)
    return rows[["run_id", "link", "top-1", f"− {ALWAYS_TRAINING}"]]
