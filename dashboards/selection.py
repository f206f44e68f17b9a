"""What every page starts with: which trials, from one experiment or from all."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
import streamlit as st

from dashboards import cache

ALL = "all experiments"
KEPT = "kept_experiment"


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


def select() -> Selection:
    """Let the user choose an experiment; stops the page with a message where there is no trial."""
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
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    # Streamlit forgets a widget's state when the page changes
    kept = st.session_state.get(KEPT, ALL)
    index = options.index(kept) if kept in options else 0
    chosen = left.selectbox("Experiment", options, index=index, key="experiment")
    st.session_state[KEPT] = chosen
    if right.button("Read anew", width="stretch"):
        cache.all_trials.clear()
        st.rerun()
    experiment = None if chosen == ALL else str(chosen)
    if experiment is not None:
        trials = trials[trials["experiment"] == experiment]
    return Selection(trials, uri, read_at, experiment)
