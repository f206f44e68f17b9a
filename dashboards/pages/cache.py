"""What the pages show, read once and kept while nothing can have changed."""

from __future__ import annotations

import time

import pandas as pd
import streamlit as st

from dashboards.analysis import comparison, explanations, swept_axes
from dashboards.store import timeline_source
from dashboards.store.kept_by_run import KeptByRun
from dashboards.store.kept_trials import FRESH_SECONDS, KeptTrials, with_news
from dashboards.store.runs import RunFrames
from switokd.tracking.address import default_uri

# how old what is read of a running trial may be
RUNNING_SECONDS = 5


@st.cache_resource(show_spinner=False)
def store(uri: str) -> RunFrames:
    return RunFrames(uri)


def current_store() -> RunFrames:
    """The store that the environment names. Raises StoreError where it does not answer."""
    return store(default_uri())


def clear() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


@st.cache_resource(show_spinner=False)
def kept_trials(uri: str) -> KeptTrials:
    return KeptTrials(store(uri).trials)


def all_trials(uri: str) -> tuple[pd.DataFrame, float]:
    """Every trial of the store, and when it was read, by which the derived frames are kept."""
    with st.spinner("Reading the trials ...", show_time=True):
        return kept_trials(uri).get()


def read_anew(uri: str) -> None:
    kept_trials(uri).forget()


@st.cache_data(ttl=RUNNING_SECONDS - 1, show_spinner=False, max_entries=4)
def latest_trials(uri: str) -> pd.DataFrame:
    """Every trial as it stands now: only the unfinished ones are read."""
    kept, _ = kept_trials(uri).get()
    return with_news(kept, store(uri).unfinished())


@st.cache_data(ttl=RUNNING_SECONDS - 1, show_spinner=False, max_entries=4)
def standings(uri: str) -> dict[str, dict[str, float]]:
    """How far each sweep at work is, by its experiment."""
    return store(uri).standings()


@st.cache_data(show_spinner="Comparing ...", max_entries=16)
def compared(
    _trials: pd.DataFrame, uri: str, read_at: float, chosen: str, baseline: str
) -> pd.DataFrame:
    return comparison.comparison_frame(_trials, baseline)


@st.cache_data(show_spinner=False, max_entries=16)
def students(_trials: pd.DataFrame, uri: str, read_at: float, chosen: str) -> pd.DataFrame:
    return swept_axes.student_rows(_trials)


@st.cache_resource(show_spinner=False)
def kept_by_run(uri: str) -> KeptByRun:
    return KeptByRun()


@st.cache_data(show_spinner=False, max_entries=60)
def timeline(uri: str, run_id: str, stamp: str) -> pd.DataFrame:
    """Every step of a run."""
    return store(uri).timeline(run_id)


@st.cache_data(ttl=FRESH_SECONDS, show_spinner=False, max_entries=500)
def artifacts(uri: str, run_id: str, folder: str) -> list[str]:
    return store(uri).artifacts(run_id, folder)


@st.cache_data(ttl=FRESH_SECONDS, show_spinner=False, max_entries=40)
def artifact(uri: str, run_id: str, path: str) -> bytes:
    return store(uri).artifact(run_id, path)


@st.cache_data(ttl=FRESH_SECONDS, show_spinner=False, max_entries=100)
def heat_maps(uri: str, run_id: str, path: str) -> explanations.HeatMaps:
    return explanations.read_heat_maps(store(uri).artifact(run_id, path))


@st.cache_data(ttl=FRESH_SECONDS, show_spinner=False, max_entries=500)
def agreement(uri: str, run_id: str, path: str) -> dict[str, float]:
    return explanations.read_numbers(store(uri).artifact(run_id, path))


def stamp(trial: pd.Series) -> str:
    """Until when what was read of a trial holds: for good once it ended, else some seconds."""
    if trial["status"] == "RUNNING":
        return f"running {int(time.time() // RUNNING_SECONDS)}"
    return f"{trial['status']} {trial['end_time']}"


def points(uri: str, trials: pd.DataFrame, links: tuple[str, ...]) -> pd.DataFrame:
    """The windows of some trials' links."""

    def read(missing: pd.DataFrame) -> pd.DataFrame:
        return timeline_source.link_points(store(uri), missing, links)

    return kept_by_run(uri).get(trials, stamps(trials), ("windows", *links), read)


def histories(uri: str, trials: pd.DataFrame, keys: tuple[str, ...]) -> pd.DataFrame:
    """The metrics of some trials."""

    def read(missing: pd.DataFrame) -> pd.DataFrame:
        return store(uri).histories(missing["run_id"].astype(str), keys)

    return kept_by_run(uri).get(trials, stamps(trials), ("metrics", *keys), read)


def stamps(trials: pd.DataFrame) -> list[str]:
    return [stamp(trial) for _, trial in trials.iterrows()]
