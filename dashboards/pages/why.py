"""Why: where teacher and student look, one row per method."""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

from dashboards import cache
from dashboards.grouping import finished, grouped
from dashboards.selection import select
from dashboards.theme import trial_name

FOLDER = "explain"


def page() -> None:
    chosen = select()
    trials = grouped(finished(chosen.trials))
    if trials.empty:
        st.info("No trial has finished yet.")
        return
    pairs = sorted(trials["pair"].unique(), key=lambda pair: (">" not in pair, pair))
    left, right = st.columns([3, 1])
    pair = left.selectbox("Pair", pairs)
    trials = trials[trials["pair"] == pair]
    seeds = sorted(trials["seed"].dropna().unique())
    seed = right.selectbox("Seed", seeds)
    trials = trials[trials["seed"] == seed]
    missing = []
    for _, trial in trials.sort_values(["method", "variant", "temperature"]).iterrows():
        paths = cache.artifacts(chosen.uri, trial["run_id"], FOLDER)
        if paths:
            show_trial(chosen.uri, trial, paths)
        else:
            missing.append(trial)
    if missing:
        st.info("Not explained yet. These commands make the maps and log them to the runs:")
        st.code(commands(pd.DataFrame(missing)), language="shell", wrap_lines=True)


def commands(trials: pd.DataFrame) -> str:
    """One `switokd explain` per trial, with what the trial is."""
    return "\n".join(
        f"switokd explain {trial['run_id']}  # {trial_name(trial)}"
        for _, trial in trials.iterrows()
    )


def show_trial(uri: str, trial: pd.Series, paths: list[str]) -> None:
    """Overlays beside each other, agreement numbers, and the 3-D surfaces on demand."""
    st.subheader(trial_name(trial))
    by_kind = {kind: [path for path in paths if path.endswith(kind)] for kind in KINDS}
    for path in by_kind[".json"]:
        show_numbers(cache.artifact(uri, trial["run_id"], path))
    for path in by_kind[".png"]:
        st.image(cache.artifact(uri, trial["run_id"], path), caption=path, width="stretch")
    for path in by_kind[".html"]:
        with st.expander(f"3-D: {path.removeprefix(FOLDER + '/')}"):
            page_source = cache.artifact(uri, trial["run_id"], path).decode()
            st.iframe(page_source, height=600)


KINDS = (".json", ".png", ".html")


def show_numbers(content: bytes) -> None:
    """What a JSON file holds, numbers as metrics, anything deeper as it is."""
    numbers = json.loads(content)
    if not isinstance(numbers, dict):
        st.json(numbers, expanded=False)
        return
    flat = {key: value for key, value in numbers.items() if isinstance(value, int | float)}
    if flat:
        for column, (name, value) in zip(st.columns(len(flat)), flat.items(), strict=True):
            column.metric(name.replace("_", " "), f"{value:.3g}")
    if rest := {key: value for key, value in numbers.items() if key not in flat}:
        st.json(rest, expanded=False)
