"""Sensitivity: student accuracy against what was swept."""

from __future__ import annotations

import streamlit as st

from dashboards.analysis.labels import datasets_of
from dashboards.analysis.swept_axes import MOST_LINES, lines_of, sensitivity_points, swept_keys
from dashboards.figures.comparison_figures import parallel_coordinates, sensitivity_figure
from dashboards.pages.selection import STILL, select
from dashboards.reports.wording import INTERVAL_CAPTION, epoch_rule

# axes side by side need room: a narrow page scrolls through them
ROOM = """<style>
.st-key-parallel { overflow-x: auto; }
.st-key-parallel > div { min-width: %drem; }
</style>"""
REM_AN_AXIS = 9


def page() -> None:
    chosen, (left, middle) = select(2.4, 2)
    rows = chosen.students()
    if rows.empty:
        st.info("No trial with a teacher and a student has finished yet.")
        return
    dataset = middle.selectbox("Data set", datasets_of(rows))
    rows = rows[rows["dataset"] == dataset]
    keys = swept_keys(rows)
    if not keys:
        st.info(
            f"Nothing was swept on {dataset}: the finished trials of a pair differ in method and "
            "seed alone. A list in the experiment file, such as `temperatures: [1, 2, 5]`, makes "
            "an axis."
        )
        return
    # of a search, or of several experiments, some keys never differ alone
    alone = (len(sensitivity_points(rows, key, keys)) > 0 for key in keys)
    first = next((at for at, drawn in enumerate(alone) if drawn), 0)
    key = str(left.selectbox("Swept key", keys, first))
    points = sensitivity_points(rows, key, keys)
    lines = lines_of(points)
    picked = st.multiselect(
        "Lines, the best first", lines, lines[:MOST_LINES], key=f"lines of {dataset} {key}"
    )
    st.plotly_chart(
        sensitivity_figure(points[points["line"].isin(picked)], key), key="lines", config=STILL
    )
    st.caption(
        f"{INTERVAL_CAPTION} {epoch_rule(rows)} Lines stand a little apart, so that their "
        "intervals do not hide each other."
    )
    axes = ["pair", "method", *keys]
    st.html(ROOM % max(44, REM_AN_AXIS * (len(axes) + 1)))
    st.subheader("All trials")
    st.caption("Drag along an axis to keep the trials that pass there.")
    trials = rows.assign(accuracy=rows["compared"]).dropna(subset="accuracy")
    with st.container(key="parallel"):
        st.plotly_chart(parallel_coordinates(trials, axes), config=STILL)
