"""Timelines: gap against threshold, the mode as a band, accuracy under them."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboards.analysis.grouping import finished, grouped
from dashboards.analysis.labels import trial_name
from dashboards.analysis.windows import accuracy_points, averaged, links_of, resampled, step_points
from dashboards.figures.timeline_figure import LineName, timeline_figure
from dashboards.pages import cache
from dashboards.pages.selection import STILL, Selection, select, simplest_first
from dashboards.pages.switching import show_switching
from dashboards.reports.wording import TIMELINE_CAPTION
from switokd import names
from switokd.tracking.store import MissingArtifactError

LINES_AT_FIRST = 3
# over all lines of a figure: what a browser still pans without a stutter
POINTS_PER_FIGURE = 16_000


def page() -> None:
    chosen, (left, right) = select(4, 3)
    picked = chosen.kept(chosen.trials)
    trials = grouped(pd.concat([finished(picked), running(picked)]))
    trials = trials[trials["topology"] != "single"]
    if trials.empty:
        st.info("No trial with a teacher and a student has run yet: networks alone have no gap.")
        return
    pair = left.selectbox("Pair", simplest_first(trials["pair"]))
    trials = trials[trials["pair"] == pair]
    links = links_of(trials)
    if not links:
        st.info("These trials have logged no timeline yet.")
        return
    link_choice = right.segmented_control(
        "Links", links, default=links[:1], selection_mode="multi", key=f"links of {pair}"
    )
    shown, over_seeds = choose_lines(trials, str(pair))
    if shown.empty or not link_choice:
        st.info("Choose at least one line and one link.")
        return
    draw(chosen, shown, tuple(link_choice), over_seeds)


def running(trials: pd.DataFrame) -> pd.DataFrame:
    return trials[trials["status"] == "RUNNING"]


def choose_lines(trials: pd.DataFrame, pair: str) -> tuple[pd.DataFrame, bool]:
    """The trials to draw, and whether to average those that differ in the seed alone."""
    trials = trials.assign(name=[trial_name(row) for _, row in trials.iterrows()])
    several_seeds = bool((trials.groupby("group").size() > 1).any())
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    over_seeds = right.toggle("Mean over seeds", value=several_seeds, disabled=not several_seeds)
    if not over_seeds:
        trials["name"] += " seed " + trials["seed"].astype(str)
    options = list(dict.fromkeys(trials.sort_values(["method", "name"])["name"]))
    # what the switch changes shows beside always training together
    others = [name for name in options if not name.startswith("switokd")]
    switched = [name for name in options if name not in others]
    shown = switched[: LINES_AT_FIRST - bool(others)]
    at_first = [*others[: LINES_AT_FIRST - len(shown)], *shown]
    picked = left.multiselect("Lines", options, at_first, key=f"lines of {pair} {over_seeds}")
    drawn = trials[trials["name"].isin(picked)]
    return drawn.sort_values(["method", "name"], kind="stable"), over_seeds


def draw(chosen: Selection, trials: pd.DataFrame, links: tuple[str, ...], over_seeds: bool) -> None:
    uri = chosen.uri
    networks = sorted({name for link in links for name in link.split("-")})
    accuracy_keys = tuple(names.metric(names.VAL_TOP1, network) for network in networks)
    histories = cache.histories(uri, trials, accuracy_keys)
    windows = cache.points(uri, trials, links)
    if windows.empty:
        st.info("These trials have logged no timeline yet.")
        return
    last_step = int(windows["step"].max())
    first, last = step_range(last_step)
    limit = max(200, POINTS_PER_FIGURE // (len(trials) * len(links) * 2))
    if (first, last) == (1, last_step):
        points = resampled(windows, limit)
    else:
        points = single_steps(uri, trials, links, (first, last), limit)
    accuracies = accuracy_points(histories, trials, windows.groupby("run_id")["step"].max())
    accuracies = accuracies[accuracies["step"].between(first, last)]
    lines = {row["run_id"]: LineName(row["name"], row["method"]) for _, row in trials.iterrows()}
    if over_seeds:
        groups = trials.set_index("run_id")["group"].astype(str)
        points = averaged(points, groups)
        accuracies = mean_accuracies(accuracies, groups)
        lines = {groups[run_id]: name for run_id, name in lines.items()}
    if points.empty:
        st.info("No step in this range.")
        return
    st.plotly_chart(timeline_figure(points, accuracies, lines), key="timeline", config=STILL)
    st.caption(describe(points, over_seeds))
    show_switching(chosen, trials, windows, over_seeds)


def step_range(last_step: int) -> tuple[int, int]:
    """The steps to show, typed to the step or dragged."""
    whole = (1, last_step)
    first, last = st.slider(
        "Training steps",
        *whole,
        whole,
        help=f"A part of the run is read step by step from its {names.TIMELINE_FILE}.",
        key=f"steps of {last_step}",
    )
    return int(first), int(last)


def single_steps(
    uri: str, trials: pd.DataFrame, links: tuple[str, ...], steps: tuple[int, int], limit: int
) -> pd.DataFrame:
    """Points from the complete timelines; says which runs have none."""
    parts, missing = [], []
    for _, trial in trials.iterrows():
        try:
            complete = cache.timeline(uri, trial["run_id"], cache.stamp(trial))
        except MissingArtifactError:
            missing.append(f"{trial['name']} seed {trial['seed']}")
            continue
        parts += [step_points(complete, trial["run_id"], link, *steps, limit) for link in links]
    if missing:
        st.warning("No complete timeline (yet) of: " + ", ".join(missing))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["step"])


def mean_accuracies(accuracies: pd.DataFrame, groups: pd.Series) -> pd.DataFrame:
    named = accuracies.assign(run_id=accuracies["run_id"].map(groups))
    keys = ["run_id", "network", "epoch"]
    return named.groupby(keys)[["step", "value"]].mean().reset_index()


def describe(points: pd.DataFrame, over_seeds: bool) -> str:
    steps = points.groupby(["run_id", "link"])["step"].diff().median()
    # a single point has no distance to another
    single = pd.isna(steps) or steps == 1
    window = "every single step" if single else f"means over about {steps:.0f} steps a point"
    band = "; band: standard deviation of the gap over seeds" if over_seeds else ""
    return TIMELINE_CAPTION.format(window + band)
