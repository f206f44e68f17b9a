"""Why: where teacher and student look, one row per method."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboards.analysis.explanations import (
    UNRELATED_OVERLAP,
    HeatMaps,
    NetworkMaps,
    Source,
    agreement_table,
    method_rows,
    row_maps,
)
from dashboards.analysis.grouping import finished, grouped
from dashboards.analysis.labels import called_in, trial_name
from dashboards.figures.heat_maps import MOST_SCENES, surface_grid
from dashboards.figures.overlay_grid import colour_scale, overlay_grid
from dashboards.pages import cache
from dashboards.pages.selection import select, simplest_first
from switokd import names

IMAGES_AT_FIRST = 6
OVERLAYS, SURFACES = "Overlays", "3-D surfaces"


def page() -> None:
    chosen, (left, middle, right) = select(2, 4, 1)
    trials = finished(chosen.trials)
    if trials.empty:
        st.info("No trial has finished yet.")
        return
    picked = chosen.kept(trials)
    if picked.empty:
        st.info("No finished trial passes the filters.")
        return
    # networks alone stand beside the cohorts that are picked
    trials = trials[trials["run_id"].isin(picked["run_id"]) | (trials["topology"] == "single")]
    dataset = left.selectbox("Data set", sorted(picked["dataset"].unique()))
    trials = trials[trials["dataset"] == dataset]
    pairs = picked.loc[picked["dataset"] == dataset, "pair"]
    pair = str(middle.selectbox("Pair", simplest_first(pairs)))
    of_pair = grouped(trials[trials["pair"] == pair])
    seeds = sorted(of_pair["seed"].dropna().unique())
    seed = int(right.selectbox("Seed", seeds, key=f"seed of {pair}"))
    rows = method_rows(trials, pair, seed)
    run_ids = list(dict.fromkeys(source.run_id for row in rows.values() for source in row))
    files = {
        run_id: cache.artifacts(chosen.uri, run_id, names.EXPLAIN_FOLDER) for run_id in run_ids
    }
    explained = {run_id: paths for run_id, paths in files.items() if paths}
    if explained:
        show_rows(chosen.uri, rows, explained, of_pair)
        show_agreement(chosen.uri, of_pair)
        show_files(chosen.uri, trials[trials["run_id"].isin(explained)], explained)
    missing = trials[trials["run_id"].isin(set(run_ids) - set(explained))]
    if not missing.empty:
        st.info("Not explained yet. These commands make the maps and log them to the runs:")
        st.code(commands(missing), language="shell", wrap_lines=True)


def commands(trials: pd.DataFrame) -> str:
    """One `switokd explain` per trial, with what the trial is."""
    ordered = grouped(trials).sort_values(["topology", "method", "variant", "temperature"])
    return "\n".join(
        f"switokd explain {trial['run_id']}  # {trial['pair']} {trial_name(trial)}"
        for _, trial in ordered.iterrows()
    )


def show_rows(
    uri: str,
    rows: dict[str, list[Source]],
    explained: Mapping[str, list[str]],
    of_pair: pd.DataFrame,
) -> None:
    """The figure of the pair: the same images, one row per method."""
    arrays = f"{names.EXPLAIN_FOLDER}/{names.HEAT_MAPS_FILE}"
    known = {
        run_id: cache.heat_maps(uri, run_id, arrays)
        for run_id, paths in explained.items()
        if arrays in paths
    }
    shown, drawn, others = row_maps(rows, known)
    if shown is None:
        st.info("These runs hold pictures but no arrays: explain them again to compare them.")
        return
    if others:
        st.warning("Explained on other images, and left out: " + ", ".join(others))
    called = called_in(of_pair["pair"].iloc[0])
    models = {
        network: called[network]
        for network in dict.fromkeys(source.network for row in rows.values() for source in row)
    }
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    kind = left.segmented_control("Show", [OVERLAYS, SURFACES], default=OVERLAYS) or OVERLAYS
    if kind == OVERLAYS:
        count = images_shown(right, len(shown.images))
        cut = shown._replace(images=shown.images[:count], classes=shown.classes[:count])
        st.html(overlay_grid(cut, drawn, models) + colour_scale())
    else:
        show_surfaces(right, shown, drawn, models)
    listed = ", ".join(f"{network} {model}" for network, model in models.items())
    st.caption(
        f"{listed}. Grad-CAM for the image's true class: what in the image speaks for it, within "
        "each map from 0 to 1. Under it the class that the network predicts (✗: another than the "
        "true one). All rows explain the same test images."
    )


def images_shown(place: DeltaGenerator, known: int) -> int:
    if known == 1:
        return 1
    return int(place.slider("Images", 1, known, min(IMAGES_AT_FIRST, known)))


def show_surfaces(
    place: DeltaGenerator,
    shown: HeatMaps,
    drawn: dict[str, dict[str, NetworkMaps]],
    models: Mapping[str, str],
) -> None:
    titles = [f"image {at + 1}, class {label}" for at, label in enumerate(shown.classes)]
    at = titles.index(place.selectbox("Image", titles))
    most = max(1, MOST_SCENES // len(models))
    grid = {
        name: [maps[network].maps[at] if network in maps else None for network in models]
        for name, maps in list(drawn.items())[:most]
    }
    columns = [f"{network} {model}" for network, model in models.items()]
    st.plotly_chart(surface_grid(grid, columns), key="surfaces")
    if len(drawn) > most:
        st.caption(f"The first {most} of {len(drawn)} rows: a browser draws no more at once.")


def show_agreement(uri: str, of_pair: pd.DataFrame) -> None:
    """The numbers over the whole test set, of every seed that was explained."""
    path = f"{names.EXPLAIN_FOLDER}/{names.AGREEMENT_FILE}"
    numbers = {
        run_id: cache.agreement(uri, run_id, path)
        for run_id in of_pair["run_id"].astype(str)
        if path in cache.artifacts(uri, run_id, names.EXPLAIN_FOLDER)
    }
    table = agreement_table(of_pair, numbers)
    if table.empty:
        return
    st.subheader("Agreement of teacher and student over the test set")
    config = {
        str(name): st.column_config.NumberColumn(format="%.2f")
        for name in table
        if str(name).startswith(("peak", "overlap", "correlation"))
    }
    config |= {
        name: st.column_config.NumberColumn(format="%d") for name in ("test images", "flat maps")
    }
    st.dataframe(
        table.dropna(axis="columns", how="all"),
        hide_index=True,
        placeholder="",
        column_config=config,
        key="agreement",
    )
    st.caption(
        "Means over the seeds that were explained. Peak overlap: intersection over union of the "
        f"20 % of pixels that each map has highest (1: the same; about {UNRELATED_OVERLAP}: "
        "unrelated). Correlation: Pearson's, of the two maps. Images on which either map is flat "
        "have neither."
    )


def show_files(uri: str, trials: pd.DataFrame, explained: Mapping[str, list[str]]) -> None:
    """The figures of one run as `switokd explain` left them, to look at and to keep."""
    named = {
        f"{trial['pair']} {trial_name(trial)}": str(trial["run_id"])
        for _, trial in grouped(trials).iterrows()
    }
    with st.expander("Figures of one run"):
        run_id = named[str(st.selectbox("Run", list(named)))]
        for path in explained[run_id]:
            content = cache.artifact(uri, run_id, path)
            if path.endswith(".png"):
                st.image(content, width="stretch")
            name = path.removeprefix(f"{names.EXPLAIN_FOLDER}/")
            st.download_button(
                name, content, name, key=f"{run_id} {name}", icon=":material/download:"
            )
