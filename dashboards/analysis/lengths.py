"""Trials that a longer training of the same trial supersedes: what an extended sweep leaves."""

from __future__ import annotations

import pandas as pd

from dashboards.analysis.columns import PARAMS, columns_of
from dashboards.analysis.grouping import joined
from switokd.spec.tracked_params import EPOCHS, MILESTONES


def superseded(trials: pd.DataFrame) -> pd.Series:
    """Whether a trial's recipe has made way for one with more epochs (True or False per row).

    That is: trials equal but for epochs, milestones and seed have finished with more epochs, with
    every seed that this recipe has. While an extension runs, both its recipes count.
    """
    if trials.empty or PARAMS + EPOCHS not in trials:
        return pd.Series(False, index=trials.index, dtype=bool)
    length = {PARAMS + EPOCHS, PARAMS + MILESTONES, f"{PARAMS}seed"}
    same = joined(trials, [name for name in columns_of(trials, PARAMS) if name not in length])
    epochs = pd.to_numeric(trials[PARAMS + EPOCHS], errors="coerce")
    if not (epochs.groupby(same).nunique() > 1).any():
        return pd.Series(False, index=trials.index, dtype=bool)
    rows = pd.DataFrame(
        {"same": same, "epochs": epochs, "seed": trials["seed"], "status": trials["status"]}
    )
    shorter = pd.Series(False, index=trials.index, dtype=bool)
    for _, related in rows.groupby("same", sort=False):
        lengths = sorted(related["epochs"].dropna().unique())
        for at, short in enumerate(lengths[:-1]):
            own = related[related["epochs"] == short]
            longer = related[related["epochs"].isin(lengths[at + 1 :])]
            done = longer[longer["status"] == "FINISHED"].groupby("epochs")["seed"].agg(set)
            if any(set(own["seed"]) <= seeds for seeds in done):
                shorter[own.index] = True
    return shorter


def newest(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that no longer training supersedes."""
    return trials[~superseded(trials)]


def superseded_note(trials: pd.DataFrame) -> list[str]:
    """What a reader is told where `newest` leaves trials out."""
    count = int(superseded(trials).sum())
    if not count:
        return []
    trials_of = "trial of a shorter recipe" if count == 1 else "trials of shorter recipes"
    return [f"{count} {trials_of} left out: longer ones of the same trials have finished"]
