"""Pairs: the leaderboard, its intervals, and teacher by student."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboards.analysis.comparison import ALWAYS_TRAINING, BASELINE, comparison_notes
from dashboards.analysis.finding import finding
from dashboards.analysis.leaderboard import PERCENT_COLUMNS, leaderboard, run_table
from dashboards.figures.comparison_figures import interval_figure, pair_matrix
from dashboards.pages.selection import STILL, Selection, select
from dashboards.reports.csv_table import comparison_csv
from dashboards.reports.latex_table import latex_table
from dashboards.reports.wording import INTERVAL_CAPTION, legend
from switokd.tracking.ui import ui_address

HELP = {
    "updates saved": "Share of the teachers' updates that the switch skipped.",
    "multiply-adds saved": "Share of the whole training's arithmetic that these updates are; a "
    "backward pass counts twice a forward pass.",
    "expert steps": "Share of steps in expert mode: the gap above the threshold, and the teacher "
    "nearer to the labels.",
    "gap": "Between the predictions of teacher and student (L1, 0 to 2), at the end.",
    "seconds": "Training alone, with that of a teacher that was trained before; follows the "
    "machine's load.",
    "of these the teacher's": "The whole training of the teacher, which other students may share.",
    "time saved": f"Against {ALWAYS_TRAINING} of the same cohort; follows the machine's load.",
}


def page() -> None:
    chosen, (place, _) = select(2.2, 1)
    notes = comparison_notes(chosen.trials)
    finished = int((chosen.trials["status"] == "FINISHED").sum())
    if not finished:
        st.info("No trial has finished yet: " + "; ".join(notes) + ".", icon=":material/timer:")
        return
    baseline = choose_baseline(chosen, place)
    compared = chosen.compared(baseline)
    frame = chosen.kept(compared)
    if frame.empty:
        st.info("No trial passes the filters.")
        return
    sentence = finding(frame)
    if sentence:
        # an underscore would begin italics
        st.markdown("##### " + sentence.replace("_", r"\_"))
    st.caption(f":material/info: {'; '.join([f'{finished} finished trials', *notes])}.")
    ui = ui_address(chosen.uri)
    show_table(leaderboard(frame, baseline, ui))
    st.caption(legend(frame, baseline))
    left, right, _ = st.columns([1, 1, 3])
    left.download_button(
        "Download CSV", comparison_csv(frame), "comparison.csv", "text/csv", width="stretch"
    )
    right.download_button("Download LaTeX", latex_table(frame), "comparison.tex", width="stretch")
    students, teachers, matrix, runs = st.tabs(["Students", "Teachers", "Pair matrix", "Runs"])
    for tab, role in ((students, "student"), (teachers, "teacher")):
        tab.plotly_chart(interval_figure(frame, role), key=f"{role}s", config=STILL)
        tab.caption(INTERVAL_CAPTION)
    matrix.caption("The highest mean that any method reached in the pair, for its student.")
    matrix.plotly_chart(pair_matrix(frame), key="matrix", config=STILL)
    with runs:
        show_runs(run_table(chosen.kept(chosen.trials), ui))


def choose_baseline(chosen: Selection, place: DeltaGenerator) -> str:
    variants = sorted(chosen.trials["variant"].dropna().unique())
    first = variants.index(BASELINE) if BASELINE in variants else 0
    return str(place.selectbox("Baseline", variants, index=first))


def show_table(table: pd.DataFrame) -> None:
    formats = {"p": "%.3g", "p Holm": "%.3f", "seconds": "%.1f", "τ": "%g", "gap": "%.2f"}
    formats |= dict.fromkeys(PERCENT_COLUMNS, "%.0f %%")
    config: dict[str, Any] = {}
    for name in table.select_dtypes("number"):
        quantity = str(name).partition(" ")[2] if str(name)[1:2].isdigit() else str(name)
        form = formats.get(quantity, "%.2f" if str(name)[1:2].isdigit() else None)
        config[str(name)] = st.column_config.NumberColumn(format=form, help=HELP.get(str(name)))
    for name in ("method", "pair"):
        # else a column is as wide as its first rows
        longest = int(table[name].str.len().max())
        config[name] = st.column_config.TextColumn(width=min(300, 30 + 7 * longest))
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
        if str(name).endswith(" top-1")
    }
    st.dataframe(table, hide_index=True, placeholder="", column_config=config, key="runs")
