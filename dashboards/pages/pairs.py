"""Pairs: the leaderboard, its intervals, and teacher by student."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboards.comparison import BASELINE, comparison_notes
from dashboards.figures import interval_figure, pair_matrix
from dashboards.leaderboard import leaderboard, run_table, ui_address
from dashboards.selection import Selection, select
from dashboards.tables import comparison_csv, latex_table, legend


def page() -> None:
    chosen = select()
    notes = comparison_notes(chosen.trials)
    finished = int((chosen.trials["status"] == "FINISHED").sum())
    if not finished:
        st.info("No trial has finished yet: " + "; ".join(notes) + ".", icon=":material/timer:")
        return
    baseline, epoch = controls(chosen)
    frame = filtered(chosen.compared(baseline))
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
    matrix.caption("The highest mean that any method reached in the pair, for its student.")
    matrix.plotly_chart(pair_matrix(frame, epoch), key="matrix")
    with runs:
        show_runs(run_table(chosen.trials, ui))


def controls(chosen: Selection) -> tuple[str, str]:
    """The baseline and the epoch that the figures show."""
    variants = sorted(chosen.trials["variant"].dropna().unique())
    left, right = st.columns(2)
    first = variants.index(BASELINE) if BASELINE in variants else 0
    baseline = left.selectbox("Baseline", variants, index=first)
    epoch = right.segmented_control(
        "Epoch of the figures",
        ["last", "best"],
        default="last",
        help="The best epoch is chosen on the test set, unless the recipe has a hold-out.",
    )
    return str(baseline), epoch or "last"


def filtered(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that pass what the user picked; nothing picked lets all pass."""
    names = {"dataset": "Data sets", "pair": "Pairs", "variant": "Methods", "temperature": "τ"}
    for column, (field, name) in zip(st.columns(len(names)), names.items(), strict=True):
        options = sorted(frame[field].unique())
        picked = column.multiselect(name, options, placeholder="all", key=f"filter {field}")
        if picked:
            frame = frame[frame[field].isin(picked)]
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
        gain = top[f"{epoch}_difference"]
        left.metric(
            f"Best student: {top['pair']}, {top['variant']}, τ={top['temperature']:g}",
            f"{top[f'{epoch}_mean']:.2f} %",
            None if pd.isna(gain) else f"{gain:+.2f} points from {top['baseline']}",
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
