"""Pairs: the leaderboard, its intervals, and teacher by student."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboards.analysis.comparison import BASELINE, comparison_notes
from dashboards.analysis.leaderboard import leaderboard, run_table, ui_address
from dashboards.figures.comparison_figures import interval_figure, pair_matrix
from dashboards.pages.selection import Selection, select
from dashboards.reports.csv_table import comparison_csv
from dashboards.reports.latex_table import latex_table
from dashboards.reports.wording import legend, p_value

SIGNIFICANT = 0.05


def page() -> None:
    chosen, places = select(3, 1.6, 1.3)
    notes = comparison_notes(chosen.trials)
    finished = int((chosen.trials["status"] == "FINISHED").sum())
    if not finished:
        st.info("No trial has finished yet: " + "; ".join(notes) + ".", icon=":material/timer:")
        return
    baseline, epoch = controls(chosen, places)
    frame = filtered(chosen.compared(baseline), places[2])
    if frame.empty:
        st.info("No trial passes the filters.")
        return
    headline(frame, epoch, finished)
    for note in notes:
        st.caption(f":material/info: {note}.")
    ui = ui_address(chosen.uri)
    show_table(leaderboard(frame, baseline, ui))
    st.caption(legend(frame, baseline))
    left, right, _ = st.columns([1, 1, 3])
    left.download_button(
        "Download CSV", comparison_csv(frame), "comparison.csv", "text/csv", width="stretch"
    )
    right.download_button(
        "Download LaTeX", latex_table(frame, epoch), "comparison.tex", width="stretch"
    )
    students, teachers, matrix, runs = st.tabs(["Students", "Teachers", "Pair matrix", "Runs"])
    students.plotly_chart(interval_figure(frame, epoch, "student"), key="students")
    teachers.plotly_chart(interval_figure(frame, epoch, "teacher"), key="teachers")
    for tab in (students, teachers):
        tab.caption("Means over seeds with their 95 % intervals (Student's t), cut at 100 %.")
    matrix.caption("The highest mean that any method reached in the pair, for its student.")
    matrix.plotly_chart(pair_matrix(frame, epoch), key="matrix")
    with runs:
        show_runs(run_table(chosen.trials, ui))


def controls(chosen: Selection, places: list[DeltaGenerator]) -> tuple[str, str]:
    """The baseline and the epoch that the figures show."""
    variants = sorted(chosen.trials["variant"].dropna().unique())
    left, right, _ = places
    first = variants.index(BASELINE) if BASELINE in variants else 0
    baseline = left.selectbox("Baseline", variants, index=first)
    epoch = right.segmented_control(
        "Epoch of the figures",
        ["last", "best"],
        default="last",
        help="The best epoch is chosen on the test set, unless the recipe has a hold-out.",
    )
    return str(baseline), epoch or "last"


def filtered(frame: pd.DataFrame, place: DeltaGenerator) -> pd.DataFrame:
    """The rows that pass what the user picked; nothing picked lets all pass."""
    names = {"dataset": "Data sets", "pair": "Pairs", "variant": "Methods", "temperature": "τ"}
    picked: dict[str, list[object]] = {}
    with place.popover("Filter", icon=":material/filter_alt:", width="stretch"):
        for field, name in names.items():
            options = sorted(frame[field].unique())
            picked[field] = st.multiselect(name, options, placeholder="all", key=f"filter {field}")
    picked = {field: chosen for field, chosen in picked.items() if chosen}
    for field, chosen in picked.items():
        frame = frame[frame[field].isin(chosen)]
    if picked:
        listed = "; ".join(
            f"{names[field]}: {', '.join(map(str, values))}" for field, values in picked.items()
        )
        st.caption(f":material/filter_alt: Only {listed}.")
    return frame


def headline(frame: pd.DataFrame, epoch: str, finished: int) -> None:
    together = frame[(frame["topology"] != "single") & (frame["role"] == "student")]
    left, right = st.columns([3, 1])
    if not together.empty and together[f"{epoch}_mean"].notna().any():
        top = (
            together.sort_values(f"{epoch}_mean", kind="stable")
            .dropna(subset=f"{epoch}_mean")
            .iloc[-1]
        )
        gain, p_holm = top[f"{epoch}_difference"], top[f"{epoch}_p_holm"]
        tested = "not tested" if pd.isna(p_holm) else f"p Holm {p_value(p_holm)}"
        left.metric(
            f"Best student: {top['pair']}, {top['variant']}, τ={top['temperature']:g}",
            f"{top[f'{epoch}_mean']:.2f} %",
            None if pd.isna(gain) else f"{gain:+.2f} points from {top['baseline']}, {tested}",
            # green or red only what is more than chance
            delta_color="normal" if p_holm < SIGNIFICANT else "off",
        )
    right.metric("Finished trials", finished)


def show_table(table: pd.DataFrame) -> None:
    formats = {"p": "%.3g", "p Holm": "%.3g", "seconds": "%.1f", "τ": "%g"}
    formats |= {"expert steps": "%.0f %%", "time saved": "%.1f %%"}
    config: dict[str, Any] = {}
    for name in table.select_dtypes("number"):
        quantity = str(name).partition(" ")[2] if str(name)[1:2].isdigit() else str(name)
        form = formats.get(quantity, "%.2f" if str(name)[1:2].isdigit() else None)
        config[str(name)] = st.column_config.NumberColumn(format=form)
    config["pair"] = st.column_config.TextColumn(pinned=True)
    config["method"] = st.column_config.TextColumn(pinned=True)
    config["runs"] = st.column_config.LinkColumn(display_text="MLflow")
    st.dataframe(table, hide_index=True, placeholder="", column_config=config, key="leaderboard")


def show_runs(table: pd.DataFrame) -> None:
    config: dict[str, Any] = {
        "run": st.column_config.LinkColumn(display_text="MLflow"),
        "started": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm"),
    }
    config |= {
        str(name): st.column_config.NumberColumn(format="%.2f")
        for name in table
        if str(name).endswith(" last")
    }
    st.dataframe(table, hide_index=True, placeholder="", column_config=config, key="runs")
