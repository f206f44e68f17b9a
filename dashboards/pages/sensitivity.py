"""Sensitivity: student accuracy against what was swept."""

from __future__ import annotations

import streamlit as st

from dashboards.analysis.swept_axes import sensitivity_points, swept_keys
from dashboards.figures.comparison_figures import parallel_coordinates, sensitivity_figure
from dashboards.pages.selection import select

# axes side by side need room: a narrow page scrolls through them
ROOM = """<style>
.st-key-parallel { overflow-x: auto; }
.st-key-parallel > div { min-width: 44rem; }
</style>"""


def page() -> None:
    chosen, (left, middle, right) = select(3, 2, 1.5)
    rows = chosen.students()
    if rows.empty:
        st.info("No trial with a teacher and a student has finished yet.")
        return
    keys = swept_keys(rows)
    if not keys:
        st.info(
            "Nothing was swept: the finished trials of a pair differ in method and seed alone. "
            "A list in the experiment file, such as `temperatures: [1, 2, 5]`, makes an axis."
        )
        return
    key = str(left.selectbox("Swept key", keys))
    datasets = sorted(rows["dataset"].unique())
    dataset = middle.selectbox("Data set", datasets)
    epoch = right.segmented_control("Epoch", ["last", "best"], default="last") or "last"
    rows = rows[rows["dataset"] == dataset]
    st.plotly_chart(
        sensitivity_figure(sensitivity_points(rows, key, keys, epoch), key, epoch), key="lines"
    )
    st.caption(
        "Mean over seeds with its 95 % interval, cut at 100 %; one seed has none. Lines stand a "
        "little apart, so that their intervals do not hide each other."
    )
    st.html(ROOM)
    st.subheader("All trials")
    st.caption("Drag along an axis to keep the trials that pass there.")
    axes = ["pair", "method", *keys]
    points = rows.assign(accuracy=rows[epoch]).dropna(subset="accuracy")
    with st.container(key="parallel"):
        st.plotly_chart(parallel_coordinates(points, axes))
