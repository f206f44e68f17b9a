"""Accuracy against cost: what a student takes to train and to use, and which are worth it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboards.analysis.accuracy_cost import COSTS, cost_points, known_costs
from dashboards.analysis.comparison import BASELINE
from dashboards.analysis.labels import datasets_of, trial_name
from dashboards.figures.cost_figure import cost_figure
from dashboards.pages.selection import STILL, select
from dashboards.reports.wording import COST_CAPTION, front_in_words
from switokd import names


def page() -> None:
    chosen, (place, data) = select(2.6, 1.6)
    frame = chosen.kept(chosen.compared(BASELINE))
    costs = known_costs(frame) if len(frame) else []
    if not costs:
        st.info("No student has finished yet.")
        return
    cost = place.selectbox("Cost", costs, format_func=COSTS.__getitem__)
    dataset = data.selectbox("Data set", datasets_of(frame))
    points = cost_points(frame[frame["dataset"] == dataset], cost)
    sentence = front_in_words(points, cost)
    if sentence:
        # an underscore would begin italics
        st.markdown("##### " + sentence.replace("_", r"\_"))
    st.plotly_chart(cost_figure(points, cost), key="cost", config=STILL)
    st.caption(COST_CAPTION)
    if points[names.PARAMETERS].isna().all():
        st.caption(
            "These runs are older than the other costs: parameters, multiply-adds and milliseconds "
            "an image are measured at the end of a trial."
        )
    st.dataframe(
        cost_table(points),
        hide_index=True,
        placeholder="",
        column_config={
            **{"top-1": number("%.2f %%"), COSTS[names.MILLISECONDS_PER_IMAGE]: number("%.2f")},
            **{COSTS[name]: number("compact") for name in (names.PARAMETERS, names.MULTIPLY_ADDS)},
            COSTS["train_seconds"]: number("%.1f"),
        },
        key="costs",
    )


def cost_table(points: pd.DataFrame) -> pd.DataFrame:
    """What the figure shows and all other costs, the cheapest first."""
    points = points.sort_values("cost", kind="stable")
    table = points[["pair", "network", "compared_mean", "on_front", *COSTS]].rename(
        columns={"compared_mean": "top-1", "on_front": "on the front", **COSTS}
    )
    table.insert(0, "method", [trial_name(row) for _, row in points.iterrows()])
    return table.dropna(axis="columns", how="all")


def number(form: str) -> Any:
    return st.column_config.NumberColumn(format=form)
