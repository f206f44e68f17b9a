"""What the pages show, read once and kept while nothing can have changed."""

from __future__ import annotations

import time

import pandas as pd
import streamlit as st

from dashboards import comparison, sensitivity, timeline_source
from dashboards.runs import Store
from switokd import tracking

# how old a page may be; the button reads anew at once
FRESH_SECONDS = 60
RUNNING_SECONDS = 5


@st.cache_resource(show_spinner=False)
def store(uri: str) -> Store:
    return Store(uri)


def current_store() -> Store:
    """The store that the environment names. Raises StoreError where it does not answer."""
    return store(tracking.default_uri())


def clear() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


@st.cache_data(ttl=FRESH_SECONDS, show_spinner="Reading the trials ...", max_entries=4)
def all_trials(uri: str) -> tuple[pd.DataFrame, float]:
    """Every trial of the store, and when it was read, by which the derived frames are kept."""
    return store(uri).trials(), time.time()


@st.cache_data(ttl=RUNNING_SECONDS - 1, show_spinner=False, max_entries=4)
def latest_trials(uri: str) -> tuple[pd.DataFrame, float]:
    return store(uri).trials(), time.time()


@st.cache_data(show_spinner="Comparing ...", max_entries=16)
def compared(
    _trials: pd.DataFrame, uri: str, read_at: float, experiment: str | None, baseline: str
) -> pd.DataFrame:
    return comparison.comparison_frame(_trials, baseline)


@st.cache_data(show_spinner=False, max_entries=16)
def students(
    _trials: pd.DataFrame, uri: str, read_at: float, experiment: str | None
) -> pd.DataFrame:
    return sensitivity.student_rows(_trials)


@st.cache_data(show_spinner=False, max_entries=500)
def run_history(uri: str, run_id: str, keys: tuple[str, ...], stamp: str) -> pd.DataFrame:
    """One run's metrics; `stamp` changes when they may have."""
    return store(uri).histories([run_id], keys)


@st.cache_data(show_spinner=False, max_entries=500)
def run_points(
    uri: str, run_id: str, links: tuple[str, ...], stamp: str, _trial: pd.Series
) -> pd.DataFrame:
    """The windows of one run's links."""
    return timeline_source.link_points(store(uri), _trial, links)


@st.cache_data(show_spinner=False, max_entries=60)
def timeline(uri: str, run_id: str, stamp: str) -> pd.DataFrame:
    """Every step of a run."""
    return store(uri).timeline(run_id)


@st.cache_data(ttl=FRESH_SECONDS, show_spinner=False, max_entries=500)
def artifacts(uri: str, run_id: str, folder: str) -> list[str]:
    return store(uri).artifacts(run_id, folder)


@st.cache_data(show_spinner=False, max_entries=200)
def artifact(uri: str, run_id: str, path: str) -> bytes:
    return store(uri).artifact(run_id, path)


def stamp(trial: pd.Series) -> str:
    """Until when what was read of a trial holds: for good once it ended, else some seconds."""
    if trial["status"] == "RUNNING":
        return f"running {int(time.time() // RUNNING_SECONDS)}"
    return f"{trial['status']} {trial['end_time']}"


def points(uri: str, trials: pd.DataFrame, links: tuple[str, ...]) -> pd.DataFrame:
    """The windows of some trials' links."""
    parts = [
        run_points(uri, str(trial["run_id"]), links, stamp(trial), trial)
        for _, trial in trials.iterrows()
    ]
    return pd.concat(parts, ignore_index=True)


def histories(uri: str, trials: pd.DataFrame, keys: tuple[str, ...]) -> pd.DataFrame:
    """The metrics of some trials."""
    parts = [
        run_history(uri, str(trial["run_id"]), keys, stamp(trial)) for _, trial in trials.iterrows()
    ]
    if not parts:
        return store(uri).histories([], [])
    return pd.concat(parts, ignore_index=True)
