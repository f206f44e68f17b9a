"""Where trials' timelines are read from: the complete files, or the windows in the store."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dashboards.analysis.windows import QUANTITIES, step_points, window_points
from dashboards.store.runs import RunFrames
from switokd import names
from switokd.tracking.address import is_server
from switokd.tracking.store import MissingArtifactError

WINDOWS = 2000


def link_points(store: RunFrames, trials: pd.DataFrame, links: Sequence[str]) -> pd.DataFrame:
    """At most 2,000 points of every link of the trials (see `analysis.windows`).

    A finished trial's file is read in a fraction of the time that the store needs for as many
    points; from a server it is the store's windows that are smaller, and come for all at once.
    """
    parts, others = [], []
    for _, trial in trials.iterrows():
        run_id = str(trial["run_id"])
        if trial["status"] == "FINISHED" and not is_server(store.uri):
            try:
                complete = store.timeline(run_id)
            except MissingArtifactError:
                pass
            else:
                last = int(complete["step"].max())
                parts += [step_points(complete, run_id, link, 1, last, WINDOWS) for link in links]
                continue
        others.append(run_id)
    if others or not parts:
        keys = [names.metric(quantity, link) for link in links for quantity in QUANTITIES]
        parts.append(window_points(store.histories(others, keys)))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
