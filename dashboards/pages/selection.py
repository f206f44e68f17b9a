"""What every page starts with: which trials, from one experiment or from all."""

from __future__ import annotations

import time
from typing import NamedTuple

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboards.pages import cache

ALL = "all experiments"
KEPT = "kept_experiment"


def simplest_first(pairs: pd.Series) -> list[str]:
    """The pairs' names, cohorts of two networks before larger ones, networks alone last."""
    return sorted(pairs.unique(), key=lambda pair: (">" not in pair, pair.count("+"), pair))


class Selection(NamedTuple):
    """The chosen trials; the rest identifies them to the cache."""

    trials: pd.DataFrame
    uri: str
    read_at: float
    experiment: str | None

    def compared(self, baseline: str) -> pd.DataFrame:
        return cache.compared(self.trials, self.uri, self.read_at, self.experiment, baseline)

    def students(self) -> pd.DataFrame:
        return cache.students(self.trials, self.uri, self.read_at, self.experiment)


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
    first, *places, last = st.columns([3, *widths, 1.3], vertical_alignment="bottom")
    # Streamlit forgets a widget's state when the page changes
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
    return Selection(trials, uri, read_at, experiment), places
