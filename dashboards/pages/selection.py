"""What every page starts with: which trials, from one experiment or from all, and which of them."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboards.analysis.lengths import newest, superseded_note
from dashboards.pages import cache

ALL = "all experiments"
# Streamlit forgets a widget's state when the page changes: what was chosen is kept under these
KEPT, KEPT_FILTER, KEPT_LENGTHS = "kept_experiment", "kept_filter", "kept_lengths"
# dragging zooms and a double click resets; a phone would show the toolbar over the figure
STILL: dict[str, Any] = {"displayModeBar": False}
FILTERS = {"dataset": "Data sets", "pair": "Pairs", "variant": "Methods", "temperature": "τ"}


def simplest_first(pairs: pd.Series) -> list[str]:
    """The pairs' names, cohorts of two networks before larger ones, networks alone last."""
    return sorted(pairs.unique(), key=lambda pair: (">" not in pair, pair.count("+"), pair))


class Selection(NamedTuple):
    """The chosen trials; `picked` narrows them further; the rest identifies them to the cache."""

    trials: pd.DataFrame
    uri: str
    read_at: float
    experiment: str | None
    every_length: bool
    picked: dict[str, list[Any]]

    @property
    def key(self) -> str:
        return f"{self.experiment} {self.every_length}"

    def compared(self, baseline: str) -> pd.DataFrame:
        """The comparison of all chosen trials: what is picked changes no baseline and no p."""
        return cache.compared(self.trials, self.uri, self.read_at, self.key, baseline)

    def students(self) -> pd.DataFrame:
        return self.kept(cache.students(self.trials, self.uri, self.read_at, self.key))

    def kept(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows (of trials, networks or a comparison) that pass the filter."""
        for field, values in self.picked.items():
            frame = frame[frame[field].isin(values)]
        return frame


def select(*widths: float) -> tuple[Selection, list[DeltaGenerator]]:
    """Let the user choose an experiment; stops the page with a message where there is no trial.

    Returns also places for the page's own controls in the same line, one per width (the
    experiment's is 3).
    """
    uri = cache.current_store().uri
    trials, read_at = cache.all_trials(uri)
    if trials.empty:
        st.info(
            f"No trial in {uri} yet. `make sweep` runs the quickstart; "
            "what it tracks appears here.",
            icon=":material/hourglass_empty:",
        )
        st.stop()
    options = [ALL, *sorted(trials["experiment"].unique())]
    first, *places, narrow, last = st.columns([3, *widths, 1.3, 1.3], vertical_alignment="bottom")
    kept = st.session_state.get(KEPT, ALL)
    index = options.index(kept) if kept in options else 0
    chosen = first.selectbox("Experiment", options, index=index, key="experiment")
    st.session_state[KEPT] = chosen
    when = time.strftime("%H:%M:%S", time.localtime(read_at))
    if last.button("Read anew", width="stretch", help=f"The store was read at {when}."):
        cache.read_anew(uri)
        st.rerun()
    experiment = None if chosen == ALL else str(chosen)
    if experiment is not None:
        trials = trials[trials["experiment"] == experiment]
    every, picked = filters(trials, narrow)
    return Selection(every, uri, read_at, experiment, len(every) == len(trials), picked), places


def filters(
    trials: pd.DataFrame, place: DeltaGenerator
) -> tuple[pd.DataFrame, dict[str, list[Any]]]:
    """The trials of the lengths that are wanted, and what the user picked of them by column;
    nothing picked lets all pass."""
    before = st.session_state.get(KEPT_FILTER, {})
    picked: dict[str, list[Any]] = {}
    note = superseded_note(trials)
    with place.popover("Filter", icon=":material/filter_alt:", width="stretch"):
        if note:
            every = st.checkbox(
                "Shorter recipes too",
                value=st.session_state.get(KEPT_LENGTHS, False),
                help=f"{note[0]}.",
            )
            st.session_state[KEPT_LENGTHS] = every
            trials = trials if every else newest(trials)
        for field, name in FILTERS.items():
            options = sorted(trials[field].dropna().unique())
            known = [value for value in before.get(field, []) if value in options]
            picked[field] = st.multiselect(
                name, options, known, placeholder="all", key=f"filter {field}"
            )
    picked = {field: chosen for field, chosen in picked.items() if chosen}
    st.session_state[KEPT_FILTER] = picked
    if picked:
        listed = "; ".join(
            f"{FILTERS[field]}: {', '.join(map(str, values))}" for field, values in picked.items()
        )
        st.caption(f":material/filter_alt: Only {listed}.")
    if note and not st.session_state[KEPT_LENGTHS]:
        st.caption(f":material/filter_alt: {note[0]} (*Filter* shows them).")
    return trials, picked
