"""Live: what is running, how far it is, and what failed."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboards.analysis.grouping import grouped
from dashboards.analysis.leaderboard import run_url
from dashboards.analysis.lengths import newest
from dashboards.analysis.running import STUDENT_TOP1, failures, progress_table
from dashboards.pages import cache
from dashboards.pages.selection import Selection, select
from dashboards.reports.wording import duration
from switokd.tracking.ui import ui_address

EVERY_SECONDS = 5
SILENT_SECONDS = 600


def page() -> None:
    chosen, _ = select()
    show(chosen)


@st.fragment(run_every=EVERY_SECONDS)
def show(chosen: Selection) -> None:
    """Runs by itself; reads the store anew each time."""
    uri = chosen.uri
    trials = cache.latest_trials(uri)
    if chosen.experiment is not None:
        trials = trials[trials["experiment"] == chosen.experiment]
    trials = grouped(chosen.kept(trials if chosen.every_length else newest(trials)))
    counts = trials["status"].value_counts()
    shown = {"RUNNING": "Running", "FINISHED": "Finished", "FAILED": "Failed", "KILLED": "Stopped"}
    # columns would stand one under the other on a phone
    with st.container(horizontal=True, gap="small"):
        for status, name in shown.items():
            st.metric(name, int(counts.get(status, 0)), width="content")
        show_standings(cache.standings(uri), chosen.experiment)
    running = trials[trials["status"] == "RUNNING"]
    if running.empty:
        st.info("Nothing is running. This page updates by itself.", icon=":material/bedtime:")
    else:
        histories = cache.histories(uri, running, (STUDENT_TOP1,))
        show_progress(progress_table(trials, histories, pd.Timestamp.now(tz="UTC")))
    failed = failures(trials)
    if not failed.empty:
        st.subheader("Failed")
        ui = ui_address(uri)
        links = [
            run_url(ui, *key) for key in zip(failed["experiment_id"], failed["run_id"], strict=True)
        ]
        st.dataframe(
            failed.drop(columns=["experiment_id", "run_id"]).assign(run=links),
            hide_index=True,
            placeholder="",
            column_config={"run": st.column_config.LinkColumn(display_text="MLflow")},
        )
    st.caption(f"Read at {pd.Timestamp.now():%H:%M:%S}, every {EVERY_SECONDS} s.")


def show_standings(standings: dict[str, dict[str, float]], experiment: str | None) -> None:
    """What the sweeps at work have still to do, as their drivers say."""
    at_work = [each for name, each in standings.items() if experiment in (None, name)]
    if not at_work:
        return
    st.metric("Waiting", int(sum(each["waiting"] for each in at_work)), width="content")
    left = [each["seconds_left"] for each in at_work if "seconds_left" in each]
    if left:
        st.metric(
            "Time left",
            duration(max(left)),
            width="content",
            help="Of the whole sweep (the longest, where several are at work), at the pace so far.",
        )


def show_progress(table: pd.DataFrame) -> None:
    silent = table["silent_seconds"] > SILENT_SECONDS
    known = table["left_seconds"].notna()
    table = table.assign(
        elapsed=table["elapsed_seconds"].map(duration),
        left=table["left_seconds"].where(known, 0).map(duration).where(known, "unknown"),
        news=table["silent_seconds"].map(duration) + " ago",
    )
    measured_on = " or ".join(sorted(table["measured_on"].unique()))
    table = table.rename(columns={"S1 top-1": (top1 := f"S1 top-1, {measured_on}")})
    table["expert"] = 100 * table["expert"]
    columns = ["progress", "left", "trial", "seed", "epoch", "epochs", top1, "curve"]
    columns += ["gap", "expert", "elapsed", "news"]
    if table["taken_over"].any():
        columns.append("taken_over")
    st.dataframe(
        table[columns].dropna(axis="columns", how="all"),
        hide_index=True,
        placeholder="",
        column_config={
            "progress": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
            top1: st.column_config.NumberColumn(format="%.2f"),
            "curve": st.column_config.LineChartColumn(y_min=0, y_max=100, width="small"),
            "gap": st.column_config.NumberColumn(
                format="%.2f", help="Of the last window of steps (L1, 0 to 2)."
            ),
            "expert": st.column_config.NumberColumn(
                format="%.0f %%", help="Share of the last window's steps in expert mode."
            ),
            "elapsed": st.column_config.TextColumn(help="Since this run began."),
            "taken_over": st.column_config.NumberColumn(
                "epochs taken over", help="Trained by the shorter trial that this one goes on from."
            ),
        },
        key="progress",
    )
    if silent.any():
        st.warning(
            f"{int(silent.sum())} of them said nothing for {SILENT_SECONDS // 60} minutes: if no "
            "sweep is running, the next one takes them up."
        )
